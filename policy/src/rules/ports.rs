//! From a protocol and a port to the first rule that matches them.

use crate::tables::ContainerPort;
use std::collections::BTreeMap;
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
    /// By name, for each protocol, or for any, the first rule.
    named: BTreeMap<Arc<str>, Vec<(Option<Protocol>, u32)>>,
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
                PortMatch::Named(protocol, name) => note(built.named.entry(name.clone()).or_default(), *protocol, rule),
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
        let rules = names.filter_map(|named| self.named.get(&named.name)).flatten();
        rules.filter(|(of, _)| of.is_none_or(|of| of == protocol)).map(|(_, rule)| *rule).min()
    }
}

/// Keeps the first rule of each protocol.
fn note(rules: &mut Vec<(Option<Protocol>, u32)>, protocol: Option<Protocol>, rule: u32) {
    match rules.iter_mut().find(|(of, _)| *of == protocol) {
        Some((_, first)) => *first = rule.min(*first),
        None => rules.push((protocol, rule)),
    }
}

/// Cuts overlapping ranges into stretches that do not overlap, each with the lowest rule that covers it: a sweep over the ports
/// where ranges start and end.
fn stretches(ranges: &[(&RangeInclusive<u16>, u32)]) -> Vec<(u16, Option<u32>)> {
    let starts = ranges.iter().map(|(range, rule)| (u32::from(*range.start()), true, *rule));
    let ends = ranges.iter().map(|(range, rule)| (u32::from(*range.end()) + 1, false, *rule));
    let mut borders: Vec<(u32, bool, u32)> = starts.chain(ends).collect();
    borders.sort_unstable();
    let mut open: BTreeMap<u32, u32> = BTreeMap::new();
    let mut cut: Vec<(u16, Option<u32>)> = Vec::with_capacity(borders.len());
    for at in borders.chunk_by(|one, other| one.0 == other.0) {
        // A range that reaches the last port stays open.
        let Ok(start) = u16::try_from(at[0].0) else { break };
        for &(_, opens, rule) in at {
            let count = open.entry(rule).or_default();
            // Of a rule's ranges that end and start here, those that end come first in order.
            *count = if opens { *count + 1 } else { *count - 1 };
            if *count == 0 {
                open.remove(&rule);
            }
        }
        let rule = open.keys().next().copied();
        if cut.last().is_none_or(|(_, before)| *before != rule) {
            cut.push((start, rule));
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_the_lowest_rule_changes() {
        let ranges = [(10..=20, 3), (15..=30, 1), (31..=40, 1), (20..=20, 0), (25..=65535, 2), (0..=0, 4)];
        let ranges: Vec<_> = ranges.iter().map(|(range, rule)| (range, *rule)).collect();
        let cut = stretches(&ranges);
        let expected =
            [(0, Some(4)), (1, None), (10, Some(3)), (15, Some(1)), (20, Some(0)), (21, Some(1)), (41, Some(2))];
        assert_eq!(cut, expected);
        for port in 0..=100u16 {
            let literal = ranges.iter().filter(|(range, _)| range.contains(&port)).map(|(_, rule)| *rule).min();
            let behind = cut.partition_point(|(start, _)| *start <= port);
            assert_eq!(cut[..behind].last().and_then(|(_, rule)| *rule), literal, "port {port}");
        }
    }

    #[test]
    fn a_name_costs_the_same_however_many_rules_have_it() {
        let matches: Vec<PortMatch> = (0..1000u32)
            .map(|rule| PortMatch::Named((rule % 2 == 0).then_some(Protocol::TCP), format!("port{}", rule % 10).into()))
            .collect();
        let rules = PortRules::build((0u32..).zip(&matches));
        assert_eq!(rules.named.len(), 10);
        assert!(rules.named.values().all(|of_name| of_name.len() == 1));
        let port = |name: &str, protocol| [ContainerPort { name: name.into(), protocol, port: 1 }];
        assert_eq!(rules.find(Protocol::TCP, 1, &port("port4", Protocol::TCP)), Some(4));
        assert_eq!(rules.find(Protocol::UDP, 1, &port("port4", Protocol::UDP)), None);
        assert_eq!(rules.find(Protocol::UDP, 1, &port("port5", Protocol::UDP)), Some(5));
        assert_eq!(rules.find(Protocol::UDP, 2, &port("port5", Protocol::UDP)), None);
    }
}
