//! Whom to ask for a name, and in which order.
//!
//! The longest stub domain that holds a name has its servers; the others are asked of those for all names, which may come from a
//! resolv.conf that is read again when it changes. Servers are asked in the order in which they are listed, because that is what
//! both resolv.conf and people mean by an order. One that failed *rests*: while it does it is asked only after the others, longer
//! each time, until it answers.

use super::config::{ForwardConfig, Upstreams};
use domain::base::Name;
use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// Servers of one zone; glibc takes three, and what is asked of more comes too late for the client.
pub const SERVERS_MAX: usize = 8;

/// Stub domains; each is compared with every name that is asked for.
pub const STUB_DOMAINS_MAX: usize = 256;

/// Port of DNS servers that say no other one.
pub const DNS_PORT: u16 = 53;

/// Bytes of a resolv.conf that are read.
const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// How often at most the resolv.conf is looked at: a `stat` for each question would be felt.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a server rests after its first failure, and at most. The first is the time after which clients ask again, the
/// last that within which a server that came back is to be used again.
const REST_MIN: Duration = Duration::from_secs(5);
const REST_MAX: Duration = Duration::from_secs(60);

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    health: Mutex<Health>,
    /// Whether what it is asked comes back to the asker.
    loops: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    /// Failures since it last answered.
    failures: u32,
    rests_until: Option<Instant>,
}

impl Server {
    fn new(address: SocketAddr) -> Arc<Server> {
        Arc::new(Server { address, health: Mutex::default(), loops: AtomicBool::new(false) })
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// It answered.
    pub(super) fn handle_answer(&self) {
        *self.health() = Health::default();
    }

    /// It did not answer, or not in a way that can be used.
    pub(super) fn handle_failure(&self, now: Instant) {
        let mut health = self.health();
        let rest = REST_MIN.saturating_mul(1 << health.failures.min(16)).min(REST_MAX);
        health.failures = health.failures.saturating_add(1);
        health.rests_until = Some(now + rest);
    }

    /// It asks the asker.
    pub(super) fn handle_loop(&self) {
        self.loops.store(true, Ordering::Relaxed);
    }

    fn rests(&self, now: Instant) -> bool {
        self.health().rests_until.is_some_and(|until| now < until)
    }
}

/// The servers of one zone, in the order of their listing.
type Group = Vec<Arc<Server>>;

/// All servers.
#[derive(Debug)]
pub(super) struct Servers {
    /// Zones in wire form and lower case, the longest first.
    stubs: Vec<(Box<[u8]>, Group)>,
    own: Vec<SocketAddr>,
    resolv_conf: Option<Box<Path>>,
    others: Mutex<Others>,
}

/// The servers for all names.
#[derive(Debug, Default)]
struct Others {
    group: Group,
    looked: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
}

/// What a look at the resolv.conf found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Same,
    /// Other servers than before.
    Changed,
    /// There is nobody to ask, and why.
    Nobody(String),
}

impl Servers {
    /// The servers of a configuration that was checked.
    pub(super) fn new(config: &ForwardConfig) -> Servers {
        let group = |addresses: &[SocketAddr]| addresses.iter().map(|address| Server::new(*address)).collect::<Group>();
        let stub = |zone: &str| Name::<Vec<u8>>::from_str(zone).map(|name| name.as_slice().to_ascii_lowercase());
        let mut stubs: Vec<(Box<[u8]>, Group)> = Vec::new();
        for domain in &config.stub_domains {
            if let Ok(zone) = stub(&domain.zone) {
                stubs.push((zone.into(), group(&domain.upstreams)));
            }
        }
        stubs.sort_by_key(|(zone, _)| std::cmp::Reverse(zone.len()));
        let (others, resolv_conf) = match &config.upstreams {
            Upstreams::None => (Group::new(), None),
            Upstreams::Fixed(addresses) => (group(addresses), None),
            Upstreams::ResolvConf(path) => (Group::new(), Some(path.as_path().into())),
        };
        let others = Mutex::new(Others { group: others, ..Others::default() });
        Servers { stubs, own: config.own.clone(), resolv_conf, others }
    }

