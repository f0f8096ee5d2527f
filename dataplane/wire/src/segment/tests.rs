use super::*;
use crate::superframes::{Recipe, recipes, verified};
use etherparse::{NetHeaders, TransportHeader};
use proptest::prelude::*;

fn cut(frame: &[u8], offload: &Offload) -> Vec<Vec<u8>> {
    let plan = SegmentPlan::new(frame, offload).expect("a super-frame");
    let segment = |index| {
        let mut out = vec![0; plan.header_len()];
        plan.write_header(index, &mut out);
        out.extend_from_slice(&frame[plan.payload(index)]);
        assert_eq!(out.len(), plan.segment_len(index));
        out
    };
    (0..plan.count()).map(segment).collect()
}

#[test]
fn an_ordinary_frame_has_no_plan() {
    let frame = Recipe::default().frame();
    assert!(SegmentPlan::new(&frame, &Offload::NONE).is_none());
}

#[test]
fn the_last_segment_holds_what_is_left() {
    let (frame, offload) = Recipe { payload: vec![1; 2_801], ..Recipe::default() }.super_frame(1_400);
    let lengths: Vec<usize> = cut(&frame, &offload).iter().map(|s| s.len() - 66).collect();
    assert_eq!(lengths, [1_400, 1_400, 1]);
}

#[test]
fn fin_and_psh_are_on_the_last_segment_and_cwr_on_the_first() {
    let (frame, offload) = Recipe { flags: 0xd9, ..Recipe::default() }.super_frame(1_000);
    let flags: Vec<u8> = cut(&frame, &offload).iter().map(|s| s[34 + TCP_FLAGS]).collect();
    assert_eq!(flags, [0xd0, 0x50, 0x59]);
}

#[test]
fn padding_behind_the_packet_is_not_payload() {
    let (mut frame, offload) = Recipe { payload: vec![9; 10], ..Recipe::default() }.super_frame(8);
    frame.extend_from_slice(&[0xee; 20]);
    assert_eq!(cut(&frame, &offload).iter().map(Vec::len).sum::<usize>(), 2 * 66 + 10);
}

proptest! {
    #[test]
    fn segments_are_what_etherparse_takes_for_well_formed_and_hold_the_payload(recipe in recipes(), size in 1u16..1_500) {
        let (frame, offload) = recipe.super_frame(size.max(recipe.payload.len() as u16 / 40));
        let segments = cut(&frame, &offload);
        let mut payload = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let packet = verified(segment);
            if let Some(TransportHeader::Tcp(tcp)) = &packet.transport {
                prop_assert_eq!(tcp.sequence_number, recipe.seq.wrapping_add(payload.len() as u32));
            }
            if let Some(NetHeaders::Ipv4(ip, _)) = &packet.net {
                prop_assert_eq!(ip.identification, recipe.id.wrapping_add(index as u16));
            }
            payload.extend_from_slice(packet.payload.slice());
        }
        prop_assert_eq!(payload, recipe.payload);
    }
}
