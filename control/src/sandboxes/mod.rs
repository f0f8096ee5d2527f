//! What outlives the process about every attached sandbox: who has which address since when. The records are the leases: an address
//! is in use while a record holds it.
//!
//! # How it works
//! - **Attach:** [`Sandboxes::lease`] or [`Sandboxes::claim`] takes the addresses in memory, [`Sandboxes::keep`] puts the record on disk, and only
//!   then is the interface made: after a crash there may be a record without an interface, never the reverse.
//!   [`Sandboxes::give_back`] undoes both for an attach that failed (P07).
//! - **Detach:** [`Sandboxes::release`] lets the addresses *rest* and removes the record. A resting address is not handed out for the time of the
//!   quarantine, because other nodes may still believe that the old pod has it (B09); if nothing else is free, the one that has
//!   rested longest is. Who asks for an address by name gets it, resting or not.
//! - **Start:** records of another boot are dead, and so are those whose network namespace is gone or is another one; their addresses rest.
//!   All others hold theirs, whether their interface is still there or not, until the runtime says DEL or GC (B11). A file that
//!   cannot be read is set aside and told.
//!
//! Without a state folder all of it is forgotten with the process. It decides nothing about pods: what an address means is the
//! agent's affair.

mod files;
mod range;
mod record;
#[cfg(test)]
mod tests;

pub use record::{Bandwidth, PodName, PortMapping, RECORD_VERSION, Record, SandboxName};

use files::{Files, Found};
use ipnet::IpNet;
use range::Range;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How long a released address rests: several times what a change takes to reach every node of a large cluster.
pub const QUARANTINE: Duration = Duration::from_secs(60);

/// Addresses that may rest at once: those of 500 pods a second for a minute. Beyond that the oldest are free.
const RESTING_MAX: usize = 65_536;

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseError {
    /// All of these ranges are in use.
    Exhausted(Vec<IpNet>),
    /// There is no range at all.
    NoRange,
    /// The address that was asked for is in none of the ranges, or is the network, gateway or broadcast address of one.
    NotOurs(IpAddr, Vec<IpNet>),
    /// Two addresses of one family were asked for.
    OnePerFamily(IpAddr),
    /// Somebody has it.
    Taken(IpAddr, Option<SandboxName>),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseError::Exhausted(ranges) => write!(
                f,
                "all addresses of the node's pod ranges {} are in use: delete pods, or give the node larger spec.podCIDRs",
                list(ranges)
            ),
            LeaseError::NoRange => f.write_str("the node has no pod ranges (spec.podCIDRs)"),
            LeaseError::NotOurs(address, ranges) => write!(
                f,
                "the requested address {address} is not one of a pod on this node: its ranges are {}, of which the \
                 first two and (IPv4) the last address are nobody's",
                list(ranges)
            ),
            LeaseError::OnePerFamily(address) => {
                write!(f, "the requested address {address} is the second of its family: a pod has one of each")
            }
            LeaseError::Taken(address, Some(holder)) => write!(f, "the address {address} is in use by {holder}"),
            LeaseError::Taken(address, None) => write!(f, "the address {address} is in use by another pod"),
        }
    }
}

impl std::error::Error for LeaseError {}