    /// The servers for a name in wire form and lower case, those that rest last; none for a name that nobody is asked for.
    pub(super) fn of(&self, name: &[u8], now: Instant) -> Vec<Arc<Server>> {
        let stub = self.stubs.iter().find(|(zone, _)| is_in(name, zone));
        let group = stub.map_or_else(|| lock(&self.others).group.clone(), |(_, group)| group.clone());
        let usable = group.into_iter().filter(|server| !server.loops.load(Ordering::Relaxed));
        let (resting, rested): (Group, Group) = usable.partition(|server| server.rests(now));
        rested.into_iter().chain(resting).collect()
    }

    /// All servers, each once.
    pub(super) fn all(&self) -> Vec<Arc<Server>> {
        let mut all: Group = Vec::new();
        let others = lock(&self.others).group.clone();
        for server in self.stubs.iter().flat_map(|(_, group)| group).chain(&others) {
            if !all.iter().any(|other| other.address == server.address) {
                all.push(server.clone());
            }
        }
        all
    }

    /// Reads the resolv.conf again, if there is one, it is time and it changed.
    pub(super) fn look(&self, now: Instant) -> Looked {
        let Some(path) = &self.resolv_conf else { return Looked::Same };
        let mut others = lock(&self.others);
        if others.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY) {
            return Looked::Same;
        }
        let is_first = others.looked.is_none();
        others.looked = Some(now);
        let stamp = fs::metadata(path).and_then(|metadata| Ok((metadata.modified()?, metadata.len()))).ok();
        if stamp == others.stamp && !is_first {
            return Looked::Same;
        }
        others.stamp = stamp;
        let addresses = match read(path) {
            // Whoever replaces the file may remove it first: the last servers stay.
            Err(_) if !others.group.is_empty() => return Looked::Same,
            Err(error) => return Looked::Nobody(format!("{}: {error}", path.display())),
            Ok(text) => nameservers(&text),
        };
        let usable: Vec<SocketAddr> = addresses.iter().filter(|address| !is_own(&self.own, address)).copied().collect();
        if usable.is_empty() {
            others.group.clear();
            let why =
                if addresses.is_empty() { "no nameserver in it" } else { "its only nameserver is this server itself" };
            return Looked::Nobody(format!("{}: {why}", path.display()));
        }
        if others.group.iter().map(|server| server.address).eq(usable.iter().copied()) {
            return Looked::Same;
        }
        others.group = usable.into_iter().map(Server::new).collect();
        Looked::Changed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Whether `name` is `zone` or below it.
fn is_in(name: &[u8], zone: &[u8]) -> bool {
    let Some(above) = name.len().checked_sub(zone.len()) else { return false };
    let mut position = 0;
    while position < above {
        position += usize::from(name[position]) + 1;
    }
    position == above && name[above..] == *zone
}

/// Whether a question to `address` would come back to a server that listens on `own`.
pub(super) fn is_own(own: &[SocketAddr], address: &SocketAddr) -> bool {
    own.iter().any(|own| {
        let everywhere = own.ip().is_unspecified() && own.is_ipv4() == address.is_ipv4() && address.ip().is_loopback();
        own.port() == address.port() && (own.ip() == address.ip() || everywhere)
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = Vec::new();
    fs::File::open(path)?.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The servers that a resolv.conf names, each once, no more than [`SERVERS_MAX`]. As resolv.conf(5), except that more than
/// three count.
pub(super) fn nameservers(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(address) = words.next().and_then(address)
            && !found.contains(&address)
            && found.len() < SERVERS_MAX
        {
            found.push(address);
        }
    }
    found
}

/// An address, perhaps with the interface of a link-local one (`fe80::1%eth0`).
fn address(text: &str) -> Option<SocketAddr> {
    let Some((text, interface)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT));
    };
    let index = || fs::read_to_string(Path::new("/sys/class/net").join(interface).join("ifindex")).ok();
    let is_name = !interface.contains('/') && interface != "..";
    let scope = interface.parse().ok().or_else(|| index().filter(|_| is_name)?.trim().parse().ok())?;
    Some(SocketAddrV6::new(text.parse().ok()?, DNS_PORT, 0, scope).into())
}

#[cfg(test)]
mod tests;
