use super::*;
use crate::SegmentPlan;
use crate::superframes::{Recipe, recipes, verified};
use proptest::prelude::*;

const PREFIX: [u8; 8] = [8, 0, 0, 0, 0, 0, 1, 0];

/// The datagrams that a super-frame becomes, each with its encapsulation header.
fn datagrams(frame: &[u8], offload: &Offload) -> Vec<Vec<u8>> {
    let plan = SegmentPlan::new(frame, offload).expect("a super-frame");
    let datagram = |index| {
        let mut out = PREFIX.to_vec();
        out.resize(8 + plan.header_len(), 0);
        plan.write_header(index, &mut out[8..]);
        out.extend_from_slice(&frame[plan.payload(index)]);
        out
    };
    (0..plan.count()).map(datagram).collect()
}

fn wrap(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| [&PREFIX, frame.as_slice()].concat()).collect()
}

/// Receives datagrams (all as long as the first, the last may be shorter) and merges them.
fn receive(datagrams: &[Vec<u8>]) -> (Vec<Frame>, MergeReport) {
    let mut frame = Frame::from_bytes(&datagrams.concat());
    let mut rest = Vec::new();
    let report = merge_received(&mut frame, datagrams[0].len(), 8, || Frame::with_capacity(65_535), &mut rest);
    if !frame.is_empty() {
        rest.insert(0, frame);
    }
    (rest, report)
}

fn small(recipe: Recipe) -> Vec<u8> {
    Recipe { payload: vec![5; 100], ..recipe }.frame()
}

/// How many frames come out of the two.
fn merged_count(first: Recipe, second: Recipe) -> usize {
    receive(&wrap(&[small(first), small(second)])).0.len()
}

/// The default recipe, and the one that continues it.
fn pair() -> (Recipe, Recipe) {
    let first = Recipe { payload: vec![5; 100], ..Recipe::default() };
    let second = Recipe { seq: first.seq + 100, id: first.id + 1, ..first.clone() };
    (first, second)
}

#[test]
fn one_datagram_passes_verified_and_unchanged() {
    let sent = wrap(&[Recipe::default().frame()]);
    let (frames, report) = receive(&sent);
    assert_eq!(frames[0].bytes(), sent[0]);
    assert_eq!(frames[0].offload, Offload { checksum: Checksum::Verified, segmentation: None });
    assert_eq!(report, MergeReport { datagrams: 1, frames: 1, bad_checksum: 0 });
}

#[test]
fn consecutive_segments_become_one_frame() {
    let (first, second) = pair();
    assert_eq!(merged_count(first.clone(), second.clone()), 1);
    let constant_id = Recipe { id: first.id, ..second };
    assert_eq!(merged_count(first, constant_id), 1);
}

#[test]
fn what_does_not_continue_a_run_stays_apart() {
    let (first, second) = pair();
    for (what, other) in [
        ("sequence", Recipe { seq: 5, ..second.clone() }),
        ("identification", Recipe { id: 100, ..second.clone() }),
        ("ports", Recipe { ports: (1, 2), ..second.clone() }),
        ("SYN", Recipe { flags: 0x12, ..second.clone() }),
        ("RST", Recipe { flags: 0x14, ..second.clone() }),
        ("URG", Recipe { flags: 0x30, ..second.clone() }),
        ("CWR", Recipe { flags: 0x90, ..second.clone() }),
        ("ECE", Recipe { flags: 0x50, ..second.clone() }),
    ] {
        assert_eq!(merged_count(first.clone(), other), 2, "{what}");
    }
    assert_eq!(merged_count(Recipe { flags: 0x18, ..first.clone() }, second.clone()), 2, "PSH on the first");
    assert_eq!(merged_count(Recipe { flags: 0x11, ..first }, second), 2, "FIN on the first");
}

