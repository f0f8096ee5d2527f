//! The Ingress and Gateway proxy: an accepted connection in, requests to backends out.
//!
//! A [`Proxy`] is shared by all threads: the routes in force, the configuration, the counters. A [`Worker`] is one thread's own
//! part: its backend connections, its clock, its client connections; nothing in it is locked. [`serve_connection`] takes a
//! connection after its TLS handshake and PROXY protocol header, and returns when the connection is over.

mod config;
mod connection;
mod counters;
mod proxy;
pub mod proxy_protocol;
mod server;
pub mod tls;
mod worker;

pub use config::{AccessLog, Config, Limits, Times};
pub use connection::{ConnectionInfo, TlsInfo, serve_connection};
pub use counters::{Counters, Counts};
pub use proxy::Proxy;
pub use server::{HttpServer, ServerConfig, ServerProblem, StartError, Stopping};
pub use worker::Worker;
