//! Discarded packets in the shape of [`crate::api`]: counters, and the most recent ones with the words of policy for those that it
//! denies.

use super::{direction_text, endpoint};
use crate::agent::Agent;
use crate::api::{ApiError, Drop, RecentDrop};
use node::{Dataplane, PortInfo};
use policy::explain::{denial_text, would_deny_text};
use policy::tables::{FrontendKind, Owner, PodIndex, Question, Tables};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use switch::{DropReason, DropSeen, PortId, PortKind};
use wire::FlowKey;

/// What is said of a denial that the tables in force would not repeat.
const ALLOWED_SINCE: &str = "policy denied it; the policies that are in force now allow it";

/// The same of a dry run.
const NOT_DENIED_SINCE: &str = "a policy in dry run would have denied it; those that are in dry run now would not";

impl Agent {
    /// What was discarded, by reason, and what of late: since a moment in milliseconds since 1970 if one is given.
    pub(crate) fn drops(&self, since_unix_ms: Option<u64>) -> Result<Vec<Drop>, ApiError> {
        let (running, tables) = self.running()?;
        let ports: BTreeMap<PortId, String> = running.ports().iter().map(|port| (port.id, name_of(port))).collect();
        let view = View { tables: &tables, ports, now: SystemTime::now() };
        let mut recent: BTreeMap<DropReason, Vec<RecentDrop>> = BTreeMap::new();
        let is_asked_for = |seen: &DropSeen| since_unix_ms.is_none_or(|since| view.unix_ms(seen.last_ago) >= since);
        for seen in running.drops_seen().records.iter().filter(|seen| is_asked_for(seen)) {
            recent.entry(seen.reason).or_default().push(view.recent(seen));
        }
        let counted = counts(&running).into_iter().map(|(reason, count)| Drop {
            reason: reason.name().to_owned(),
            explanation: reason.explanation().to_owned(),
            count,
            recent: recent.remove(&reason).unwrap_or_default(),
        });
        Ok(counted.filter(|drop| drop.count > 0 || !drop.recent.is_empty()).collect())
    }

    /// Every reason with how many frames were discarded for it.
    pub(crate) fn drop_counts(&self) -> Result<Vec<(&'static str, u64)>, ApiError> {
        let (running, _) = self.running()?;
        Ok(counts(&running).into_iter().map(|(reason, count)| (reason.name(), count)).collect())
    }
}

/// Every reason with how many frames were discarded for it, by switches and shells.
fn counts(running: &Dataplane) -> Vec<(DropReason, u64)> {
    let counters = running.counters().switch;
    let total = counters.total();
    let count = |reason: DropReason| {
        let of_shell = counters.shell.iter().filter(|(other, _)| *other == reason).map(|(_, count)| count);
        total.drops_of(reason) + of_shell.sum::<u64>()
    };
    DropReason::ALL.iter().map(|reason| (*reason, count(*reason))).collect()
}

/// Whose a port is.
fn name_of(port: &PortInfo) -> String {
    match &port.kind {
        PortKind::Pod { namespace, name } => format!("{namespace}/{name}"),
        PortKind::Host => "node".to_owned(),
        PortKind::Uplink => "uplink".to_owned(),
    }
}

struct View<'a> {
    tables: &'a Tables,
    ports: BTreeMap<PortId, String>,
    now: SystemTime,
}

impl View<'_> {
    fn recent(&self, seen: &DropSeen) -> RecentDrop {
        let sent = seen.before.or(seen.flow);
        let last = seen.flow.filter(|last| seen.before.is_some_and(|before| before != *last));
        let source = |key: &FlowKey| (key.src(), key.src_port);
        let target = |key: &FlowKey| (key.dst(), key.dst_port);
        let moved = |end: fn(&FlowKey) -> (IpAddr, u16)| {
            last.map(|key| end(&key)).filter(|to| sent.map(|key| end(&key)) != Some(*to))
        };
        let end = |(address, port)| endpoint(address, port, self.tables);
        RecentDrop {
            reason: seen.reason.name().to_owned(),
            dry_run: seen.dry_run,
            count: seen.count,
            first_unix_ms: self.unix_ms(seen.first_ago),
            last_unix_ms: self.unix_ms(seen.last_ago),
            port: seen.port.map(|port| port.0),
            owner: seen.port.and_then(|port| self.ports.get(&port).cloned()),
            direction: seen.direction.map(|direction| direction_text(direction).to_owned()),
            protocol: sent.map(|key| key.protocol.to_string()),
            from: sent.map(|key| end(source(&key))),
            to: sent.map(|key| end(target(&key))),
            service: sent.and_then(|key| self.service(&key)),
            backend: moved(target).map(end),
            source: moved(source).map(end),
            why: self.why(seen),
        }
    }

    fn unix_ms(&self, ago: Duration) -> u64 {
        let at = self.now.checked_sub(ago).unwrap_or(UNIX_EPOCH);
        at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
    }

    /// Of a denial what policy says to it, else the sentence of the reason.
    fn why(&self, seen: &DropSeen) -> String {
        let asked = seen.asked().and_then(|asked| Some((asked, self.pod(asked.subject)?)));
        let Some((asked, subject)) = asked else { return seen.reason.explanation().to_owned() };
        let question = Question {
            direction: asked.direction,
            subject,
            peer: asked.peer,
            protocol: asked.protocol,
            port: asked.port,
            names: &[],
        };
        match seen.dry_run {
            true => would_deny_text(self.tables, &question).unwrap_or_else(|| NOT_DENIED_SINCE.to_owned()),
            false if self.tables.check(&question).allowed => ALLOWED_SINCE.to_owned(),
            false => denial_text(self.tables, &question),
        }
    }

    fn pod(&self, address: IpAddr) -> Option<PodIndex> {
        match self.tables.owner(address)? {
            Owner::Pod(pod) => Some(pod),
            Owner::Node(_) => None,
        }
    }

    fn service(&self, key: &FlowKey) -> Option<String> {
        let frontend = self.tables.find_service(key.dst(), key.protocol, key.dst_port)?;
        let service = self.tables.service_entry(frontend.service);
        (frontend.kind != FrontendKind::HostPort).then(|| format!("{}/{}", service.namespace, service.name))
    }
}
