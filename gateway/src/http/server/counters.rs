//! What is counted of connections before they are HTTP. The engine's own counters are beside these.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of the door, for all workers. They count connections, which cost far more than a shared counter.
        #[derive(Debug, Default)]
        pub(super) struct DoorCounters {
            $($(#[$doc])* pub(super) $name: DoorCounter,)*
        }

        impl DoorCounters {
            /// Name and value of each, in order.
            pub(super) fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.0.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Connections that were accepted.
    accepted,
    /// Closed: there were as many as may be.
    over_total,
    /// Closed: its client had as many as one may have.
    over_client,
    /// Closed: from a trusted proxy, and without a PROXY protocol header or with a malformed one.
    proxy_protocol_refused,
    /// Ended before its PROXY protocol header was complete.
    gone_early,
    /// Closed: PROXY protocol header and TLS handshake took too long.
    handshake_timeouts,
    /// TLS handshakes that failed.
    handshake_failures,
    /// TLS handshakes refused with unrecognized_name.
    no_certificate,
    /// Connections that were gone before they could be accepted.
    accept_failures,
    /// Rests because descriptors or memory had run out.
    accept_pauses,
}

/// One number.
#[derive(Debug, Default)]
pub(super) struct DoorCounter(AtomicU64);

impl DoorCounter {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
