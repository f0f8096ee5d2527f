//! The DNS names that a pod knows addresses by, learned from the answers that it gets (domainNames, N18, NPEP-133).
//!
//! **Which answers.** Datagrams that come back from UDP port 53 in a flow that the pod opened and policy let through, whole ones, and
//! only if a rule that concerns the pod names DNS names at all. The server must be one to believe, or a pod would open itself the
//! way to any address with a name server of its own: a pod labelled `k8s-app: kube-dns` in namespace kube-system, or an address in
//! [`crate::SwitchConfig::trusted_dns`]. Answers over TCP are not read. What the node's own cluster DNS answers is heard before it is
//! sent, over TCP too ([`hear_from_cluster_dns`]). Nothing is filtered: an answer always passes, read or not.
//!
//! **What is learned.** The name of the question, if a rule of the pod names it, for each address that the answer leads it to, along CNAMEs in
//! that one answer; the names on the way are not. Each address has the time to live of its own record and of those on the
//! way, one second at least.
//!
//! **How long.** A flow that opens is judged with the names whose time is not up. One that is judged again has those whose time was not
//! up when it was opened, so it survives its name, and the node process with both. For that, a name stays when its time is up, until its place is needed: a port
//! holds [`NAMES_MAX`] pairs of name and address, and gives up those first whose time was up first.

mod answer;

use crate::path::Context;
use crate::ports::Port;
use answer::Answer;
use hashbrown::HashMap;
use policy::tables::{Owner, PodIndex};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::{FlowKey, Fragment, Instant, Packet, Protocol};

/// Pairs of name and address that a port holds. A name may well have a hundred addresses (NPEP-133), and a pod some dozens of them.
const NAMES_MAX: usize = 16_384;

/// Names that are held for one address: a verdict looks at each. Addresses of large providers have many.
const NAMES_PER_ADDRESS_MAX: usize = 64;

/// What no record goes below: who asks must have the time to connect.
const TTL_MIN: Duration = Duration::from_secs(1);

/// Where name servers listen.
pub(crate) const DNS_PORT: u16 = 53;

/// Labels and namespace of the cluster's own name servers.
const CLUSTER_DNS: (&str, &str, &str) = ("kube-system", "k8s-app", "kube-dns");

/// What was learned, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamesCount {
    /// Pairs of name and address that are held.
    pub held: u64,
    /// Pairs that were learned, or whose time was prolonged.
    pub learned: u64,
    /// Pairs that were given up for want of room.
    pub forgotten: u64,
    /// Answers that could not be read.
    pub unreadable: u64,
}

impl NamesCount {
    /// Adds the counts of another port or switch.
    pub fn add(&mut self, other: NamesCount) {
        self.held += other.held;
        self.learned += other.learned;
        self.forgotten += other.forgotten;
        self.unreadable += other.unreadable;
    }
}

/// The names that one pod knows.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_address: HashMap<IpAddr, Known>,
    by_time: BTreeSet<(Instant, IpAddr, Arc<str>)>,
    count: NamesCount,
    /// Whether something was learned since somebody looked.
    has_news: bool,
}

/// Names of an address, and when the time of each is up, the last first.
#[derive(Debug, Default)]
struct Known {
    names: Vec<Arc<str>>,
    until: Vec<Instant>,
}

impl Names {
    /// The names of `addr` whose time is not up at `at`.
    pub(crate) fn of(&self, addr: IpAddr, at: Instant) -> &[Arc<str>] {
        let Some(known) = self.by_address.get(&addr) else { return &[] };
        &known.names[..known.until.partition_point(|until| *until > at)]
    }

    pub(crate) fn count(&self) -> NamesCount {
        NamesCount { held: self.by_time.len() as u64, ..self.count }
    }

    /// Notes that `addr` is called `name` until then, or longer if that was known.
    fn learn(&mut self, addr: IpAddr, name: &Arc<str>, mut until: Instant) {
        if let Some(before) = self.forget(addr, name) {
            until = until.max(before);
        }
        let known = self.by_address.entry(addr).or_default();
        if known.names.len() >= NAMES_PER_ADDRESS_MAX
            && let Some((first, name)) = known.until.last().copied().zip(known.names.last().cloned())
        {
            self.give_up((first, addr, name));
        }
        if self.by_time.len() >= NAMES_MAX
            && let Some(first) = self.by_time.first().cloned()
        {
            self.give_up(first);
        }
        let known = self.by_address.entry(addr).or_default();
        let at = known.until.partition_point(|other| *other > until);
        known.until.insert(at, until);
        known.names.insert(at, name.clone());
        self.by_time.insert((until, addr, name.clone()));
        self.count.learned += 1;
        self.has_news = true;
    }

