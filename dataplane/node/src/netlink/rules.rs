//! Rules of policy routing by which the kernel's own answers lead nowhere (ip-rule(8)).

use super::{Netlink, ROUTE_PROTOCOL};
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use wire::Protocol;

/// `linux/fib_rules.h`: the IP protocol. The library has it and does not let anybody name its type.
const FRA_IP_PROTO: u16 = 22;

/// Behind the rule for local destinations (0), before everything that leads anywhere.
const PRIORITY: u32 = 3;

/// What only packets of this machine's own have for an interface that they came in by.
const FROM_ITSELF: &str = "lo";

/// TCP segments that the kernel itself sends from a port of these to another machine are not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SilentPorts {
    /// The family; a specified address stands for itself only.
    pub(crate) address: IpAddr,
    /// Source ports.
    pub(crate) ports: RangeInclusive<u16>,
}

impl SilentPorts {
    /// Whether nothing is silent by `other` that is not by this one.
    pub(crate) fn covers(&self, other: &SilentPorts) -> bool {
        let has = |port| self.ports.contains(port);
        self.address == other.address && has(other.ports.start()) && has(other.ports.end())
    }
}

impl Netlink {
    /// Our own rules.
    pub(crate) fn silent_ports(&mut self) -> io::Result<Vec<SilentPorts>> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let answers = self.request(RouteNetlinkMessage::GetRule(message), NLM_F_DUMP)?;
            rules.extend(answers.into_iter().filter_map(read));
        }
        Ok(rules)
    }

    /// Adds a rule; one that is there stays.
    pub(crate) fn silence(&mut self, ports: &SilentPorts) -> io::Result<()> {
        match self.change(RouteNetlinkMessage::NewRule(write(ports)), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes a rule; one that is gone already counts as removed.
    pub(crate) fn unsilence(&mut self, ports: &SilentPorts) -> io::Result<()> {
        match self.change(RouteNetlinkMessage::DelRule(write(ports)), 0) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
            other => other,
        }
    }
}

fn write(SilentPorts { address, ports }: &SilentPorts) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = super::family(*address);
    message.header.action = RuleAction::Blackhole;
    if !address.is_unspecified() {
        message.header.src_len = super::host_prefix(*address);
        message.attributes.push(RuleAttribute::Source(*address));
    }
    message.attributes.extend([
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Iifname(FROM_ITSELF.to_owned()),
        RuleAttribute::Other(DefaultNla::new(FRA_IP_PROTO, vec![Protocol::TCP.0])),
        RuleAttribute::SourcePortRange(RulePortRange { start: *ports.start(), end: *ports.end() }),
        RuleAttribute::Protocol(ROUTE_PROTOCOL),
    ]);
    message
}

fn read(message: RouteNetlinkMessage) -> Option<SilentPorts> {
    let RouteNetlinkMessage::NewRule(message) = message else { return None };
    let is_ours = message.header.action == RuleAction::Blackhole
        && message.attributes.contains(&RuleAttribute::Protocol(ROUTE_PROTOCOL));
    if !is_ours {
        return None;
    }
    let any: IpAddr = match message.header.family {
        AddressFamily::Inet => [0; 4].into(),
        _ => [0; 16].into(),
    };
    let (mut address, mut ports) = (any, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(source) => address = *source,
            RuleAttribute::SourcePortRange(range) => ports = Some(range.start..=range.end),
            _ => {}
        }
    }
    Some(SilentPorts { address, ports: ports? })
}
