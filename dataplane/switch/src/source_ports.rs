//! Which source ports the flows have that leave with the node's own address (P03, S15).
//!
//! Only ports that the shell has taken from the kernel are given out ([`SourcePorts::grant`]); the kernel would answer for any
//! other. A port may serve many flows, one per destination (address, port, protocol): that keeps every flow's answers apart
//! and lets each destination have as many flows as there are ports. So there is a list of used ports per destination, a short
//! vector at first and a bitmap when it grows. A search starts at a port that others cannot guess (RFC 6056) and takes the
//! next free one; with a bitmap that is at most one look at each of 1,024 words, however few are free. A port is refused only
//! when all are taken.
//!
//! When a destination has used up three quarters of what there is, more is wanted: the shell learns of it once and grants
//! more in its own time. Echo identifiers need no claim and are all there from the start.

use hashbrown::HashMap;
use std::ops::RangeInclusive;
use wire::{FlowKey, Protocol};

/// Words of a bitmap of all ports.
const WORDS: usize = 1 << 10;

/// Used ports of one destination that a vector holds; a bitmap takes 8 KiB, so at most 32 bytes per flow.
const FEW_MAX: usize = 256;

/// Source ports of one protocol at the node's address of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourcePool {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Whether it is of the IPv4 address; else of the IPv6 one.
    pub is_ipv4: bool,
}

/// A set of ports.
#[derive(Clone, Debug)]
struct Bitmap(Box<[u64; WORDS]>);

impl Bitmap {
    fn empty() -> Bitmap {
        Bitmap(Box::new([0; WORDS]))
    }

    fn has(&self, port: u16) -> bool {
        self.0[usize::from(port / 64)] & (1 << (port % 64)) != 0
    }

    fn set(&mut self, port: u16) {
        self.0[usize::from(port / 64)] |= 1 << (port % 64);
    }

    fn clear(&mut self, port: u16) {
        self.0[usize::from(port / 64)] &= !(1 << (port % 64));
    }

    /// The first port from `start` on, around the end, that is in this set and that `used` does not name; at most one look per
    /// word and one more.
    fn next(&self, start: u16, used: impl Fn(usize) -> u64) -> Option<u16> {
        let first = usize::from(start / 64);
        (0..=WORDS).find_map(|n| {
            let at = (first + n) % WORDS;
            let mask = match n {
                0 => u64::MAX << (start % 64),
                WORDS => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let free = self.0[at] & !used(at) & mask;
            (free != 0).then(|| (at * 64) as u16 + free.trailing_zeros() as u16)
        })
    }
}

/// Used ports of one destination.
#[derive(Clone, Debug)]
enum Used {
    Few(Vec<u16>),
    Many(Bitmap, u32),
}

impl Used {
    fn len(&self) -> u32 {
        match self {
            Used::Few(ports) => ports.len() as u32,
            Used::Many(_, len) => *len,
        }
    }

    fn word(&self, at: usize) -> u64 {
        match self {
            Used::Few(ports) => {
                ports.iter().filter(|port| usize::from(**port / 64) == at).fold(0, |word, port| word | 1 << (port % 64))
            }
            Used::Many(bitmap, _) => bitmap.0[at],
        }
    }

    fn add(&mut self, port: u16) {
        match self {
            Used::Few(ports) if ports.len() < FEW_MAX => ports.push(port),
            Used::Few(ports) => {
                let mut bitmap = Bitmap::empty();
                ports.iter().chain([&port]).for_each(|port| bitmap.set(*port));
                *self = Used::Many(bitmap, FEW_MAX as u32 + 1);
            }
            Used::Many(bitmap, len) => {
                debug_assert!(!bitmap.has(port), "a port is given out once");
                bitmap.set(port);
                *len += 1;
            }
        }
    }

    fn remove(&mut self, port: u16) {
        match self {
            Used::Few(ports) => {
                if let Some(at) = ports.iter().position(|used| *used == port) {
                    ports.swap_remove(at);
                }
            }
            Used::Many(bitmap, len) => {
                debug_assert!(bitmap.has(port), "a port is given back once");
                bitmap.clear(port);
                *len -= 1;
            }
        }
    }
}

/// The ports of one pool.
#[derive(Debug)]
struct Granted {
    pool: SourcePool,
    ports: Bitmap,
    len: u32,
    /// Whether more are wanted, and whether the shell knows.
    wanted: bool,
    told: bool,
    /// The shell will grant more when it is told.
    grows: bool,
}

impl Granted {
    fn new(pool: SourcePool) -> Granted {
        let mut granted = Granted { pool, ports: Bitmap::empty(), len: 0, wanted: false, told: false, grows: false };
        if !pool.protocol.has_ports() {
            // Echo identifiers. Zero is not told apart from none.
            granted.grant(1..=u16::MAX);
        }
        granted
    }

