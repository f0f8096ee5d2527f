//! Fragments by example; [`crate::invariants::fragments`] holds the laws.

use super::*;
use crate::build::{self, Ends};
use crate::{Fragment, Protocol};

/// An IPv4 packet that may be cut, with `options` in its header.
fn frame(options: &[u8], payload_len: usize) -> Vec<u8> {
    let ends = Ends::new("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    let mut frame = build::raw_ip(&ends, Protocol(200), &vec![7; payload_len]);
    frame.splice(34..34, options.iter().copied());
    let total_len = (frame.len() - 14) as u16;
    let ip = &mut frame[14..34 + options.len()];
    ip[0] = 0x45 + (options.len() / 4) as u8;
    ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    ip[6..8].fill(0);
    ip[10..12].fill(0);
    let field = !checksum::sum(ip);
    ip[10..12].copy_from_slice(&field.to_be_bytes());
    frame
}

fn plan(frame: &[u8], mtu: usize) -> Option<FragmentPlan> {
    FragmentPlan::new(frame, &Packet::check(frame).expect("the test made a packet"), mtu)
}

/// Fragment `index` as a frame of its own.
fn piece(plan: &FragmentPlan, frame: &[u8], index: usize) -> Vec<u8> {
    let mut piece = vec![0; plan.header_len(index)];
    plan.write_header(index, &mut piece);
    piece.extend_from_slice(&frame[plan.payload(index)]);
    piece
}

#[test]
fn a_packet_is_cut_at_multiples_of_eight() {
    let whole = frame(&[], 3_000);
    let plan = plan(&whole, 1_500).unwrap();
    let lengths: Vec<usize> = (0..plan.count()).map(|index| plan.payload(index).len()).collect();
    assert_eq!(lengths, [1_480, 1_480, 40]);
    let checked: Vec<Packet> =
        (0..plan.count()).map(|index| Packet::check(&piece(&plan, &whole, index)).unwrap()).collect();
    assert!(matches!(checked[0].fragment, Fragment::First { .. }));
    assert!(matches!(checked[1].fragment, Fragment::Later { offset_bytes: 1_480, last: false, .. }));
    assert!(matches!(checked[2].fragment, Fragment::Later { offset_bytes: 2_960, last: true, .. }));
}

#[test]
fn a_fragment_can_be_cut_again() {
    let whole = frame(&[], 3_000);
    let outer = plan(&whole, 1_500).unwrap();
    let middle = piece(&outer, &whole, 1);
    let inner = plan(&middle, 800).unwrap();
    let last = Packet::check(&piece(&inner, &middle, 1)).unwrap();
    assert!(matches!(last.fragment, Fragment::Later { offset_bytes: 2_256, last: false, .. }), "{last:?}");
}

#[test]
fn only_options_with_the_copy_flag_are_repeated() {
    // Record route (not copied), no-op, router alert (copied).
    let whole = frame(&[7, 7, 4, 0, 0, 0, 0, 1, 148, 4, 0, 0], 2_000);
    let plan = plan(&whole, 1_500).unwrap();
    assert_eq!((plan.header_len(0), plan.header_len(1)), (14 + 32, 14 + 24));
    let later = piece(&plan, &whole, 1);
    assert_eq!(later[34..38], [148, 4, 0, 0]);
    assert!(Packet::check(&later).is_ok());
}

#[test]
fn what_must_not_be_cut_has_no_plan() {
    let ends = Ends::new("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
    assert!(plan(&build::udp(&ends, &[0; 2_000]), 1_500).is_none(), "DF");
    let ends = Ends::new("[fd00::1]:1".parse().unwrap(), "[fd00::2]:2".parse().unwrap());
    assert!(plan(&build::udp(&ends, &[0; 2_000]), 1_500).is_none(), "IPv6");
    assert!(plan(&frame(&[], 1_000), 1_500).is_none(), "fits");
    assert!(plan(&frame(&[], 1_000), 27).is_none(), "no room for payload");
}
