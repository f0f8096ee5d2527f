//! What an operator may set.

use ipnet::IpNet;
use std::time::Duration;

/// Header fields that hyper parses without leaving its stack buffer.
pub(super) const FIELDS_MAX: usize = 100;

/// Configuration of a proxy.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Peers whose X-Forwarded-* fields are believed and extended; from others these fields are dropped.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether and how requests are logged.
    pub access_log: AccessLog,
    /// Limits of size and number.
    pub limits: Limits,
    /// Limits of time.
    pub times: Times,
}

/// How requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Not at all.
    #[default]
    Off,
    /// A JSON object for each request, one a line, on standard output.
    Json,
}

/// Limits of size and number for one connection or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head; more is refused with 431.
    pub head_bytes_max: usize,
    /// Header fields of a request; more is refused with 431.
    pub fields_max: usize,
    /// Bytes of a request's target; more is refused with 414.
    pub target_bytes_max: usize,
    /// Bytes of a request's body; more is refused with 413. `None`: any number.
    pub body_bytes_max: Option<u64>,
    /// Requests that one HTTP/2 connection may have open at once.
    pub streams_max: u32,
    /// Backends that one request may be offered to, when those before could not be reached.
    pub attempts_max: u32,
    /// Unused connections that a worker keeps open to one backend address.
    pub idle_per_backend_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // What nginx takes by default (4 buffers of 8 KiB), and room for a cookie or two in most browsers.
            head_bytes_max: 32 * 1024,
            fields_max: FIELDS_MAX,
            // RFC 9110 4.1 asks for at least 8,000.
            target_bytes_max: 8 * 1024,
            body_bytes_max: None,
            // RFC 9113 6.5.2 advises no fewer than 100; nginx has 128, Envoy's edge advice is 100.
            streams_max: 128,
            attempts_max: 3,
            // Requests come in waves, and a worker that has more in flight than this opens and closes the rest with each of
            // them: 160 at once cost an eighth of all requests a connection when this was 128. HAProxy and Envoy have no limit.
            idle_per_backend_max: 1024,
        }
    }
}

/// Limits of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From a request's first byte to the end of its head; longer is closed (slow senders hold a connection, no more).
    pub head: Duration,
    /// How long a client connection may stay open without a request.
    pub client_idle: Duration,
    /// For a connection to a backend, TLS included.
    pub connect: Duration,
    /// From the end of a request to the head of its answer; longer is answered with 504.
    pub answer_head: Duration,
    /// How long a connection to a backend is kept unused.
    pub backend_idle: Duration,
    /// How long an endpoint that could not be reached is passed over, while others can.
    pub skip_unreachable: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            head: Duration::from_secs(15),
            // nginx's and Go's habits lie between 60 and 180 seconds.
            client_idle: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            answer_head: Duration::from_secs(60),
            // Shorter than what common servers keep (Go, node: 5 s is node's default; the retry covers the race with it).
            backend_idle: Duration::from_secs(60),
            skip_unreachable: Duration::from_secs(5),
        }
    }
}
