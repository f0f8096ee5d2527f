//! The promises of [`wire::invariants`] over arbitrary bytes, well-formed frames and damaged ones.

use crate::frames::{damaged_frames, ends, frames, with_prefix};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::{Packet, build, checksum, invariants};

/// Bytes of a flow in front of a frame.
const FLOW: usize = 36;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_view_panics_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..200)) {
        invariants::packet_check(&bytes);
        invariants::arp_nd(&bytes);
        invariants::answers(&bytes);
        invariants::rewrite_reverse(&bytes);
        invariants::icmp_quote(&bytes);
        invariants::fragments(&bytes);
    }

    #[test]
    fn a_checked_view_holds_together(bytes in prop_oneof![frames(), damaged_frames()]) {
        invariants::packet_check(&bytes);
    }

    #[test]
    fn arp_and_nd_read_anything_and_answer_well(bytes in damaged_frames()) {
        invariants::arp_nd(&bytes);
    }

    #[test]
    fn rewriting_and_back_is_the_identity(input in with_prefix(FLOW, prop_oneof![frames(), damaged_frames()])) {
        invariants::rewrite_reverse(&input);
    }

    #[test]
    fn a_quote_is_rewritten_with_its_checksums(input in with_prefix(FLOW, prop_oneof![frames(), damaged_frames()])) {
        invariants::icmp_quote(&input);
    }

    #[test]
    fn answers_are_well_formed(bytes in prop_oneof![frames(), damaged_frames()]) {
        invariants::answers(&bytes);
    }

    #[test]
    fn fragments_tile_the_packet(mtu in 28u16..1_500, flags in 0u16..0x4000, payload in vec(any::<u8>(), 0..3_000)) {
        let ends = build::Ends::new("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let mut frame = build::udp(&ends, &payload);
        frame[20..22].copy_from_slice(&(flags & 0x20ff).to_be_bytes());
        frame[24..26].fill(0);
        let field = !checksum::sum(&frame[14..34]);
        frame[24..26].copy_from_slice(&field.to_be_bytes());
        let mut input = mtu.to_be_bytes().to_vec();
        input.extend_from_slice(&frame);
        invariants::fragments(&input);
    }

    #[test]
    fn frames_made_here_are_well_formed(ends in ends(), payload in vec(any::<u8>(), 0..100)) {
        let frame = build::udp(&ends, &payload);
        let packet = Packet::check(&frame).unwrap();
        prop_assert!(checksum::verify_l4(&frame, &packet));
        prop_assert_eq!((packet.src, packet.dst), (ends.src.ip(), ends.dst.ip()));
        prop_assert_eq!(&frame[usize::from(packet.payload_offset)..], &payload[..]);
    }
}
