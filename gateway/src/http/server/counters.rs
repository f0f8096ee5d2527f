//! What is counted of connections before they are HTTP. The engine's own counters are beside these.

use crate::metrics::Count;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[doc = $doc:literal] $name:ident,)*) => {
        /// Counters of the door, for all workers. They count connections, which cost far more than a shared counter.
        #[derive(Debug, Default)]
        pub(super) struct DoorCounters {
            $(#[doc = $doc] pub(super) $name: DoorCounter,)*
        }

        impl DoorCounters {
            /// Each with its name and what it says, in order.
            pub(super) fn list(&self) -> Vec<Count> {
                let read = |counter: &DoorCounter| counter.0.load(Ordering::Relaxed);
                vec![$(Count { name: stringify!($name), help: $doc, value: read(&self.$name) },)*]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Page, documented, named};

    #[test]
    fn g11_every_name_is_documented_and_every_documented_name_is_there() {
        let engine = crate::http::counters::Counts::default().list();
        let open = Count { name: "open_connections", help: "", value: 0 };
        let page = Page::default().with("podplane_ingress_", DoorCounters::default().list());
        let text = page.with("podplane_ingress_", engine).with_gauge("podplane_ingress_", open).text();
        assert_eq!(named(&text), documented("The Ingress proxy"));
    }
}
