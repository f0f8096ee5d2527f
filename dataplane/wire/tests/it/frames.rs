//! Frames for property tests: well-formed ones of every kind, and damaged ones that are close to well-formed.

use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use wire::build::{self, Echo, Ends, Tcp};
use wire::{Frame, IcmpError, MacAddr, Packet, Protocol, checksum, craft};

/// Ends of either family with addresses of pods.
pub(crate) fn ends() -> impl Strategy<Value = Ends> {
    (any::<bool>(), any::<[u8; 2]>(), any::<[u8; 2]>(), any::<u16>(), any::<u16>()).prop_map(
        |(is_ipv4, src, dst, src_port, dst_port)| {
            let addr = |[a, b]: [u8; 2]| match is_ipv4 {
                true => IpAddr::V4(Ipv4Addr::new(10, 244, a, b)),
                false => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, a.into(), u16::from(b) + 1)),
            };
            Ends::new(SocketAddr::new(addr(src), src_port), SocketAddr::new(addr(dst), dst_port))
        },
    )
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..64), vec(any::<u8>(), 1_200..1_600)]
}

fn tcp() -> impl Strategy<Value = Vec<u8>> {
    (ends(), any::<(u32, u32, u8, u16)>(), vec(any::<u8>(), 0..=40), payload()).prop_map(
        |(ends, (sequence, acknowledgment, flags, window), options, payload)| {
            build::tcp(&ends, &Tcp { sequence, acknowledgment, flags, window, options: &options }, &payload)
        },
    )
}

fn sctp() -> impl Strategy<Value = Vec<u8>> {
    (ends(), any::<u32>(), 0u8..16, vec(any::<u8>(), 8..64)).prop_map(|(ends, tag, kind, body)| {
        let mut chunks = vec![kind, 0];
        chunks.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
        chunks.extend_from_slice(&body);
        build::sctp(&ends, tag, &chunks)
    })
}

fn echo() -> impl Strategy<Value = Vec<u8>> {
    (ends(), any::<bool>(), any::<(u16, u16)>(), payload()).prop_map(|(ends, request, (id, sequence), payload)| {
        build::echo(&ends, if request { Echo::Request } else { Echo::Reply }, id, sequence, &payload)
    })
}

fn questions() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), any::<u16>(), any::<u16>()).prop_map(|(kind, a, b)| {
        let mac = MacAddr::local(a.into());
        let v6 = |x| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, x);
        let [high, low] = b.to_be_bytes();
        match kind % 3 {
            0 => build::arp_request(mac, Ipv4Addr::new(10, 244, 0, 1), Ipv4Addr::new(10, 244, high, low)),
            1 => build::neighbor_solicitation(mac, v6(a), v6(b)),
            _ => build::neighbor_solicitation(mac, Ipv6Addr::UNSPECIFIED, v6(b)),
        }
    })
}

/// Packets with extension headers or options, and fragments.
fn odd_headers() -> impl Strategy<Value = Vec<u8>> {
    (ends(), vec(0usize..4, 0..5), any::<u16>(), payload()).prop_map(|(ends, headers, field, payload)| {
        let mut udp = build::udp(&ends, &payload);
        if ends.src.is_ipv4() {
            udp[20..22].copy_from_slice(&(field & 0x3f07).to_be_bytes());
            fix_header_checksum(&mut udp);
            return udp;
        }
        let kinds = [0u8, 43, 44, 60];
        let mut next = 17u8;
        let mut l4 = udp.split_off(54);
        for &header in headers.iter().rev() {
            let mut extension = match kinds[header] {
                44 => vec![next, 0, (field >> 8) as u8, field as u8 & 1, 1, 2, 3, 4],
                43 => vec![next, 0, 2, 0, 0, 0, 0, 0],
                _ => vec![next, 0, 1, 4, 0, 0, 0, 0],
            };
            extension.extend_from_slice(&l4);
            l4 = extension;
            next = kinds[header];
        }
        build::raw_ip(&ends, Protocol(next), &l4)
    })
}

/// ICMP errors about packets of every kind.
fn errors() -> impl Strategy<Value = Vec<u8>> {
    (prop_oneof![tcp(), sctp(), echo(), udp()], 0usize..4, any::<u16>()).prop_map(|(about, error, cut)| {
        let mut frame = Frame::from_bytes(&about);
        let packet = Packet::check(&about).expect("frames made here are well-formed");
        let errors = [
            IcmpError::HostUnreachable,
            IcmpError::PortUnreachable,
            IcmpError::TooBig { mtu: 1_400 },
            IcmpError::TtlExceeded,
        ];
        craft::icmp_error(&mut frame, &packet, errors[error], packet.dst);
        let error = Packet::check(frame.bytes()).expect("answers are well-formed");
        let quote = &frame.bytes()[usize::from(error.l4_offset)..];
        let cut = quote.len() - usize::from(cut) % (quote.len() - 8);
        let ends = Ends::new(SocketAddr::new(error.src, 0), SocketAddr::new(error.dst, 0));
        build::ip(&ends, error.protocol, &quote[..cut])
    })
}

fn udp() -> impl Strategy<Value = Vec<u8>> {
    (ends(), payload()).prop_map(|(ends, payload)| build::udp(&ends, &payload))
}

/// Well-formed frames, or nearly: odd headers may be refused.
pub(crate) fn frames() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![tcp(), udp(), sctp(), echo(), questions(), odd_headers(), errors()]
}

/// Frames with a few bytes changed or cut; often with a header checksum that is right again.
pub(crate) fn damaged_frames() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((prop_oneof![0usize..64, 0usize..1_600], any::<u8>()), 0..6);
    (frames(), changes, any::<bool>(), prop_oneof![Just(0usize), 0usize..40]).prop_map(
        |(mut frame, changes, fix, cut)| {
            for (at, value) in changes {
                let len = frame.len();
                frame[at % len] = value;
            }
            frame.truncate(frame.len().saturating_sub(cut));
            if fix {
                fix_header_checksum(&mut frame);
            }
            frame
        },
    )
}

/// A flow or an MTU in front of a frame, as [`wire::invariants`] takes it.
pub(crate) fn with_prefix(len: usize, frames: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), len), frames).prop_map(|(mut prefix, frame)| {
        prefix.extend_from_slice(&frame);
        prefix
    })
}

fn fix_header_checksum(frame: &mut [u8]) {
    let header_len = usize::from(frame.get(14).copied().unwrap_or(0) & 0x0f) * 4;
    if let Some(header) = frame.get_mut(14..14 + header_len)
        && header.len() >= 20
        && header[0] >> 4 == 4
    {
        header[10..12].fill(0);
        let field = !checksum::sum(header);
        header[10..12].copy_from_slice(&field.to_be_bytes());
    }
}