#[test]
fn other_timestamps_ttl_or_encapsulation_stay_apart() {
    let (first, second) = pair();
    let frames = [small(first), small(second)];
    for (what, at) in [("timestamp", 8 + 14 + 20 + 20 + 4), ("vni", 6), ("window", 8 + 34 + 15), ("source MAC", 8 + 6)]
    {
        let mut sent = wrap(&frames);
        sent[1][at] ^= 1;
        // Keep the checksum right where the bit counts for it.
        if at >= 8 + 34 {
            let mut frame = Frame::from_bytes(&sent[1][8..]);
            frame.offload.checksum = Checksum::Partial;
            crate::complete_checksum(&mut frame).unwrap();
            sent[1] = [&sent[1][..8], frame.bytes()].concat();
        }
        let (received, report) = receive(&sent);
        assert_eq!((received.len(), report.bad_checksum), (2, 0), "{what}");
        assert_eq!(received[1].bytes(), sent[1], "{what}");
    }
}

#[test]
fn two_interleaved_flows_keep_their_order() {
    let (a, a2) = pair();
    let b = Recipe { ports: (9, 9), ..a.clone() };
    let (frames, report) = receive(&wrap(&[small(a), small(b), small(a2)]));
    assert_eq!((frames.len(), report.datagrams), (3, 3));
}

#[test]
fn a_corrupt_datagram_is_left_out_and_the_others_survive() {
    let (frame, offload) = Recipe::default().super_frame(1_000);
    for corrupt in 0..3 {
        let mut sent = datagrams(&frame, &offload);
        sent[corrupt][700] ^= 0x10;
        let (frames, report) = receive(&sent);
        assert_eq!(report.bad_checksum, 1);
        let payload: usize = frames.iter().map(|f| f.len() - 8 - 66).sum();
        assert_eq!(payload, 2_000, "corrupt datagram {corrupt}");
    }
}

/// A super-frame as a kernel's tunnel device leaves it to a veth: whole, its checksum unfinished.
fn whole() -> (Vec<u8>, Offload) {
    let (frame, offload) = Recipe { payload: vec![7; 9_000], ..pair().0 }.super_frame(1_398);
    assert_eq!(offload.checksum, Checksum::Partial);
    (frame, offload)
}

#[test]
fn an_unfinished_checksum_passes_as_unfinished() {
    let (received, report) = receive(&wrap(&[whole().0]));
    assert_eq!((received.len(), report.bad_checksum), (1, 0));
    assert_eq!(received[0].offload, Offload { checksum: Checksum::Partial, segmentation: None });
}

#[test]
fn a_frame_that_crossed_whole_is_a_super_frame_again() {
    let (frame, offload) = whole();
    let mut received = receive(&wrap(&[frame])).0.remove(0);
    adopt_super_frame(&mut received, PREFIX.len(), 1_450);
    assert_eq!(received.offload.segmentation.map(|s| s.kind), offload.segmentation.map(|s| s.kind));
    for datagram in datagrams(&received.bytes()[PREFIX.len()..], &received.offload) {
        assert!(datagram.len() <= PREFIX.len() + 14 + 1_450);
        verified(&datagram[PREFIX.len()..]);
    }
}

#[test]
fn a_frame_that_fits_is_no_super_frame() {
    let mut received = receive(&wrap(&[whole().0])).0.remove(0);
    adopt_super_frame(&mut received, PREFIX.len(), 9_500);
    assert_eq!(received.offload.segmentation, None);
}

#[test]
fn udp_without_a_checksum_passes_alone() {
    let mut frame = Recipe { tcp: false, payload: vec![5; 100], ..Recipe::default() }.frame();
    frame[40..42].fill(0);
    let (frames, report) = receive(&wrap(&[frame.clone(), frame]));
    assert_eq!((frames.len(), report.bad_checksum), (2, 0));
    assert!(frames.iter().all(|f| f.offload == Offload::NONE));
}

#[test]
fn udp_over_ipv6_without_a_checksum_is_corrupt() {
    let mut frame = Recipe { tcp: false, ipv6: true, ..Recipe::default() }.frame();
    frame[60..62].fill(0);
    assert_eq!(receive(&wrap(&[frame])).1.bad_checksum, 1);
}

#[test]
fn a_merged_packet_does_not_pass_65535_bytes() {
    let (first, _) = pair();
    let frame = |i: u32| {
        let payload = vec![5; 1_400];
        Recipe { seq: first.seq + i * 1_400, id: first.id + i as u16, payload, ..first.clone() }.frame()
    };
    let (frames, report) = receive(&wrap(&(0..60).map(frame).collect::<Vec<_>>()));
    assert_eq!((frames.len(), report.datagrams), (2, 60));
    assert!(frames[0].len() - 8 - 14 <= MERGED_MAX_BYTES);
}

