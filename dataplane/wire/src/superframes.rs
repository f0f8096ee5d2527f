//! Frames for the tests of segmentation and merging, built by etherparse so that lengths and checksums have a second opinion.

use crate::transport::Transport;
use crate::{Checksum, Offload, Segmentation, SegmentationKind};
use etherparse::{
    IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, PacketHeaders, TcpHeader, TransportHeader, ip_number,
};
use proptest::prelude::*;

/// What a frame is made of.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) ipv6: bool,
    pub(crate) tcp: bool,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) id: u16,
    pub(crate) ports: (u16, u16),
    pub(crate) timestamps: bool,
    pub(crate) payload: Vec<u8>,
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            ipv6: false,
            tcp: true,
            flags: 0x10,
            seq: 1_000,
            id: 7,
            ports: (40_000, 80),
            timestamps: true,
            payload: (0..3_000).map(|i| (i * 7) as u8).collect(),
        }
    }
}

impl Recipe {
    /// The frame with a complete checksum.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let ip = if self.ipv6 {
            let header = Ipv6Header {
                traffic_class: 0x28,
                hop_limit: 63,
                source: [0xfd; 16],
                destination: [0xfc; 16],
                ..Default::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        } else {
            let mut header =
                Ipv4Header::new(0, 63, ip_number::TCP, [10, 244, 1, 2], [10, 244, 2, 3]).expect("a header");
            header.identification = self.id;
            header.dont_fragment = true;
            IpHeaders::Ipv4(header, Default::default())
        };
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ip(ip);
        let mut out = Vec::new();
        if self.tcp {
            let mut header = TcpHeader::new(self.ports.0, self.ports.1, self.seq, 8_192);
            let bit = |mask: u8| self.flags & mask != 0;
            (header.fin, header.syn, header.rst, header.psh) = (bit(0x01), bit(0x02), bit(0x04), bit(0x08));
            (header.ack, header.urg, header.ece, header.cwr) = (bit(0x10), bit(0x20), bit(0x40), bit(0x80));
            header.acknowledgment_number = 99;
            if self.timestamps {
                header.set_options_raw(&[1, 1, 8, 10, 0, 0, 1, 2, 3, 4, 5, 6]).expect("options fit");
            }
            builder.tcp_header(header).write(&mut out, &self.payload).expect("a frame");
        } else {
            builder.udp(self.ports.0, self.ports.1).write(&mut out, &self.payload).expect("a frame");
        }
        out
    }

    /// The same as a super-frame that waits to be cut every `size_bytes`.
    pub(crate) fn super_frame(&self, size_bytes: u16) -> (Vec<u8>, Offload) {
        let mut frame = self.frame();
        let transport = Transport::find(&frame).expect("TCP or UDP");
        let field = transport.l4_offset + transport.checksum_offset();
        let pseudo = transport.pseudo_sum(&frame);
        frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
        let kind = if self.tcp { SegmentationKind::Tcp } else { SegmentationKind::Udp };
        let ecn = self.tcp && self.flags & 0x80 != 0;
        (frame, Offload { checksum: Checksum::Partial, segmentation: Some(Segmentation { kind, size_bytes, ecn }) })
    }
}

/// Super-frames that a kernel may give: ACK, and any of PSH, FIN, ECE, CWR.
pub(crate) fn recipes() -> impl Strategy<Value = Recipe> {
    let flags = prop::bits::u8::masked(0b1100_1001).prop_map(|bits| bits | 0x10);
    (any::<(bool, bool, bool)>(), flags, any::<(u32, u16, u16, u16)>(), prop::collection::vec(any::<u8>(), 2..9_000))
        .prop_map(|((ipv6, tcp, timestamps), flags, (seq, id, src_port, dst_port), payload)| Recipe {
            ipv6,
            tcp,
            flags,
            seq,
            id,
            ports: (src_port, dst_port),
            timestamps,
            payload,
        })
}

/// The headers of a frame, read by etherparse, after it verified every checksum and length.
pub(crate) fn verified(frame: &[u8]) -> PacketHeaders<'_> {
    let packet = PacketHeaders::from_ethernet_slice(frame).expect("etherparse reads it");
    let net = packet.net.clone().expect("IP");
    let payload = packet.payload.slice();
    let checksum_ok = match (&net, packet.transport.as_ref().expect("TCP or UDP")) {
        (etherparse::NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
            Some(tcp.checksum) == tcp.calc_checksum_ipv4(ip, payload).ok()
        }
        (etherparse::NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
            Some(udp.checksum) == udp.calc_checksum_ipv4(ip, payload).ok()
        }
        (etherparse::NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            Some(tcp.checksum) == tcp.calc_checksum_ipv6(ip, payload).ok()
        }
        (etherparse::NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            Some(udp.checksum) == udp.calc_checksum_ipv6(ip, payload).ok()
        }
        other => panic!("unexpected headers {other:?}"),
    };
    assert!(checksum_ok, "transport checksum of {packet:?}");
    if let etherparse::NetHeaders::Ipv4(ip, _) = &net {
        assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4 header checksum");
        assert_eq!(usize::from(ip.total_len), frame.len() - 14, "IPv4 total length");
    }
    packet
}
