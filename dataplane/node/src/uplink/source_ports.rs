//! Source ports of this node's address for pods' flows to the outside, taken from the kernel for good.
//!
//! Each port that the switch may give out is held by a socket of both families at once that nobody reads: a TCP listener whose
//! filter takes nothing, or a UDP socket with the smallest of receive buffers, which is full at once. So the kernel answers
//! nothing that comes back, and gives the port to nobody else. A port costs the kernel 10 KiB (TCP; 4 of them for the filter) or
//! 4 KiB (UDP), measured on Linux 6.18. The first ports are claimed at start, more when the switch wants them: as many again
//! as there are, a batch at a time, so that the keeper stays responsive.
//!
//! Sixty thousand sockets are more than a process may have by default. So they are held by threads ([`Holder`]) that have a table
//! of descriptors of their own each, to which the limit applies anew; the process's own table has room for everything else.
//!
//! In which order: ports above the range that the kernel chooses from, that range itself but for a reserve for the node's own
//! connections, then downwards from below the nodePorts. Ports of others are skipped, as nobody can hold a port twice.

use super::bpf;
use crate::sys::limits;
use crossbeam_channel::{Receiver, Sender, bounded};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::thread::JoinHandle;
use wire::Protocol;

/// Ports that a fresh pool gets at once: three quarters of them are gone before more are wanted, and the rest lasts some
/// milliseconds of the fastest opener. The kernel spends 7 MiB on those of both protocols.
const FIRST: usize = 512;

/// Ports claimed at a time at first, some milliseconds of work; a quarter of what there is later.
const BATCH: usize = 256;

/// Ports of the kernel's own range that are left to the node's processes.
const RESERVE: u16 = 1_024;

/// A holder's thread calls nothing deep.
const HOLDER_STACK_BYTES: usize = 128 * 1024;

/// The default of `--service-node-port-range`; nodePorts are claimed one by one.
const NODE_PORTS: RangeInclusive<u16> = 30_000..=32_767;

/// First port that is not for privileged programs.
const UNPRIVILEGED: u16 = 1_024;

/// Ports that other parts of a node bind whenever they start, possibly after us: etcd, the API server, kubelet, kube-proxy's
/// health, controller manager, scheduler, overlays, node exporters.
const OF_NODE_COMPONENTS: [RangeInclusive<u16>; 7] =
    [2_379..=2_381, 4_789..=4_790, 6_443..=6_443, 8_472..=8_472, 9_099..=9_100, 10_248..=10_259, 15_000..=15_099];

/// Threads that hold ports of one protocol; at the usual hard limits (4,096 and more) they hold all that there are.
const HOLDERS_MAX: usize = 16;

/// Ports that are held where a thread cannot have descriptors of its own.
const WITHOUT_OWN_TABLE_MAX: usize = 256;

/// The candidates of one protocol, in order, and what is held.
#[derive(Debug)]
pub(crate) struct SourcePorts {
    protocol: Protocol,
    /// The next one last.
    candidates: Vec<u16>,
    /// How many are held.
    len: usize,
    /// All but the last one are full.
    holders: Vec<Holder>,
    /// There is no more to be had.
    is_final: bool,
    /// Ports still to be claimed of those that are wanted.
    wanted: usize,
    /// How many of the next candidates have to be claimed before anything else: flows have them.
    first: usize,
}

/// The ports to try, in order. Pure. `local` is the kernel's own range (`ip_local_port_range`).
pub(crate) fn candidates(only: Option<RangeInclusive<u16>>, local: RangeInclusive<u16>) -> Vec<u16> {
    if let Some(only) = only {
        return only.filter(|port| *port != 0).collect();
    }
    let allowed =
        |port: &u16| !NODE_PORTS.contains(port) && !OF_NODE_COMPONENTS.iter().any(|range| range.contains(port));
    let above = local.end().saturating_add(1)..=u16::MAX;
    let above = if *local.end() == u16::MAX { None } else { Some(above) };
    let kept = local.end().saturating_sub(RESERVE);
    let own = *local.start()..=kept.max(*local.start());
    let below = (UNPRIVILEGED..*local.start()).rev();
    above.into_iter().flatten().chain(own).chain(below).filter(allowed).collect()
}

/// The range from which the kernel chooses ports of its own.
pub(crate) fn local_range() -> RangeInclusive<u16> {
    let parse = |text: String| {
        let mut ends = text.split_whitespace().map(|end| end.parse().ok());
        Some(ends.next()??..=ends.next()??)
    };
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    // The kernel's default.
    text.and_then(parse).unwrap_or(32_768..=60_999)
}

impl SourcePorts {
    /// Nothing held yet.
    pub(crate) fn new(protocol: Protocol, mut candidates: Vec<u16>) -> SourcePorts {
        candidates.reverse();
        SourcePorts { protocol, candidates, len: 0, holders: Vec::new(), is_final: false, wanted: 0, first: 0 }
    }

    /// Puts `ports` before all others, also those that are not among the candidates.
    pub(crate) fn want_first(&mut self, ports: BTreeSet<u16>) {
        self.candidates.retain(|port| !ports.contains(port));
        self.first = ports.len();
        self.wanted += ports.len();
        self.candidates.extend(ports);
    }

    /// Whether some of the first ones have not been tried yet, and can be.
    pub(crate) fn lacks_first(&self) -> bool {
        self.first > 0 && self.is_busy() && !self.is_final
    }

    /// Notes that the switch wants more: as many again as there are.
    pub(crate) fn want_more(&mut self) {
        if self.wanted == self.first {
            self.wanted += self.len.max(FIRST);
        }
    }

