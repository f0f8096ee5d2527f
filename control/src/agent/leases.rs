//! What is attached, as the tables have to know it: records of sandboxes laid over the objects of their pods.
//!
//! A record whose addresses this node chose, that has ports of the node, or that no object describes, becomes an
//! [`Attachment`] of its pod. Adds come in crowds, and each needs new tables: whoever gets the turn puts in force what all others wait
//! for too, so a hundred adds at once compile a few times.

use super::Agent;
use crate::api::{ApiError, ErrorCode};
use crate::log::{Level, event};
use crate::sandboxes::{self, PodName, PortMapping, Record, SandboxName};
use node::ClaimFailure;
use policy::cluster::{Attachment, HostPort, Key, StandIn};
use policy::selector::Labels;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use wire::Protocol;

/// What asks for the ports of a sandbox, in messages.
const PORT_MAPPINGS: &str = "portMappings";

impl Agent {
    /// Before there are tables: lays all records that outlived the process before over their pods.
    pub(super) fn know_attached(&self) {
        let pods: Vec<Key> = self.sandboxes.all().iter().map(|record| key_of(&record.pod)).collect();
        let attached = pods.into_iter().map(|key| (key.clone(), self.attachment_of(&key))).collect();
        self.intent().prepare(attached);
    }

    /// Ends the records of sandboxes that the plugin deleted while no node process was there.
    pub(super) fn end_deleted(&self) {
        for mark in ::cni::mark::read(&self.config.socket) {
            let name = SandboxName::new(&*mark.container_id, &*mark.ifname);
            let left_unix_ms = unix_ms(mark.left);
            // What was attached since is another sandbox that is called the same.
            let is_meant = self.sandboxes.find(&name).is_some_and(|record| record.attached_unix_ms <= left_unix_ms);
            if is_meant && let Err(error) = self.detach(&name.container_id, &name.ifname) {
                event(Level::Warn, "not detached", &[("what", &name), ("reason", &error)]);
                continue;
            }
            if let Err(error) = std::fs::remove_file(&mark.path) {
                event(Level::Warn, "a note stays", &[("file", &mark.path.display()), ("reason", &error)]);
            }
        }
    }

    /// Ends sandboxes of runtimes whose network namespace is gone and that nobody deleted, as `ctr` leaves them; how many.
    pub(super) fn end_vanished(&self) -> usize {
        let of_runtimes = self.sandboxes.all().into_iter().filter(|record| record.network.is_some());
        let vanished = of_runtimes.filter(|record| sandboxes::inode(&record.netns) != Some(record.netns_inode));
        vanished.filter(|record| self.detach(&record.container_id, &record.ifname).is_ok()).count()
    }

    /// Has the tables in force know what is attached of a pod; gives the ports of this node that cannot be had.
    pub(super) fn lay_over(&self, pod: &PodName) -> Result<Vec<ClaimFailure>, ApiError> {
        let failed = |error: &dyn std::fmt::Display| ApiError::new(ErrorCode::Failed, error.to_string());
        self.changed_pods().push(key_of(pod));
        let mut turn = self.turn();
        let mut keys = std::mem::take(&mut *self.changed_pods());
        if keys.is_empty() {
            // Somebody's turn that ended just now was for this one too.
            return Ok(turn.failures.clone());
        }
        keys.sort();
        keys.dedup();
        let attached: Vec<_> = keys.into_iter().map(|key| (key.clone(), self.attachment_of(&key))).collect();
        if turn.source.is_none() {
            self.intent().prepare(attached);
            return Err(self.not_ready(&self.lock()));
        }
        let began = Instant::now();
        let (tables, contradictions) = self.intent().attach(attached, self.next_epoch());
        let compile_took = began.elapsed();
        self.put_in_force(&mut turn, (tables, contradictions), (began, compile_took))
            .map_err(|error| failed(&error))?;
        Ok(turn.failures.clone())
    }

    fn changed_pods(&self) -> MutexGuard<'_, Vec<Key>> {
        self.changed_pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the records of a pod's sandboxes say beside its object. Of pods that had one name after each other the last counts.
    fn attachment_of(&self, key: &Key) -> Option<Attachment> {
        let mut records: Vec<Record> =
            self.sandboxes.all().into_iter().filter(|record| key_of(&record.pod) == *key).collect();
        records.sort_by_key(|record| record.attached_unix_ms);
        let last = records.last()?.pod.uid.clone();
        records.retain(|record| record.pod.uid == last);
        if !records.iter().any(says_something) {
            return None;
        }
        let leased = records.iter().any(|record| record.leased);
        let addresses: Vec<IpAddr> = records.iter().flat_map(|record| record.addresses.iter().copied()).collect();
        let implicit = records.iter().find_map(|record| record.implicit.as_ref());
        Some(Attachment {
            uid: last.map(Arc::from),
            addresses: if leased { addresses.into() } else { Box::default() },
            host_ports: records.iter().flat_map(host_ports_of).collect(),
            stand_in: implicit
                .map(|labels| StandIn { node: Arc::from(&*self.config.node_name), labels: Labels::from(labels) }),
        })
    }
}

/// Whether the tables have to know of a record.
pub(super) fn says_something(record: &Record) -> bool {
    record.leased || record.implicit.is_some() || !record.port_mappings.is_empty()
}

pub(super) fn key_of(pod: &PodName) -> Key {
    (Arc::from(&*pod.namespace), Arc::from(&*pod.name))
}

/// Ports of the node that a record asks for.
pub(super) fn host_ports_of(record: &Record) -> impl Iterator<Item = HostPort> + '_ {
    record.port_mappings.iter().filter_map(host_port)
}

fn host_port(mapping: &PortMapping) -> Option<HostPort> {
    let protocol = match mapping.protocol.as_str() {
        "tcp" => Protocol::TCP,
        "udp" => Protocol::UDP,
        "sctp" => Protocol::SCTP,
        _ => return None,
    };
    Some(HostPort {
        field: Arc::from(PORT_MAPPINGS),
        host_ip: mapping.host_ip,
        protocol,
        port: mapping.host_port,
        target: mapping.container_port,
    })
}

/// Milliseconds since 1970.
pub(super) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