fn list(ranges: &[IpNet]) -> String {
    ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The records of this node.
#[derive(Debug)]
pub struct Sandboxes {
    /// `None`: nothing is kept.
    files: Option<Files>,
    quarantine: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<SandboxName, Record>,
    /// Addresses in use, those of attaches under way too.
    holders: HashMap<IpAddr, SandboxName>,
    /// Since when.
    resting: HashMap<IpAddr, SystemTime>,
    ranges: Vec<Range>,
}

impl Sandboxes {
    /// The records below `state_dir`, as far as their sandboxes may still be there, and in words what was dropped or set aside.
    /// Without a folder there are none.
    pub fn open(
        state_dir: Option<&Path>,
        boot_id: &str,
        quarantine: Duration,
        now: SystemTime,
    ) -> io::Result<(Sandboxes, Vec<String>)> {
        let files = state_dir.map(Files::open).transpose()?;
        let Found { mut records, resting, mut problems } =
            files.as_ref().map(Files::read).transpose()?.unwrap_or_default();
        let sandboxes = Sandboxes { files, quarantine, state: Mutex::default() };
        sandboxes.lock().resting = resting.into_iter().collect();
        records.sort_by_cached_key(|record| (record.attached_unix_ms, record.sandbox()));
        for record in records {
            let reason = if record.boot_id != boot_id {
                Some("it is of an earlier boot")
            } else if inode(&record.netns) != Some(record.netns_inode) {
                Some("its network namespace is gone")
            } else {
                None
            };
            let name = record.sandbox();
            let mut state = sandboxes.lock();
            state.holders.extend(record.addresses.iter().map(|address| (*address, name.clone())));
            state.records.insert(name.clone(), record);
            drop(state);
            if let Some(reason) = reason {
                let failed = sandboxes.release(&name, now).1;
                let failed = failed.map(|error| format!("; {error}")).unwrap_or_default();
                problems.push(format!("{name} was dropped: {reason}{failed}"));
            }
        }
        Ok((sandboxes, problems))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panics with the lock held leaves at worst an address that is held by nobody until the next start.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the pod ranges of this node; addresses outside that are held stay held.
    pub fn set_ranges(&self, ranges: &[IpNet]) {
        let mut state = self.lock();
        if state.ranges.iter().map(Range::net).eq(ranges.iter().map(IpNet::trunc)) {
            return;
        }
        let mut fresh: Vec<Range> = ranges.iter().map(|net| Range::new(*net)).collect();
        let mut by_age: Vec<&Record> = state.records.values().collect();
        by_age.sort_by_key(|record| record.attached_unix_ms);
        for address in by_age.iter().flat_map(|record| &record.addresses) {
            fresh.iter_mut().for_each(|range| range.pass(*address));
        }
        state.ranges = fresh;
    }

    /// Takes one address of each family that the node has ranges of for a sandbox: those that are `wanted`, else the next free ones.
    /// `is_taken` tells of addresses that others have, who have no record here.
    pub fn lease(
        &self,
        name: &SandboxName,
        wanted: &[IpAddr],
        now: SystemTime,
        is_taken: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, LeaseError> {
        let mut state = self.lock();
        let state = &mut *state;
        self.wake(state, now);
        let ranges: Vec<IpNet> = state.ranges.iter().map(Range::net).collect();
        if ranges.is_empty() {
            return Err(LeaseError::NoRange);
        }
        for (position, address) in wanted.iter().enumerate() {
            if wanted[..position].iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
                return Err(LeaseError::OnePerFamily(*address));
            }
            if !state.ranges.iter().any(|range| range.may_give(*address)) {
                return Err(LeaseError::NotOurs(*address, ranges));
            }
            if state.is_held_by_another(*address, name) || is_taken(*address) {
                return Err(LeaseError::Taken(*address, state.holders.get(address).cloned()));
            }
        }
        let mut leased = Vec::new();
        for is_ipv4 in [true, false] {
            let of_family: Vec<usize> =
                (0..ranges.len()).filter(|range| ranges[*range].addr().is_ipv4() == is_ipv4).collect();
            if of_family.is_empty() {
                continue;
            }
            let wanted = wanted.iter().find(|address| address.is_ipv4() == is_ipv4).copied();
            let found = wanted.or_else(|| state.next(&of_family, &is_taken));
            let Some(address) = found else {
                return Err(LeaseError::Exhausted(of_family.iter().map(|range| ranges[*range]).collect()));
            };
            leased.push(address);
        }
        for address in &leased {
            state.holders.insert(*address, name.clone());
            state.ranges.iter_mut().for_each(|range| range.pass(*address));
        }
        Ok(leased)
    }

    /// Takes addresses that somebody else chose for a sandbox, wherever they are.
    pub fn claim(&self, name: &SandboxName, addresses: &[IpAddr]) -> Result<(), LeaseError> {
        let mut state = self.lock();
        for address in addresses {
            if state.is_held_by_another(*address, name) {
                return Err(LeaseError::Taken(*address, state.holders.get(address).cloned()));
            }
        }
        state.holders.extend(addresses.iter().map(|address| (*address, name.clone())));
        Ok(())
    }

    /// Whether a sandbox could get addresses: `None`, or why not.
    pub fn refuse(&self, now: SystemTime, is_taken: impl Fn(IpAddr) -> bool) -> Option<LeaseError> {
        let mut state = self.lock();
        self.wake(&mut state, now);
        if state.ranges.is_empty() {
            return Some(LeaseError::NoRange);
        }
        [true, false].into_iter().find_map(|is_ipv4| {
            let nets = state.ranges.iter().map(Range::net).enumerate();
            let (of_family, nets): (Vec<usize>, Vec<IpNet>) =
                nets.filter(|(_, net)| net.addr().is_ipv4() == is_ipv4).unzip();
            let is_full = !of_family.is_empty() && state.next(&of_family, &is_taken).is_none();
            is_full.then_some(LeaseError::Exhausted(nets))
        })
    }

    /// Puts a record on disk whose addresses are taken already; on error nothing is left of them.
    pub fn keep(&self, record: Record) -> io::Result<()> {
        let written = self.files.as_ref().map_or(Ok(()), |files| files.write(&record));
        let name = record.sandbox();
        match written {
            Ok(()) => {
                let mut state = self.lock();
                // Of a record of this name that nobody ended, such as that of a process before.
                state.holders.retain(|address, holder| *holder != name || record.addresses.contains(address));
                state.records.insert(name, record);
                Ok(())
            }
            Err(error) => {
                self.give_back(&name);
                Err(error)
            }
        }
    }

    /// Undoes [`Sandboxes::lease`], [`Sandboxes::claim`] and [`Sandboxes::keep`] for a sandbox that was never connected: nobody has seen its addresses.
    pub fn give_back(&self, name: &SandboxName) {
        let mut state = self.lock();
        state.records.remove(name);
        state.holders.retain(|_, holder| holder != name);
        drop(state);
        // A file that stays is dropped at the next start, or with the next request about its name.
        let _ = self.files.as_ref().map(|files| files.remove(name));
    }

    /// Ends the record of a sandbox that is gone and lets its addresses rest; gives the record if there was one, and what of it
    /// could not be put on disk.
    pub fn release(&self, name: &SandboxName, now: SystemTime) -> (Option<Record>, Option<io::Error>) {
        let mut state = self.lock();
        let Some(record) = state.records.remove(name) else { return (None, None) };
        state.holders.retain(|_, holder| holder != name);
        let rests = !self.quarantine.is_zero();
        if rests {
            state.resting.extend(record.addresses.iter().map(|address| (*address, now)));
        }
        drop(state);
        let Some(files) = &self.files else { return (Some(record), None) };
        // On a full disk the record can still be removed, and that counts more.
        let rested = record.addresses.iter().filter(|_| rests).try_for_each(|address| files.rest(*address));
        let failed = files.remove(name).and(rested).err();
        (Some(record), failed)
    }

    /// The record of a sandbox.
    pub fn find(&self, name: &SandboxName) -> Option<Record> {
        self.lock().records.get(name).cloned()
    }

    /// All records, by name.
    pub fn all(&self) -> Vec<Record> {
        self.lock().records.values().cloned().collect()
    }

    /// Forgets who has rested long enough.
    fn wake(&self, state: &mut State, now: SystemTime) {
        let mut awake: Vec<IpAddr> = Vec::new();
        if state.resting.len() > RESTING_MAX {
            let mut by_age: Vec<(SystemTime, IpAddr)> = state.resting.iter().map(|(a, since)| (*since, *a)).collect();
            by_age.sort();
            awake.extend(by_age[..by_age.len() - RESTING_MAX].iter().map(|(_, address)| *address));
        }
        // A clock that was set back makes times of the future: those began now at the latest.
        let rested = |since: &SystemTime| now.duration_since(*since).unwrap_or_default() >= self.quarantine;
        awake.extend(state.resting.iter().filter(|(_, since)| rested(since)).map(|(address, _)| *address));
        for address in awake {
            state.resting.remove(&address);
            // A note that stays is read at the next start and taken away then.
            let _ = self.files.as_ref().map(|files| files.wake(address));
        }
    }
}

impl State {
    fn is_held_by_another(&self, address: IpAddr, name: &SandboxName) -> bool {
        self.holders.get(&address).is_some_and(|holder| holder != name)
    }

    /// The next address of some ranges: a free one that does not rest, else the one that has rested longest.
    fn next(&self, ranges: &[usize], is_taken: &impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let is_free = |address| !self.holders.contains_key(&address) && !is_taken(address);
        let rested = |address| is_free(address) && !self.resting.contains_key(&address);
        let of_ranges = || ranges.iter().map(|range| &self.ranges[*range]);
        let may_give = |address| of_ranges().any(|range| range.may_give(address));
        of_ranges().find_map(|range| range.find(rested)).or_else(|| {
            let resting = self.resting.iter().map(|(address, since)| (*since, *address));
            resting.filter(|(_, address)| may_give(*address) && is_free(*address)).min().map(|(_, address)| address)
        })
    }
}

/// The inode of a network namespace, or of whatever is at its path.
pub fn inode(netns: &Path) -> Option<u64> {
    fs::metadata(netns).ok().map(|metadata| metadata.ino())
}

/// The id of this boot; empty where the kernel does not say, which is the same at every start.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}
