//! The Ingress and Gateway proxy.