    /// Whether there is something to claim.
    pub(crate) fn is_busy(&self) -> bool {
        self.wanted > 0 && !self.candidates.is_empty()
    }

    /// Whether no more can be claimed: all ports are held, or the machine gives no more sockets.
    pub(crate) fn is_final(&self) -> bool {
        self.is_final
    }

    /// How many are held.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Claims at most a batch; gives the ports that were claimed.
    pub(crate) fn claim(&mut self) -> Vec<u16> {
        // A large pool is used fast, and each batch costs two switches of threads.
        let batch = BATCH.max(self.len / 4).min(self.wanted).min(self.candidates.len());
        let mut order = self.candidates.split_off(self.candidates.len() - batch);
        self.first = self.first.saturating_sub(batch);
        let mut held = Vec::new();
        // Twice: where the thread in use has no more room, a fresh one has.
        for _ in 0..2 {
            if self.holders.last().is_none_or(|holder| holder.is_full) {
                let fresh = (self.holders.len() < HOLDERS_MAX).then(|| Holder::new(self.protocol)).flatten();
                let Some(fresh) = fresh else { break };
                self.holders.push(fresh);
            }
            let Some(holder) = self.holders.last_mut() else { break };
            let outcome = holder.hold(order);
            held.extend(outcome.held);
            order = outcome.left;
            if order.is_empty() {
                break;
            }
            holder.is_full = true;
        }
        self.len += held.len();
        self.wanted -= held.len();
        if held.is_empty() && !order.is_empty() {
            self.wanted = 0;
            self.is_final = true;
        }
        self.candidates.extend(order);
        self.is_final |= self.candidates.is_empty();
        held
    }
}

/// Whether the process may open no more.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

/// A thread that holds sockets and does nothing else. Dropping it closes them.
#[derive(Debug)]
struct Holder {
    orders: Option<Sender<Vec<u16>>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
    /// There was no descriptor left.
    is_full: bool,
}

/// What became of an order, next one last.
#[derive(Debug, Default)]
struct Outcome {
    held: Vec<u16>,
    /// For these there was no descriptor.
    left: Vec<u16>,
}

impl Holder {
    /// `None` if there are no more threads to be had.
    fn new(protocol: Protocol) -> Option<Holder> {
        let (orders, inbox) = bounded(1);
        let (outbox, outcomes) = bounded(1);
        let work = move || serve(protocol, &inbox, &outbox);
        let builder = std::thread::Builder::new().name("podplane-ports".to_owned()).stack_size(HOLDER_STACK_BYTES);
        Some(Holder { orders: Some(orders), outcomes, thread: Some(builder.spawn(work).ok()?), is_full: false })
    }

    /// Holds what can be held of `ports`, from the last one on.
    fn hold(&self, ports: Vec<u16>) -> Outcome {
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(ports).is_ok());
        if sent { self.outcomes.recv().unwrap_or_default() } else { Outcome::default() }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The life of a holder's thread.
fn serve(protocol: Protocol, orders: &Receiver<Vec<u16>>, outcomes: &Sender<Outcome>) {
    let max = if limits::leave_descriptors().is_ok() { usize::MAX } else { WITHOUT_OWN_TABLE_MAX };
    let mut sockets = Vec::new();
    for mut order in orders {
        let mut held = Vec::new();
        while let Some(port) = order.pop() {
            match hold(protocol, port) {
                Ok(socket) if sockets.len() < max => {
                    sockets.push(socket);
                    held.push(port);
                }
                Err(error) if !is_exhausted(&error) => {
                    // Somebody else's, or not allowed to us.
                }
                _ => {
                    order.push(port);
                    break;
                }
            }
        }
        if outcomes.send(Outcome { held, left: order }).is_err() {
            return;
        }
    }
}

/// A socket that has `port` at all addresses of both families (of IPv4 alone where there is no IPv6) and takes nothing.
fn hold(protocol: Protocol, port: u16) -> io::Result<Socket> {
    let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    match hold_at(protocol, Domain::IPV6, both) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            hold_at(protocol, Domain::IPV4, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    }
}

fn hold_at(protocol: Protocol, family: Domain, at: SocketAddr) -> io::Result<Socket> {
    let kind = if protocol == Protocol::TCP { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(family, kind, None)?;
    if family == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    if protocol == Protocol::TCP {
        bpf::attach(&socket, &bpf::take_nothing())?;
        socket.bind(&SockAddr::from(at))?;
        // A port that is only bound would be answered with a reset.
        socket.listen(1)?;
    } else {
        socket.set_recv_buffer_size(0)?;
        socket.bind(&SockAddr::from(at))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_range_comes_second_and_keeps_a_reserve() {
        let ports = candidates(None, 32_768..=60_999);
        assert_eq!(ports[0], 61_000);
        assert_eq!(ports[4_535], 65_535);
        assert_eq!(ports[4_536], 32_768);
        assert!(!ports.contains(&60_500), "left to the node's processes");
        assert!(ports.contains(&29_999) && ports.contains(&1_024));
        for taken in [30_000, 32_767, 4_789, 6_443, 10_250, 80] {
            assert!(!ports.contains(&taken), "{taken}");
        }
        assert!(ports.len() > 60_000, "60,000 flows to one destination need as many ports: {}", ports.len());
    }

    #[test]
    fn a_range_that_is_asked_for_is_kept_to() {
        assert_eq!(candidates(Some(0..=2), 32_768..=60_999), [1, 2]);
        assert_eq!(candidates(None, 1_024..=65_535).len(), candidates(None, 1_025..=65_535).len());
    }
}
