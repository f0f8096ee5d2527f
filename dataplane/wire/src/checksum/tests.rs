//! The sums against a slow literal one, the incremental update against the full computation.

use super::*;
use crate::build::{self, Ends};
use proptest::collection::vec;
use proptest::prelude::*;

/// RFC 1071 as it is written.
fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn ends(src: &str, dst: &str) -> Ends {
    Ends::new(src.parse().unwrap(), dst.parse().unwrap())
}

proptest! {
    #[test]
    fn a_sum_is_the_literal_one(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(sum(&bytes), slow_sum(&bytes));
        prop_assert_eq!(sum_short(&bytes), slow_sum(&bytes));
    }

    #[test]
    fn a_sum_may_be_taken_in_even_pieces(bytes in vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
        let at = at.index(bytes.len() + 1) & !1;
        prop_assert_eq!(combine(sum(&bytes[..at]), sum(&bytes[at..])), sum(&bytes));
    }

    #[test]
    fn an_incremental_update_equals_the_full_computation(
        mut words in vec(any::<u16>(), 2..40), at in any::<prop::sample::Index>(), new in any::<u16>()
    ) {
        let full = |words: &[u16]| !sum(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>());
        // A real header is never all zero, and that is the one sum that has no second form.
        words.push(0x4500);
        let before = full(&words);
        let at = at.index(words.len() - 1);
        let delta = Delta::NONE.word(words[at], new);
        words[at] = new;
        prop_assert_eq!(delta.apply(before), full(&words));
    }

    #[test]
    fn an_updated_crc_equals_the_full_computation(mut packet in vec(any::<u8>(), 16..200), ports in any::<[u8; 4]>()) {
        let before = sctp_crc(&packet);
        let old = *packet.first_chunk().unwrap();
        packet[..4].copy_from_slice(&ports);
        prop_assert_eq!(sctp_crc_update(before, old, ports, packet.len() - 4), sctp_crc(&packet));
    }
}

#[test]
fn a_sum_of_64_kib_of_ones_does_not_overflow() {
    assert_eq!(sum(&[0xff; 65_536]), 0xffff);
}

#[test]
fn the_crc_of_sctp_is_castagnolis() {
    // The check value of CRC-32C over "123456789" is e3069283; the field's four bytes count as zero.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    let mut packet = *b"12345678\xaa\xbb\xcc\xdd90";
    let crc = sctp_crc(&packet);
    packet[8..12].fill(0);
    assert_eq!(crc, crc32c::crc32c(&packet).to_le_bytes());
}

#[test]
fn a_zero_udp_checksum_means_none_in_ipv4_and_is_wrong_in_ipv6() {
    for (ends, expected) in [(ends("10.0.0.1:1", "10.0.0.2:2"), true), (ends("[fd00::1]:1", "[fd00::2]:2"), false)] {
        let mut frame = build::udp(&ends, b"payload");
        let packet = Packet::check(&frame).unwrap();
        let field = usize::from(packet.l4_offset) + UDP_FIELD;
        frame[field..field + 2].fill(0);
        assert_eq!(verify_l4(&frame, &packet), expected, "{packet:?}");
    }
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_written_as_ones() {
    let ends = ends("10.0.0.1:1", "10.0.0.2:2");
    let mut frame = build::udp(&ends, &[0, 0]);
    // The payload word that brings the sum to all ones is the checksum that an empty word got.
    let field = 14 + 20 + UDP_FIELD;
    let computed = [frame[field], frame[field + 1]];
    frame[42..44].copy_from_slice(&computed);
    let packet = Packet::check(&frame).unwrap();
    write_full(&mut frame, &packet);
    assert_eq!(frame[field..field + 2], [0xff, 0xff]);
    assert!(verify_l4(&frame, &packet));
}

#[test]
fn a_flipped_bit_is_noticed_in_every_protocol() {
    let ends = ends("10.0.0.1:1", "10.0.0.2:2");
    for mut frame in [
        build::udp(&ends, b"payload"),
        build::tcp(&ends, &build::Tcp::flags(crate::tcp::flag::ACK), b"payload"),
        build::sctp(&ends, 7, &[0, 3, 0, 8, 1, 2, 3, 4]),
        build::echo(&ends, build::Echo::Request, 1, 1, b"payload"),
    ] {
        let packet = Packet::check(&frame).unwrap();
        assert!(verify_l4(&frame, &packet), "{packet:?}");
        let last = frame.len() - 1;
        frame[last] ^= 0x10;
        assert!(!verify_l4(&frame, &packet), "{packet:?}");
    }
}