    /// Whether something was learned since the last [`Names::take_news`].
    pub(crate) fn has_news(&self) -> bool {
        self.has_news
    }

    /// All that is known, if something was learned since the last call: until when an address is called so, in that order.
    pub(crate) fn take_news(&mut self) -> Option<impl Iterator<Item = (Instant, IpAddr, &str)>> {
        std::mem::take(&mut self.has_news)
            .then(|| self.by_time.iter().map(|(until, addr, name)| (*until, *addr, &**name)))
    }

    /// Knows what was known before.
    pub(crate) fn restore<'a>(&mut self, known: impl Iterator<Item = (Instant, IpAddr, &'a str)>) {
        let mut last: Option<Arc<str>> = None;
        for (until, addr, name) in known {
            let name = last.take().filter(|last| **last == *name).unwrap_or_else(|| Arc::from(name));
            self.learn(addr, &name, until);
            last = Some(name);
        }
        self.has_news = false;
    }

    fn give_up(&mut self, (_, addr, name): (Instant, IpAddr, Arc<str>)) {
        self.forget(addr, &name);
        self.count.forgotten += 1;
    }

    /// Until when `addr` was known as `name`, which it is no more.
    fn forget(&mut self, addr: IpAddr, name: &Arc<str>) -> Option<Instant> {
        let known = self.by_address.get_mut(&addr)?;
        let at = known.names.iter().position(|known| known == name)?;
        let until = known.until.remove(at);
        known.names.remove(at);
        if known.names.is_empty() {
            self.by_address.remove(&addr);
        }
        self.by_time.remove(&(until, addr, name.clone()));
        Some(until)
    }
}

/// Whether the answers of a flow that `port` opened, packets `reply`, teach names.
pub(crate) fn teaches(cx: &Context<'_>, port: &Port, reply: &FlowKey) -> bool {
    reply.protocol == Protocol::UDP
        && reply.src_port == DNS_PORT
        && port.pod.is_some_and(|pod| cx.tables.policy.reads_names(pod))
        && is_trusted(cx, reply.src())
}

/// Whether the name server at `addr` is believed.
fn is_trusted(cx: &Context<'_>, addr: IpAddr) -> bool {
    let (namespace, label, value) = CLUSTER_DNS;
    let is_cluster_dns = match cx.tables.policy.owner(addr) {
        Some(Owner::Pod(pod)) => {
            let pod = cx.tables.policy.pod(pod);
            *pod.namespace == *namespace && pod.labels.get(label) == Some(value)
        }
        _ => false,
    };
    is_cluster_dns || cx.config.trusted_dns.iter().any(|cidr| cidr.contains(&addr))
}

/// Learns from a packet of a flow that teaches names.
#[cold]
pub(crate) fn hear(cx: &Context<'_>, port: &mut Port, packet: &Packet, bytes: &[u8]) {
    let payload = bytes.get(usize::from(packet.payload_offset)..packet.end as usize).unwrap_or_default();
    if let Some(pod) = port.pod.filter(|_| packet.fragment == Fragment::Whole) {
        learn(cx, port, pod, answer::read_datagram(payload));
    }
}

/// Learns from an answer of the node's own cluster DNS to the pod at `port`.
#[inline]
pub(crate) fn hear_from_cluster_dns(cx: &Context<'_>, port: &mut Port, message: &[u8]) {
    if let Some(pod) = port.pod.filter(|pod| cx.tables.policy.reads_names(*pod)) {
        learn(cx, port, pod, answer::read(message));
    }
}

#[cold]
fn learn(cx: &Context<'_>, port: &mut Port, pod: PodIndex, read: Result<Option<Answer>, answer::Unreadable>) {
    let answer = match read {
        Ok(Some(answer)) => answer,
        Ok(None) => return,
        Err(answer::Unreadable) => return port.names.count.unreadable += 1,
    };
    let Answer { name, addresses } = answer;
    if cx.tables.policy.reads_name(pod, &name) {
        for (addr, ttl) in addresses {
            port.names.learn(addr, &name, cx.now + ttl.max(TTL_MIN));
        }
    }
}

#[cfg(test)]
mod tests;
