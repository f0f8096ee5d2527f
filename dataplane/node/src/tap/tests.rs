//! TAPs of both kinds against the kernel's own TCP/IP, in private namespaces.

use super::*;
use crate::common::namespace::{self, sh};
use crate::sys::netns;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use wire::{FRAME_MAX_BYTES, MacAddr, Packet, Protocol, edit};

/// Bytes of one transfer: many super-frames, and some wrap-arounds of every buffer on the way.
const TRANSFER_BYTES: usize = 8 << 20;

/// Two namespaces that are joined by nothing but the TAPs under test.
fn two_namespaces() {
    sh("mount -t tmpfs tmpfs /run; mkdir /run/netns; ip netns add left; ip netns add right");
}

/// Opens `tap0` in namespace `name` with address `address`, up.
fn open_in(name: &str, address: &str, mode: TapMode) -> Tap {
    let path = Path::new("/run/netns").join(name);
    netns::within(&path, || {
        let tap = Tap::open("tap0", mode).expect("the TAP opens");
        sh(&format!("ip address add {address} dev tap0; ip link set tap0 up mtu 1400"));
        tap
    })
    .expect("the namespace can be entered")
}

/// Copies frames both ways until `stop`; what a device does not take is lost, as on a wire.
fn join(left: &Tap, right: &Tap, stop: &AtomicBool) {
    let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
    let mut scratch = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for (from, to) in [(left, right), (right, left)] {
            while let Received::Frame = from.receive(&mut frame) {
                idle = false;
                let _ = to.send(&mut frame, &mut scratch);
            }
        }
        if idle {
            thread::yield_now();
        }
    }
}

fn pattern() -> Vec<u8> {
    (0..TRANSFER_BYTES).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// One TCP transfer from the left to the right namespace, byte for byte.
fn transfer(left: TapMode, right: TapMode) {
    two_namespaces();
    let left = open_in("left", "10.9.0.1/24", left);
    let right = open_in("right", "10.9.0.2/24", right);
    let listener = netns::within(Path::new("/run/netns/right"), || TcpListener::bind("10.9.0.2:7000"));
    let listener = listener.expect("the namespace can be entered").expect("the port is free");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| join(&left, &right, &stop));
        let receiver = scope.spawn(|| {
            let mut bytes = Vec::new();
            listener.accept().expect("a connection comes").0.read_to_end(&mut bytes).expect("it is read");
            bytes
        });
        netns::within(Path::new("/run/netns/left"), || {
            let to: SocketAddr = "10.9.0.2:7000".parse().expect("an address");
            let mut stream = TcpStream::connect(to).expect("the connection opens");
            stream.write_all(&pattern()).expect("it is written");
        })
        .expect("the namespace can be entered");
        let received = receiver.join().expect("the receiver ends well");
        stop.store(true, Ordering::Relaxed);
        assert!(received == pattern(), "{} bytes arrived, or other bytes", received.len());
    });
}

#[test]
fn tcp_crosses_two_offload_taps() {
    namespace::run(|| transfer(TapMode::Offload, TapMode::Offload));
}

#[test]
fn super_frames_are_cut_for_a_plain_tap() {
    namespace::run(|| transfer(TapMode::Offload, TapMode::Plain));
}

#[test]
fn frames_of_a_plain_tap_reach_an_offload_tap() {
    namespace::run(|| transfer(TapMode::Plain, TapMode::Offload));
}

#[test]
fn auto_takes_offload_where_the_kernel_grants_it() {
    namespace::run(|| {
        two_namespaces();
        assert_eq!(open_in("left", "10.9.0.1/24", TapMode::Auto).kind(), TapKind::Offload);
        assert_eq!(open_in("right", "10.9.0.2/24", TapMode::Plain).kind(), TapKind::Plain);
    });
}

#[test]
fn an_interface_name_that_exists_is_refused() {
    namespace::run(|| {
        let _first = Tap::open("tap0", TapMode::Offload).expect("the TAP opens");
        let second = Tap::open("tap0", TapMode::Offload).err().expect("the name is taken");
        assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
    });
}

#[test]
fn a_tap_whose_interface_was_deleted_is_gone() {
    namespace::run(|| {
        two_namespaces();
        let tap = open_in("left", "10.9.0.1/24", TapMode::Auto);
        let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
        netns::within(Path::new("/run/netns/left"), || sh("ip link delete tap0"))
            .expect("the namespace can be entered");
        assert!(matches!(tap.receive(&mut frame), Received::Gone));
        frame.set_bytes(&[0; 60]);
        assert!(tap.send(&mut frame, &mut Vec::new()).expect_err("nobody takes it").gone);
    });
}

