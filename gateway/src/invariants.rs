//! What holds for any input, as functions that property tests and fuzz targets share. A violation is a panic.

pub use crate::dns::forward::invariants::upstream_answer as dns_upstream_answer;
pub use crate::dns::invariants::query as dns_query;

use crate::http::proxy_protocol::{self, Parsed};

/// A PROXY protocol header is found wherever its bytes are cut, and what follows it changes nothing.
pub fn proxy_protocol(bytes: &[u8]) {
    let whole = proxy_protocol::parse(bytes);
    if let Ok(Parsed::Header { len, .. }) = whole {
        assert!(len <= bytes.len(), "a header of {len} bytes in {}", bytes.len());
        assert_eq!(proxy_protocol::parse(&bytes[..len]), whole, "without what follows");
        assert_eq!(proxy_protocol::parse(&bytes[..len - 1]), Ok(Parsed::Incomplete), "without its last byte");
    }
    if whole == Ok(Parsed::Incomplete) {
        for end in 0..bytes.len() {
            assert_eq!(proxy_protocol::parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end} bytes of it");
        }
    }
}
