//! Congestion marks through the tunnel (RFC 6040, normal mode), and what happens to DSCP.
//!
//! The ECN field of the inner packet is copied to the outer header, and what the underlay did to it is combined with the inner
//! field where the tunnel ends, so that a congested underlay slows its senders down. DSCP follows the pipe model of
//! RFC 2983: the inner value is carried untouched and the outer one is 0, because the classes of pods mean nothing to the
//! underlay.

/// The two ECN bits of a traffic class byte.
pub const MASK: u8 = 0b11;
/// Not ECN-capable transport.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT_1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The traffic class of the outer header for an inner packet of traffic class `inner` (RFC 6040 §4.1).
pub const fn push(inner: u8) -> u8 {
    inner & MASK
}

/// The ECN field that the inner packet leaves the tunnel with (RFC 6040 §4.2, figure 4); `None` if it must be dropped, because
/// the underlay marked congestion on a packet whose transport would not notice.
pub const fn pop(inner: u8, outer: u8) -> Option<u8> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o09_the_outer_header_copies_ecn_and_not_dscp() {
        assert_eq!((push(0b1011_1010), push(0b1011_1000)), (ECT_0, NOT_ECT));
    }

    #[test]
    fn o09_leaving_the_tunnel_follows_figure_4_of_rfc_6040() {
        // Rows: inner; columns: outer Not-ECT, ECT(0), ECT(1), CE.
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(pop(inner, outer), expected, "inner {inner:02b}, outer {outer:02b}");
                assert_eq!(pop(inner | 0xb8, outer | 0x28), expected, "DSCP plays no part");
            }
        }
    }
}
