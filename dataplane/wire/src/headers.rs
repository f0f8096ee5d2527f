//! Writes headers into a frame that is being made: the shared half of [`crate::craft`] and [`crate::build`].

use crate::ethernet::{ETHERNET_HEADER_BYTES, EtherType};
use crate::ipv4::{FLAG_DF, IPV4_HEADER_BYTES};
use crate::ipv6::IPV6_HEADER_BYTES;
use crate::{MacAddr, Packet, Protocol, checksum};
use std::net::IpAddr;

/// What an IP header without options says beyond lengths and checksums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
}

impl Ip {
    /// Length of the Ethernet and the IP header together.
    pub(crate) fn headers_len(&self) -> usize {
        ETHERNET_HEADER_BYTES + if self.src.is_ipv4() { IPV4_HEADER_BYTES } else { IPV6_HEADER_BYTES }
    }
}

/// Writes the Ethernet header.
pub(crate) fn write_ethernet(bytes: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: EtherType) {
    bytes[..6].copy_from_slice(&dst.0);
    bytes[6..12].copy_from_slice(&src.0);
    bytes[12..14].copy_from_slice(&ethertype.0.to_be_bytes());
}

/// Writes the Ethernet and the IP header of a frame whose last byte is the packet's last.
///
/// An IPv4 packet is sent with DF and identification 0: it is an atomic datagram, whose identification says nothing
/// (RFC 6864 §4.1).
pub(crate) fn write_ip(bytes: &mut [u8], dst_mac: MacAddr, src_mac: MacAddr, ip: &Ip) {
    let len = bytes.len() - ETHERNET_HEADER_BYTES;
    match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            write_ethernet(bytes, dst_mac, src_mac, EtherType::IPV4);
            let header = &mut bytes[ETHERNET_HEADER_BYTES..][..IPV4_HEADER_BYTES];
            header[..2].copy_from_slice(&[0x45, ip.traffic_class]);
            header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            header[4..6].fill(0);
            header[6..8].copy_from_slice(&FLAG_DF.to_be_bytes());
            header[8..12].copy_from_slice(&[ip.ttl, ip.protocol.0, 0, 0]);
            header[12..16].copy_from_slice(&src.octets());
            header[16..20].copy_from_slice(&dst.octets());
            let field = !checksum::sum_short(header);
            header[10..12].copy_from_slice(&field.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            write_ethernet(bytes, dst_mac, src_mac, EtherType::IPV6);
            let header = &mut bytes[ETHERNET_HEADER_BYTES..][..IPV6_HEADER_BYTES];
            header[..4].copy_from_slice(&(6 << 28 | u32::from(ip.traffic_class) << 20).to_be_bytes());
            header[4..6].copy_from_slice(&((len - IPV6_HEADER_BYTES) as u16).to_be_bytes());
            header[6..8].copy_from_slice(&[ip.protocol.0, ip.ttl]);
            header[8..24].copy_from_slice(&src.octets());
            header[24..40].copy_from_slice(&dst.octets());
        }
        (src, dst) => panic!("a packet has one address family: {src} to {dst}"),
    }
}

/// Writes the transport checksum of a frame whose headers stand.
pub(crate) fn write_l4_checksum(bytes: &mut [u8]) {
    let packet = Packet::check(bytes);
    debug_assert!(packet.is_ok(), "a frame made here is well-formed: {packet:?}");
    if let Ok(packet) = packet {
        checksum::write_full(bytes, &packet);
    }
}