/// A super-frame as the kernel would hand it to us: TCP or UDP from 10.1.0.2 to 10.2.0.2 (or the IPv6 counterparts).
fn super_frame(kind: SegmentationKind, ipv6: bool, payload_bytes: usize, size_bytes: u16) -> Frame {
    let (protocol, l4): (_, &[u8]) = match kind {
        // ACK, PSH and FIN; 8 bytes of options: NOP, NOP, and an empty timestamp would be longer, so six more NOPs.
        SegmentationKind::Tcp => (
            Protocol::TCP,
            b"\x30\x39\x00\x50\x00\x00\xff\xf0\x01\x02\x03\x04\x70\x19\x20\x00\0\0\0\0\x01\x01\x01\x01\x01\x01\x01\x01",
        ),
        SegmentationKind::Udp => (Protocol::UDP, b"\x30\x39\x00\x35\0\0\0\0"),
    };
    let l4_bytes = l4.len() + payload_bytes;
    let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
    if ipv6 {
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        bytes.extend((l4_bytes as u16).to_be_bytes());
        bytes.extend([protocol.0, 64]);
        bytes.extend("fd01::2".parse::<std::net::Ipv6Addr>().expect("an address").octets());
        bytes.extend("fd02::2".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    } else {
        bytes.extend([0x08, 0, 0x45, 0]);
        bytes.extend(((20 + l4_bytes) as u16).to_be_bytes());
        bytes.extend([0xff, 0xfe, 0x40, 0, 64, protocol.0, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2]);
        let sum = !wire::checksum::sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let l4_offset = bytes.len();
    bytes.extend(l4);
    bytes.extend((0..payload_bytes).map(|i| (i * 7) as u8));
    if kind == SegmentationKind::Udp {
        bytes[l4_offset + 4..l4_offset + 6].copy_from_slice(&(l4_bytes as u16).to_be_bytes());
    }
    let packet = Packet::check(&bytes).expect("a good packet");
    let pseudo = wire::checksum::pseudo_header(packet.src, packet.dst, protocol, l4_bytes as u32);
    let field = l4_offset + if kind == SegmentationKind::Tcp { 16 } else { 6 };
    bytes[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
    frame.set_bytes(&bytes);
    let segmentation = Segmentation { kind, size_bytes, ecn: false };
    frame.offload = Offload { checksum: wire::Checksum::Partial, segmentation: Some(segmentation) };
    frame
}

/// The segments that [`SegmentPlan`] makes of `frame`.
fn our_segments(frame: &Frame) -> Vec<Vec<u8>> {
    let plan = SegmentPlan::new(frame.bytes(), &frame.offload).expect("a super-frame");
    (0..plan.count())
        .map(|index| {
            let mut segment = vec![0; plan.header_len()];
            plan.write_header(index, &mut segment);
            segment.extend_from_slice(&frame.bytes()[plan.payload(index)]);
            segment
        })
        .collect()
}

#[test]
fn our_segments_are_the_kernels() {
    namespace::run(|| {
        let (source, sink) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 9]));
        let left = Tap::open("left", TapMode::Offload).expect("the TAP opens");
        let right = Tap::open("right", TapMode::Plain).expect("the TAP opens");
        sh(&format!(
            "ip link set left address {source}; ip link set right address {sink}
             for tap in left right; do ip link set $tap up mtu 1500; done
             ip address add 10.1.0.1/24 dev left; ip address add 10.2.0.1/24 dev right
             ip address add fd01::1/64 dev left nodad; ip address add fd02::1/64 dev right nodad
             ip neighbor add 10.2.0.2 lladdr {source} dev right; ip neighbor add fd02::2 lladdr {source} dev right
             echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"
        ));
        for kind in [SegmentationKind::Tcp, SegmentationKind::Udp] {
            for (ipv6, payload_bytes, size_bytes) in [
                (false, 60_000, 1400),
                (true, 60_000, 1400),
                (false, 2_801, 1400),
                (true, 2_800, 1400),
                (false, 999, 100),
            ] {
                let mut frame = super_frame(kind, ipv6, payload_bytes, size_bytes);
                left.send(&mut frame, &mut Vec::new()).expect("the kernel takes the super-frame");
                // What a router changes, so that only the segmentation is compared.
                let packet = Packet::check(frame.bytes()).expect("a good packet");
                edit::decrement_ttl(&mut frame, &packet);
                edit::set_macs(&mut frame, source, sink);
                let ours = our_segments(&frame);
                let kernels = read_packets_to(&right, packet.dst, ours.len());
                for (index, (ours, kernels)) in ours.iter().zip(&kernels).enumerate() {
                    assert_eq!(ours, kernels, "segment {index} of {kind:?}, IPv6 {ipv6}, {payload_bytes}/{size_bytes}");
                }
            }
        }
    });
}

/// The next `count` frames whose packet goes to `dst`.
fn read_packets_to(tap: &Tap, dst: std::net::IpAddr, count: usize) -> Vec<Vec<u8>> {
    let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
    let mut packets = Vec::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while packets.len() < count {
        assert!(std::time::Instant::now() < deadline, "only {} of {count} segments came", packets.len());
        if let Received::Frame = tap.receive(&mut frame)
            && Packet::check(frame.bytes()).is_ok_and(|packet| packet.dst == dst)
        {
            packets.push(frame.bytes().to_vec());
        }
    }
    packets
}
