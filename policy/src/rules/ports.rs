//! From a protocol and a port to the first rule that matches them.

use crate::tables::ContainerPort;
use std::ops::RangeInclusive;
use std::sync::Arc;
use wire::Protocol;

/// Position of a [`PortRules`] in its rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PortRulesIndex(pub(crate) u32);

/// What one entry of a rule's `ports` matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PortMatch {
    /// The rule has no `ports`: every port of every protocol, and protocols without ports.
    Everything,
    /// `port` to `endPort`, or all ports of a protocol.
    Range(Protocol, RangeInclusive<u16>),
    /// Ports that the receiving pod gives this name, of one protocol or of any.
    Named(Option<Protocol>, Arc<str>),
}

/// Where each stretch of ports with the same answer starts, in order.
type Stretches = Vec<(u16, Option<u32>)>;

/// Ports of several rules put together: for each port the lowest position of a rule that matches it.
#[derive(Debug, Default)]
pub(crate) struct PortRules {
    everything: Option<u32>,
    ranges: Vec<(Protocol, Stretches)>,
    named: Vec<(Option<Protocol>, Arc<str>, u32)>,
}

impl PortRules {
    /// Puts together what the rules at the given positions match.
    pub(crate) fn build<'a>(matches: impl Iterator<Item = (u32, &'a PortMatch)>) -> PortRules {
        let mut built = PortRules::default();
        let mut ranges: Vec<(Protocol, RangeInclusive<u16>, u32)> = Vec::new();
        for (rule, port_match) in matches {
            match port_match {
                PortMatch::Everything => {
                    built.everything = Some(built.everything.map_or(rule, |first| first.min(rule)));
                }
                PortMatch::Range(protocol, range) => ranges.push((*protocol, range.clone(), rule)),
                PortMatch::Named(protocol, name) => built.named.push((*protocol, name.clone(), rule)),
            }
        }
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            let of_protocol: Vec<_> =
                ranges.iter().filter(|range| range.0 == protocol).map(|(_, range, rule)| (range, *rule)).collect();
            if !of_protocol.is_empty() {
                built.ranges.push((protocol, stretches(&of_protocol)));
            }
        }
        built
    }

    /// The lowest position of a rule that matches `port` of `protocol`.
    #[inline]
    pub(crate) fn find(&self, protocol: Protocol, port: u16, receiver_ports: &[ContainerPort]) -> Option<u32> {
        let in_range = self.ranges.iter().find(|(of, _)| *of == protocol).and_then(|(_, stretches)| {
            let behind = stretches.partition_point(|(start, _)| *start <= port);
            stretches[..behind].last().and_then(|(_, rule)| *rule)
        });
        let by_name = if self.named.is_empty() { None } else { self.find_named(protocol, port, receiver_ports) };
        [self.everything, in_range, by_name].into_iter().flatten().min()
    }

    #[cold]
    fn find_named(&self, protocol: Protocol, port: u16, receiver_ports: &[ContainerPort]) -> Option<u32> {
        let names = receiver_ports.iter().filter(|named| named.protocol == protocol && named.port == port);
        let is_meant = |of: &Option<Protocol>| of.is_none_or(|of| of == protocol);
        names
            .flat_map(|named| self.named.iter().filter(move |(of, name, _)| is_meant(of) && *name == named.name))
            .map(|(_, _, rule)| *rule)
            .min()
    }
}

/// Cuts overlapping ranges into stretches that do not overlap, each with the lowest rule that covers it.
fn stretches(ranges: &[(&RangeInclusive<u16>, u32)]) -> Vec<(u16, Option<u32>)> {
    let starts = ranges.iter().map(|(range, _)| u32::from(*range.start()));
    let ends = ranges.iter().map(|(range, _)| u32::from(*range.end()) + 1);
    let mut borders: Vec<u32> = starts.chain(ends).collect();
    borders.sort_unstable();
    borders.dedup();
    let mut cut: Vec<(u16, Option<u32>)> = Vec::with_capacity(borders.len());
    for border in borders {
        let Ok(start) = u16::try_from(border) else { break };
        let rule = ranges.iter().filter(|(range, _)| range.contains(&start)).map(|(_, rule)| *rule).min();
        if cut.last().is_none_or(|(_, before)| *before != rule) {
            cut.push((start, rule));
        }
    }
    cut
}
