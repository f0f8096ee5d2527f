//! What is counted. One set for each worker; reading sums them.

use crate::metrics::Count;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// Counters of one worker. Only its thread writes them; any may read them.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: Counter,)*
        }

        /// Counters as they were read.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Counters {
            /// Adds them to `counts`.
            pub fn add_to(&self, counts: &mut Counts) {
                $(counts.$name += self.$name.get();)*
            }
        }

        impl Counts {
            /// Each with its name and what it says, in order.
            pub fn list(&self) -> Vec<Count> {
                vec![$(Count { name: stringify!($name), help: $doc, value: self.$name },)*]
            }
        }
    };
}

counters! {
    /// Client connections that were served.
    connections,
    /// Requests whose head was read, or refused.
    requests,
    /// Answers with 1xx: connections that changed their protocol.
    answers_1xx,
    /// Answers with 2xx.
    answers_2xx,
    /// Answers with 3xx.
    answers_3xx,
    /// Answers with 4xx.
    answers_4xx,
    /// Answers with 5xx.
    answers_5xx,
    /// Requests that break a rule of HTTP and were answered with 400, whichever rule.
    refused_malformed,
    /// Requests over a limit of size: 413, 414, 431.
    refused_large,
    /// Requests that no rule takes: 404.
    no_route,
    /// Requests for a host of another TLS connection: 421.
    misdirected,
    /// Requests whose rule leads to no endpoint: 503, or 500 for an unresolved reference.
    no_endpoint,
    /// Requests that no tried endpoint could be connected for: 502.
    unreachable,
    /// Requests whose backend closed or answered with what is not HTTP: 502.
    bad_answers,
    /// Requests that ran into a limit of time: 504.
    timeouts,
    /// Attempts at a further endpoint or connection after a failed one.
    retries,
    /// Connections opened to backends.
    backend_connections,
    /// Connections to backends that failed to open.
    backend_connect_failures,
    /// Client connections closed because a request's head took too long.
    slow_heads,
    /// Lines of the access log that were dropped because standard output could not keep up.
    log_lines_dropped,
    /// Mirrored requests that were not sent, or not to their end.
    mirrors_dropped,
}

/// One number. Written by one thread, so that adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