#[test]
fn a_datagram_shorter_than_its_encapsulation_passes_for_the_switch_to_name() {
    let (frames, report) = receive(&[vec![1, 2, 3]]);
    assert_eq!((frames[0].bytes(), report.frames), (&[1u8, 2, 3][..], 1));
}

proptest! {
    #[test]
    fn segmenting_and_merging_is_the_identity(recipe in recipes(), size in 1u16..1_500) {
        // From two segments up.
        let size = size.max(recipe.payload.len() as u16 / 40).min(recipe.payload.len() as u16 - 1);
        let (frame, offload) = recipe.super_frame(size);
        let sent = datagrams(&frame, &offload);
        let (received, report) = receive(&sent);
        prop_assert_eq!(received.len(), 1, "{:?}", report);
        prop_assert_eq!(&received[0].bytes()[8..], &frame[..]);
        prop_assert_eq!(received[0].offload, offload);
        prop_assert_eq!(report, MergeReport { datagrams: sent.len() as u32, frames: 1, bad_checksum: 0 });
    }

    #[test]
    fn cutting_what_was_merged_gives_what_was_received(recipe in recipes(), size in 100u16..1_500) {
        let (frame, offload) = recipe.super_frame(size);
        let sent = datagrams(&frame, &offload);
        let mut again = Vec::new();
        for frame in receive(&sent).0 {
            match frame.offload.segmentation {
                Some(_) => again.extend(datagrams(&frame.bytes()[8..], &frame.offload)),
                None => again.push(frame.bytes().to_vec()),
            }
        }
        prop_assert_eq!(again, sent);
    }

    #[test]
    fn a_flipped_bit_is_never_merged_nor_marked_good(
        recipe in recipes(), size in 100u16..1_500, which: prop::sample::Index, bit: prop::sample::Index,
    ) {
        let (frame, offload) = recipe.super_frame(size);
        let mut sent = datagrams(&frame, &offload);
        let which = which.index(sent.len());
        // Behind the Ethernet addresses, which no checksum protects.
        let first_bit = (8 + 12) * 8;
        let bit = first_bit + bit.index(sent[which].len() * 8 - first_bit);
        sent[which][bit / 8] ^= 1 << (bit % 8);
        let corrupt = sent[which].clone();
        let (received, _) = receive(&sent);
        for frame in received {
            let good = frame.offload.checksum != Checksum::Complete;
            let expected = if frame.offload.segmentation.is_some() {
                datagrams(&frame.bytes()[8..], &frame.offload)
            } else {
                vec![frame.bytes().to_vec()]
            };
            for datagram in expected {
                // IPv6 has no header checksum: a flip in a field outside the pseudo-header is invisible to any receiver.
                // A field that holds the pseudo-header's sum says that nobody has computed it yet.
                let unprotected = (recipe.ipv6 && bit / 8 < 8 + 14 + 8) || frame.offload.checksum == Checksum::Partial && frame.offload.segmentation.is_none();
                prop_assert!(!good || datagram != corrupt || unprotected, "bit {} was marked good", bit);
                if good && !unprotected {
                    verified(&datagram[8..]);
                }
            }
        }
    }

    #[test]
    fn arbitrary_buffers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), stride in 0usize..200, prefix in 0usize..20) {
        let mut frame = Frame::from_bytes(&bytes);
        merge_received(&mut frame, stride, prefix, || Frame::with_capacity(400), &mut Vec::new());
    }

    #[test]
    fn damaged_buffers_never_panic_and_balance(
        recipe in recipes(), size in 20u16..1_500, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        stride_change in -3isize..3,
    ) {
        let (frame, offload) = recipe.super_frame(size);
        let sent = datagrams(&frame, &offload);
        let stride = sent[0].len().saturating_add_signed(stride_change);
        let mut bytes = sent.concat();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut received = Frame::from_bytes(&bytes);
        let mut rest = Vec::new();
        let report = merge_received(&mut received, stride, 8, || Frame::with_capacity(65_600), &mut rest);
        prop_assert_eq!(report.datagrams as usize, bytes.len().div_ceil(stride));
        prop_assert_eq!(report.frames as usize, rest.len() + usize::from(!received.is_empty()));
    }
}
