//! The Ingress and Gateway proxy: an accepted connection in, requests to backends out.
//!
//! A [`Proxy`] is shared by all threads: the routes in force, the configuration, the counters. A [`Worker`] is one thread's own
//! part: its backend connections, its clock, its client connections; nothing in it is locked. [`serve_connection`] takes a
//! connection after its TLS handshake and PROXY protocol header, and returns when the connection is over.

mod answer;
mod attempts;
mod backend;
mod choice;
mod chunks;
mod clock;
mod config;
mod connection;
mod counters;
mod fields;
mod forward;
mod guard;
mod inspector;
mod log;
mod mirror;
mod prefixed;
mod proxy;
pub mod proxy_protocol;
mod requests;
mod rewrite;
mod server;
mod target;
pub mod tls;
mod tunnel;
mod upload;
mod watch;
mod worker;

pub use config::{AccessLog, Config, Limits, Times};
pub use connection::{ConnectionInfo, TlsInfo, serve_connection};
pub use counters::{Counters, Counts};
pub use proxy::Proxy;
pub use server::{HttpServer, ServerConfig, ServerProblem, StartError, Stopping};
pub use worker::Worker;
