//! Keeping the kernel silent about held ports while no process holds them (R02): between the end of one process and the start of
//! the next it would answer segments of connections that go on with a reset.
//!
//! What a socket does while there is one, a rule of policy routing does when there is none: TCP segments of the kernel's own from
//! such a port to another machine lead nowhere ([`crate::netlink::SilentPorts`]). Rules are there from the moment a port is held, because
//! a process that is killed can do nothing any more; they go with the port, or with `podplane cleanup`. They are about ports
//! that nobody but us has while we run. When no process runs for longer, a program that takes one of them would be mute to other
//! machines; so the range that the kernel itself chooses from is left out, and connections whose source port is in it may be
//! reset by a restart. So may UDP clients be told that a port is unreachable: no rule knows about what an ICMP error is.

use super::claims::Claim;
use super::filter::ranges_of;
use crate::netlink::{Netlink, SilentPorts};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use wire::Protocol;

/// Rules of one family. Every packet that the node's own processes send is compared with each.
const RULES_MAX: usize = 16;

const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// What is silent for the time without a process.
#[derive(Debug)]
pub(crate) struct Silence {
    /// Where the kernel takes ports of its own from.
    local: RangeInclusive<u16>,
    in_force: Vec<SilentPorts>,
    /// Whether the kernel has no such rules.
    is_impossible: bool,
}

impl Silence {
    /// Nothing is silent yet, but for what a process before this one has left.
    pub(crate) fn new(netlink: &mut Netlink, local: RangeInclusive<u16>) -> Silence {
        let in_force = netlink.silent_ports().unwrap_or_default();
        Silence { local, in_force, is_impossible: false }
    }

    /// Has the kernel be silent about `claims` and TCP source ports `sources` as well. Where it has no such rules, connections may be
    /// reset by a restart, and nothing else is lost.
    pub(crate) fn add<'a>(
        &mut self,
        netlink: &mut Netlink,
        claims: impl Iterator<Item = &'a Claim>,
        sources: &[RangeInclusive<u16>],
    ) {
        let wanted = plan(claims, sources, &self.local);
        for rule in wanted.into_iter().filter(|rule| !self.in_force.contains(rule)).collect::<Vec<_>>() {
            if !self.is_impossible && netlink.silence(&rule).is_ok() {
                self.in_force.push(rule);
            } else {
                self.is_impossible = true;
            }
        }
        // Ranges grow: what a wider one covers is one rule less for every packet.
        let all = self.in_force.clone();
        let is_covered = |rule: &SilentPorts| all.iter().any(|other| other != rule && other.covers(rule));
        self.in_force.retain(|rule| !is_covered(rule) || netlink.unsilence(rule).is_err());
    }

    /// Has it answer for all others, once nothing leads to them any more.
    pub(crate) fn remove_others<'a>(
        &mut self,
        netlink: &mut Netlink,
        claims: impl Iterator<Item = &'a Claim>,
        sources: &[RangeInclusive<u16>],
    ) {
        let wanted = plan(claims, sources, &self.local);
        self.in_force.retain(|rule| wanted.contains(rule) || netlink.unsilence(rule).is_err());
    }
}

/// Removes every rule of ours; whether there was one.
pub(crate) fn remove_all(netlink: &mut Netlink) -> io::Result<bool> {
    let rules = netlink.silent_ports()?;
    rules.iter().try_for_each(|rule| netlink.unsilence(rule))?;
    Ok(!rules.is_empty())
}

/// The rules, in an order of their own. Pure.
fn plan<'a>(
    claims: impl Iterator<Item = &'a Claim>,
    sources: &[RangeInclusive<u16>],
    local: &RangeInclusive<u16>,
) -> Vec<SilentPorts> {
    let mut ports: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
    for claim in claims.filter(|claim| claim.protocol == Protocol::TCP) {
        ports.entry(claim.address).or_default().insert(claim.port);
    }
    let sources = || sources.iter().cloned().flatten().filter(|port| !local.contains(port));
    ANY.into_iter().for_each(|any| ports.entry(any).or_default().extend(sources()));
    let mut rules = Vec::new();
    for is_ipv4 in [true, false] {
        let of_family = ports.iter().filter(|(address, _)| address.is_ipv4() == is_ipv4);
        let of_family = of_family.flat_map(|(address, ports)| {
            ranges_of(ports.iter().copied()).into_iter().map(|ports| SilentPorts { address: *address, ports })
        });
        rules.extend(of_family.take(RULES_MAX));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_ports_and_source_ports_are_silent_but_for_the_kernels_own_range() {
        let claim = |address: &str, protocol, port| Claim { address: address.parse().unwrap(), protocol, port };
        let claims = [
            claim("0.0.0.0", Protocol::TCP, 30_080),
            claim("0.0.0.0", Protocol::TCP, 30_081),
            claim("0.0.0.0", Protocol::UDP, 30_090),
            claim("172.30.0.11", Protocol::TCP, 80),
            claim("::", Protocol::TCP, 30_080),
        ];
        let rules = plan(claims.iter(), &[40_000..=40_100, 61_000..=61_511], &(32_768..=60_999));
        let told: Vec<String> =
            rules.iter().map(|rule| format!("{} {}-{}", rule.address, rule.ports.start(), rule.ports.end())).collect();
        let expected =
            ["0.0.0.0 30080-30081", "0.0.0.0 61000-61511", "172.30.0.11 80-80", ":: 30080-30080", ":: 61000-61511"];
        assert_eq!(told, expected);
    }

    #[test]
    fn there_are_never_more_rules_than_every_packet_can_bear() {
        let claim = |port| Claim { address: ANY[0], protocol: Protocol::TCP, port };
        let claims: Vec<Claim> = (30_000..32_000).step_by(2).map(claim).collect();
        assert_eq!(plan(claims.iter(), &[], &(32_768..=60_999)).len(), RULES_MAX);
    }
}
