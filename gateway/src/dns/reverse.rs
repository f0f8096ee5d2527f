//! Reverse names: whose an address is (specification §2.3.3 and §2.4.3).
//!
//! A ClusterIP is its Service's; every other address is that of endpoints, and has one name for each Service that has it.

use super::answer::Answer;
use super::config::DnsConfig;
use super::query::below;
use super::records::{HostLabel, service_name};
use domain::base::Name;
use domain::base::iana::Class;
use domain::rdata::Ptr;
use policy::names::{Names, ServiceNames};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The zones of reverse names (RFC 1035 §3.5, RFC 3596 §2.5).
const V4_ZONE: &[u8] = b"\x07in-addr\x04arpa\x00";
const V6_ZONE: &[u8] = b"\x03ip6\x04arpa\x00";

/// The address that `name` is the reverse name of: labels with their lengths in front, in lower case.
pub(super) fn parse(name: &[u8]) -> Option<IpAddr> {
    if let Some(digits) = below(name, V4_ZONE) {
        return v4(digits).map(IpAddr::from);
    }
    v6(below(name, V6_ZONE)?).map(IpAddr::from)
}

fn v4(mut labels: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    for octet in octets.iter_mut().rev() {
        let (len, rest) = labels.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*len))?;
        // Numbers are written without leading zeros.
        let is_number = label.iter().all(u8::is_ascii_digit) && (label.len() == 1 || label.first() != Some(&b'0'));
        *octet = std::str::from_utf8(label).ok().filter(|_| is_number)?.parse().ok()?;
        labels = rest;
    }
    labels.is_empty().then(|| Ipv4Addr::from(octets))
}

fn v6(labels: &[u8]) -> Option<Ipv6Addr> {
    let (nibbles, rest) = labels.as_chunks::<2>();
    if nibbles.len() != 32 || !rest.is_empty() {
        return None;
    }
    let mut bits: u128 = 0;
    for [len, digit] in nibbles.iter().rev() {
        let digit = char::from(*digit).to_digit(16).filter(|_| *len == 1)?;
        bits = bits << 4 | u128::from(digit);
    }
    Some(Ipv6Addr::from(bits))
}

/// The zone of a reverse name.
pub(super) fn zone(name: &Name<[u8]>) -> &Name<[u8]> {
    let labels = name.iter().count();
    let front: usize = name.iter().take(labels.saturating_sub(3)).map(|label| label.len() + 1).sum();
    name.slice_from(front)
}

/// Adds the names of `addr`.
pub(super) fn push_pointers(
    names: &Names,
    addr: IpAddr,
    owner: &Name<[u8]>,
    config: &DnsConfig,
    answer: &mut Answer<'_>,
) {
    let zone: &Name<[u8]> = config.zone.for_slice();
    let mut push = |service: &ServiceNames, as_endpoint: bool| {
        let Some(name) = service_name(&service.key, zone) else { return };
        if !as_endpoint {
            answer.push((owner, Class::IN, config.ttl_s, Ptr::new(name)));
            return;
        }
        for host in service.endpoints.hosts_at(addr) {
            let label = HostLabel::new(&host);
            if let Some(name) = label.below(&name) {
                answer.push((owner, Class::IN, config.ttl_s, Ptr::new(name)));
            }
        }
    };
    match names.holders(addr).find(|service| service.has_cluster_ip(addr)) {
        Some(service) => push(service, false),
        None => names.holders(addr).for_each(|service| push(service, true)),
    }
}
