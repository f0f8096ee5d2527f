//! From an address to the rules whose CIDRs hold it: ipBlocks, networks, the addresses of nodes.
//!
//! Blocks and their exceptions cut the address space into stretches in which every address has the same answer; a lookup is
//! one binary search among their starts, however the blocks nest.

use super::PortRulesIndex;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// An ipBlock of a rule, or another CIDR without exceptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) cidr: IpNet,
    pub(crate) except: Vec<IpNet>,
}

/// The stretches of both families.
#[derive(Debug, Default)]
pub(crate) struct AddressRules {
    v4: Vec<(u128, Option<PortRulesIndex>)>,
    v6: Vec<(u128, Option<PortRulesIndex>)>,
}

impl AddressRules {
    /// Cuts the address space; `intern` gives the number of a list of rule positions.
    pub(crate) fn build(
        blocks: &[(u32, Block)],
        mut intern: impl FnMut(&BTreeSet<u32>) -> PortRulesIndex,
    ) -> AddressRules {
        let (v4, v6): (Vec<_>, Vec<_>) = blocks.iter().partition(|(_, block)| block.cidr.addr().is_ipv4());
        AddressRules { v4: cut(&v4, &mut intern), v6: cut(&v6, &mut intern) }
    }

    /// The rules whose blocks hold `addr`.
    #[inline]
    pub(crate) fn find(&self, addr: IpAddr) -> Option<PortRulesIndex> {
        let stretches = if addr.is_ipv4() { &self.v4 } else { &self.v6 };
        let addr = number(addr);
        let behind = stretches.partition_point(|(start, _)| *start <= addr);
        stretches[..behind].last().and_then(|(_, rules)| *rules)
    }
}

/// Sweeps over the borders of all blocks. A block counts +1 for its rule, each exception -1 inside it; a rule covers a
/// stretch while one of its blocks is open there and none of that block's exceptions is.
fn cut(
    blocks: &[&(u32, Block)],
    intern: &mut impl FnMut(&BTreeSet<u32>) -> PortRulesIndex,
) -> Vec<(u128, Option<PortRulesIndex>)> {
    // At each border: which blocks open or close (true for the block itself, false for an exception of it).
    let mut borders: BTreeMap<u128, Vec<(usize, bool, i32)>> = BTreeMap::new();
    for (position, (_, block)) in blocks.iter().enumerate() {
        let nets = std::iter::once((&block.cidr, true)).chain(block.except.iter().map(|except| (except, false)));
        for (net, is_block) in nets {
            borders.entry(number(net.network())).or_default().push((position, is_block, 1));
            // A net that reaches the last address of its family stays open.
            if let Some(end) = number(net.broadcast()).checked_add(1) {
                borders.entry(end).or_default().push((position, is_block, -1));
            }
        }
    }
    let mut open = vec![(0i32, 0i32); blocks.len()];
    let mut covering: BTreeMap<u32, u32> = BTreeMap::new();
    let mut stretches: Vec<(u128, Option<PortRulesIndex>)> = Vec::with_capacity(borders.len());
    for (start, changes) in borders {
        for (position, is_block, change) in changes {
            let before = covers(open[position]);
            let counts = &mut open[position];
            if is_block {
                counts.0 += change;
            } else {
                counts.1 += change;
            }
            let rule = blocks[position].0;
            match (before, covers(open[position])) {
                (false, true) => *covering.entry(rule).or_default() += 1,
                (true, false) => {
                    let count = covering.get_mut(&rule).expect("a covering block was counted");
                    *count -= 1;
                    if *count == 0 {
                        covering.remove(&rule);
                    }
                }
                _ => {}
            }
        }
        let rules: BTreeSet<u32> = covering.keys().copied().collect();
        let rules = if rules.is_empty() { None } else { Some(intern(&rules)) };
        if stretches.last().is_none_or(|(_, before)| *before != rules) {
            stretches.push((start, rules));
        }
    }
    stretches
}

fn covers((blocks, exceptions): (i32, i32)) -> bool {
    blocks > 0 && exceptions == 0
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}
