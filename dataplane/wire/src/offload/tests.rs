use super::*;
use crate::superframes::{Recipe, recipes, verified};
use proptest::prelude::*;

fn header(flags: u8, gso_type: u8, size: u16, start: u16, offset: u16) -> [u8; VIRTIO_HEADER_BYTES] {
    let mut out = [flags, gso_type, 0, 0, 0, 0, 0, 0, 0, 0];
    out[4..6].copy_from_slice(&size.to_ne_bytes());
    out[6..8].copy_from_slice(&start.to_ne_bytes());
    out[8..10].copy_from_slice(&offset.to_ne_bytes());
    out
}

fn read(header: [u8; VIRTIO_HEADER_BYTES], recipe: &Recipe) -> Result<Offload, Malformed> {
    Offload::from_virtio(&header, &recipe.frame())
}

#[test]
fn a_header_of_zeros_is_a_complete_checksum_and_data_valid_a_verified_one() {
    let recipe = Recipe::default();
    assert_eq!(read([0; 10], &recipe), Ok(Offload::NONE));
    let verified = Offload { checksum: Checksum::Verified, segmentation: None };
    assert_eq!(read(header(FLAG_DATA_VALID, 0, 0, 0, 0), &recipe), Ok(verified));
}

#[test]
fn every_negotiated_kind_is_read() {
    let tcp6 = Recipe { ipv6: true, ..Recipe::default() };
    let udp = Recipe { tcp: false, ..Recipe::default() };
    let kind = |offload: Result<Offload, Malformed>| offload.unwrap().segmentation.unwrap();
    let tcp = kind(read(header(1, GSO_TCPV4, 1_400, 34, 16), &Recipe::default()));
    assert_eq!(tcp, Segmentation { kind: SegmentationKind::Tcp, size_bytes: 1_400, ecn: false });
    assert!(kind(read(header(1, GSO_TCPV6 | GSO_ECN, 1_400, 54, 16), &tcp6)).ecn);
    assert_eq!(kind(read(header(1, GSO_UDP_L4, 64, 34, 6), &udp)).kind, SegmentationKind::Udp);
    assert_eq!(read(header(1, 0, 0, 34, 6), &udp).unwrap().checksum, Checksum::Partial);
}

#[test]
fn a_header_that_contradicts_the_packet_is_refused() {
    let tcp = Recipe::default();
    for wrong in [
        header(0, GSO_TCPV4, 1_400, 34, 16),
        header(1, GSO_TCPV4, 0, 34, 16),
        header(1, GSO_TCPV6, 1_400, 34, 16),
        header(1, GSO_UDP_L4, 1_400, 34, 16),
        header(1, GSO_TCPV4, 1_400, 33, 16),
        header(1, GSO_TCPV4, 1_400, 34, 6),
        header(1, GSO_ECN, 1_400, 34, 16),
        header(1, 3, 1_400, 34, 16),
        header(1, 0, 0, 14, 10),
    ] {
        assert_eq!(read(wrong, &tcp), Err(Malformed::BadOffload), "{wrong:?}");
    }
    let mut fragment = tcp.frame();
    fragment[20] |= 0x20;
    assert_eq!(Offload::from_virtio(&header(1, 0, 0, 34, 16), &fragment), Err(Malformed::BadOffload));
}

#[test]
fn a_full_checksum_is_written_as_nothing() {
    let frame = Recipe::default().frame();
    for checksum in [Checksum::Complete, Checksum::Verified] {
        let mut out = [0xff; VIRTIO_HEADER_BYTES];
        Offload { checksum, segmentation: None }.write_virtio(&frame, &mut out).unwrap();
        assert_eq!(out, [0; VIRTIO_HEADER_BYTES]);
    }
}

#[test]
fn a_partial_checksum_of_something_without_one_cannot_be_written() {
    let arp = [0u8; 60];
    let partial = Offload { checksum: Checksum::Partial, segmentation: None };
    assert_eq!(partial.write_virtio(&arp, &mut [0; 10]), Err(Malformed::BadOffload));
    let mut frame = Frame::from_bytes(&arp);
    frame.offload = partial;
    assert!(complete_checksum(&mut frame).is_err());
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff() {
    let recipe = Recipe { tcp: false, payload: vec![0, 0], ..Recipe::default() };
    let sum = u16::from_be_bytes(recipe.frame()[40..42].try_into().unwrap());
    let zero = Recipe { payload: sum.to_be_bytes().to_vec(), ..recipe };
    let mut frame = Frame::from_bytes(&zero.super_frame(1).0);
    frame.offload.checksum = Checksum::Partial;
    complete_checksum(&mut frame).unwrap();
    assert_eq!(frame.bytes()[40..42], [0xff, 0xff]);
}

proptest! {
    #[test]
    fn writing_and_reading_a_header_gives_the_same_offload(recipe in recipes(), size in 1u16..2_000) {
        let (frame, offload) = recipe.super_frame(size);
        let partial = Offload { segmentation: None, ..offload };
        for offload in [offload, partial] {
            let mut out = [0; VIRTIO_HEADER_BYTES];
            offload.write_virtio(&frame, &mut out).unwrap();
            prop_assert_eq!(Offload::from_virtio(&out, &frame), Ok(offload));
        }
    }

    #[test]
    fn a_completed_checksum_is_the_one_that_etherparse_computes(recipe in recipes()) {
        let mut frame = Frame::from_bytes(&recipe.super_frame(1).0);
        frame.offload.checksum = Checksum::Partial;
        complete_checksum(&mut frame).unwrap();
        prop_assert_eq!(frame.offload.checksum, Checksum::Verified);
        verified(frame.bytes());
        prop_assert_eq!(frame.bytes(), recipe.frame());
    }

    #[test]
    fn arbitrary_bytes_never_panic(header: [u8; 10], frame in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(offload) = Offload::from_virtio(&header, &frame) {
            offload.write_virtio(&frame, &mut [0; 10]).unwrap();
            crate::SegmentPlan::new(&frame, &offload);
            let mut frame = Frame::from_bytes(&frame);
            frame.offload = offload;
            let _ = complete_checksum(&mut frame);
        }
    }
}
