//! Which address of a range is next: the first free one after the one that was handed out last, so that an address comes again as
//! late as the range allows.

use crate::ipam::{address_at, last_offset, offset_of};
use ipnet::IpNet;
use std::net::IpAddr;

/// The network address and the gateway; in IPv6 the first is the subnet-router anycast address.
const FIRST: u128 = 2;

/// A pod range of the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    net: IpNet,
    next: u128,
}

impl Range {
    pub(super) fn new(net: IpNet) -> Range {
        Range { net: net.trunc(), next: FIRST }
    }

    pub(super) fn net(&self) -> IpNet {
        self.net
    }

    /// The last address that may be handed out: in IPv4 the one before the broadcast address.
    fn last(&self) -> u128 {
        match self.net {
            IpNet::V4(_) => last_offset(&self.net).saturating_sub(1),
            IpNet::V6(_) => last_offset(&self.net),
        }
    }

    /// Whether `address` is one of the range that a pod may have.
    pub(super) fn may_give(&self, address: IpAddr) -> bool {
        offset_of(&self.net, address).is_some_and(|offset| (FIRST..=self.last()).contains(&offset))
    }

    /// The next address of which `is_free` holds. Stays where it is until [`Range::pass`].
    pub(super) fn find(&self, is_free: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let last = self.last();
        if last < FIRST {
            return None;
        }
        let ahead = self.next.clamp(FIRST, last)..=last;
        let behind = FIRST..self.next.min(last);
        ahead.chain(behind).map(|offset| address_at(&self.net, offset)).find(|address| is_free(*address))
    }

    /// Goes on behind `address`, if that is of this range.
    pub(super) fn pass(&mut self, address: IpAddr) {
        if let Some(offset) = offset_of(&self.net, address) {
            self.next = if offset >= self.last() { FIRST } else { offset + 1 };
        }
    }
}
