//! HTTP routes: Kubernetes YAML in, what becomes of requests, what is told and what objects' status says out.

mod cost;
mod explain;
mod gateway_status;
mod harness;
mod http_filters;
mod http_matches;
mod ingress;
mod ingress_backends;
mod ingress_class;
mod ingress_tls;
mod listeners;
mod route_status;