    fn grant(&mut self, ports: RangeInclusive<u16>) {
        for port in ports.filter(|port| *port != 0) {
            if !self.ports.has(port) {
                self.ports.set(port);
                self.len += 1;
            }
        }
        (self.wanted, self.told) = (false, false);
    }
}

/// The source ports of the flows in one table.
#[derive(Debug, Default)]
pub(crate) struct SourcePorts {
    granted: Vec<Granted>,
    /// By the key of the answers, without the port that was given.
    used: HashMap<FlowKey, Used>,
    /// Whether any pool is wanted and not told.
    news: bool,
}

fn destination(reply: &FlowKey) -> FlowKey {
    let mut destination = *reply;
    destination.dst_port = 0;
    destination
}

fn pool_of(reply: &FlowKey) -> SourcePool {
    SourcePool { protocol: reply.protocol, is_ipv4: reply.dst().is_ipv4() }
}

impl SourcePorts {
    /// Adds `ports` to a pool.
    pub(crate) fn grant(&mut self, pool: SourcePool, ports: RangeInclusive<u16>) {
        self.pool_mut(pool).grant(ports);
    }

    /// Notes whether more can be granted to a pool.
    pub(crate) fn set_growing(&mut self, pool: SourcePool, grows: bool) {
        self.pool_mut(pool).grows = grows;
    }

    /// Whether the pool of a flow with answers `reply` will have more.
    pub(crate) fn is_growing(&self, reply: &FlowKey) -> bool {
        let pool = pool_of(reply);
        self.granted.iter().any(|granted| granted.pool == pool && granted.grows)
    }

    /// Whether packets with `key` go to a port that may be given out.
    pub(crate) fn may_be_answer(&self, key: &FlowKey) -> bool {
        let pool = pool_of(key);
        self.granted.iter().any(|granted| granted.pool == pool && granted.ports.has(key.dst_port))
    }

    /// A pool that wants more ports; each is told once per grant.
    pub(crate) fn take_wanted(&mut self) -> Option<SourcePool> {
        if !self.news {
            return None;
        }
        let wanted = self.granted.iter_mut().find(|granted| granted.wanted && !granted.told);
        self.news = wanted.is_some();
        wanted.map(|granted| {
            granted.told = true;
            granted.pool
        })
    }

    /// Gives a port to a flow whose answers have key `reply`, but for its destination port: the first free one from `start` on.
    /// `None` if all are in use.
    pub(crate) fn lease(&mut self, reply: &FlowKey, start: u16) -> Option<u16> {
        let pool = pool_of(reply);
        let destination = destination(reply);
        let in_use = self.used.get(&destination).map_or(0, Used::len);
        let granted = self.pool_mut(pool);
        let is_scarce = pool.protocol.has_ports() && in_use + 1 > granted.len - granted.len / 4;
        let is_news = is_scarce && !granted.wanted;
        granted.wanted |= is_scarce;
        if in_use >= granted.len {
            self.news |= is_news;
            return None;
        }
        self.news |= is_news;
        let used = self.used.entry(destination).or_insert_with(|| Used::Few(Vec::new()));
        let granted = self.granted.iter().find(|granted| granted.pool == pool)?;
        let port = granted.ports.next(start, |at| used.word(at))?;
        used.add(port);
        Some(port)
    }

    /// Notes that a flow with answers `reply` has its port from before, whether that has been granted again or not.
    pub(crate) fn reserve(&mut self, reply: &FlowKey) {
        self.used.entry(destination(reply)).or_insert_with(|| Used::Few(Vec::new())).add(reply.dst_port);
    }

    /// Takes back the port that the flow with answers `reply` had.
    pub(crate) fn release(&mut self, reply: &FlowKey) {
        let destination = destination(reply);
        if let Some(used) = self.used.get_mut(&destination) {
            used.remove(reply.dst_port);
            if used.len() == 0 {
                self.used.remove(&destination);
            }
        }
    }

    /// The next granted port from `start` on, used or not.
    pub(crate) fn next_granted(&self, reply: &FlowKey, start: u16) -> Option<u16> {
        let pool = pool_of(reply);
        self.granted.iter().find(|granted| granted.pool == pool)?.ports.next(start, |_| 0)
    }

    fn pool_mut(&mut self, pool: SourcePool) -> &mut Granted {
        let at = self.granted.iter().position(|granted| granted.pool == pool).unwrap_or_else(|| {
            self.granted.push(Granted::new(pool));
            self.granted.len() - 1
        });
        &mut self.granted[at]
    }
}

#[cfg(test)]
mod tests;
