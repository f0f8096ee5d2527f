//! The MTU budget: what the tunnel takes from the underlay's MTU.

use std::net::IpAddr;

/// Bytes that VXLAN over IPv4 adds to an inner IP packet: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20.
pub const VXLAN_IPV4_OVERHEAD_BYTES: u16 = 50;
/// Bytes that VXLAN over IPv6 adds to an inner IP packet: inner Ethernet 14, VXLAN 8, UDP 8, IPv6 40.
pub const VXLAN_IPV6_OVERHEAD_BYTES: u16 = 70;

/// The largest inner IP packet that fits an underlay of `underlay_mtu` bytes to the node address `underlay`.
pub fn pod_mtu(underlay_mtu: u16, underlay: IpAddr) -> u16 {
    let overhead = if underlay.is_ipv4() { VXLAN_IPV4_OVERHEAD_BYTES } else { VXLAN_IPV6_OVERHEAD_BYTES };
    underlay_mtu.saturating_sub(overhead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tunnel_takes_50_bytes_over_ipv4_and_70_over_ipv6() {
        assert_eq!(pod_mtu(1_500, "172.30.0.11".parse().unwrap()), 1_450);
        assert_eq!(pod_mtu(1_500, "fd00::11".parse().unwrap()), 1_430);
        assert_eq!(pod_mtu(9_000, "fd00::11".parse().unwrap()), 8_930);
    }

    #[test]
    fn an_underlay_smaller_than_the_overhead_leaves_nothing() {
        assert_eq!(pod_mtu(40, "172.30.0.11".parse().unwrap()), 0);
    }
}
