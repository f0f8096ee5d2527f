//! What really becomes of a packet: one attempt in the simulator, with everything looked at that switches deliver, answer and drop.

use super::world::Question;
use lab::probe::ProbeProtocol;
use lab::sim::{Place, Report, Sim, Task};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use switch::DropReason;
use wire::{IcmpKind, L4, Packet};

/// An attempt that gets no answer is watched for this long: enough for one that is sent again, because smoltcp drops an answer for
/// which it has to ask for the neighbor first.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is left of an attempt has happened after this time.
const AFTERMATH: Duration = Duration::from_millis(200);

/// A packet that a switch gave to a place.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) at: Place,
    pub(super) src: IpAddr,
    pub(super) dst: SocketAddr,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Experience {
    /// The first packet, where it came out.
    pub(super) arrived: Option<Arrival>,
    /// The first packet with which a switch itself answered the sender and said no.
    pub(super) refused: Option<String>,
    /// Whether a switch itself answered an echo.
    pub(super) echoed: bool,
    /// Why switches dropped packets meanwhile, but for the chatter of stacks.
    pub(super) drops: BTreeMap<DropReason, u64>,
    /// What the client says of it.
    pub(super) report: Report,
}

#[derive(Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    refused: Option<String>,
    echoed: bool,
}

/// What places say to their neighbors all the time.
const CHATTER: [DropReason; 5] = [
    DropReason::ArpIgnored,
    DropReason::NeighborIgnored,
    DropReason::RouterSolicitation,
    DropReason::Multicast,
    DropReason::LinkLocal,
];

fn drops(sim: &Sim) -> BTreeMap<DropReason, u64> {
    let mut drops = BTreeMap::new();
    for (_, _, counters) in sim.counters() {
        for (reason, count) in counters.total().drops().chain(counters.shell.iter().copied()) {
            *drops.entry(reason).or_default() += count;
        }
    }
    drops
}

/// The place called as PLACE of the command line is.
pub(super) fn place(text: &str) -> Place {
    match (text.split_once('/'), text.strip_prefix("node:")) {
        (Some((namespace, name)), _) => Place::pod(namespace, name),
        (None, Some(node)) => Place::Node(node.to_owned()),
        (None, None) => Place::World,
    }
}

/// Makes the attempt.
pub(super) fn experience(sim: &mut Sim, question: &Question) -> Experience {
    let from = place(&question.from);
    let seen = Rc::new(RefCell::new(Seen::default()));
    let (observer, client, protocol) = (seen.clone(), from.clone(), question.protocol);
    sim.observe(Box::new(move |delivery| {
        let Ok(packet) = Packet::check(delivery.frame.bytes()) else { return Ok(()) };
        let mut seen = observer.borrow_mut();
        if delivery.is_answer {
            if *delivery.to == client && says_no(&packet) {
                seen.refused.get_or_insert_with(|| format!("{packet:?}"));
            }
            seen.echoed |=
                *delivery.to == client && matches!(packet.l4, L4::Icmp { meaning: IcmpKind::EchoReply { .. }, .. });
        } else if is_of(&packet, protocol) {
            let key = packet.flow();
            let port = if protocol == ProbeProtocol::Icmp { 0 } else { key.dst_port };
            let dst = SocketAddr::new(packet.dst, port);
            seen.arrivals.push(Arrival { at: delivery.to.clone(), src: packet.src, dst });
        }
        Ok(())
    }));
    let before = drops(sim);
    let to = question.to;
    let task = match protocol {
        ProbeProtocol::Tcp => Task::Connect { to },
        ProbeProtocol::Udp => Task::Datagram { to, payload_bytes: 4 },
        ProbeProtocol::Sctp => Task::Associate { to },
        ProbeProtocol::Icmp => Task::Ping { to: to.ip(), payload_bytes: 8 },
    };
    let task = sim.start(&from, task, PATIENCE);
    let report = sim.finish(task).clone();
    sim.run_for(AFTERMATH);
    let after = drops(sim).into_iter().map(|(reason, count)| (reason, count - before.get(&reason).unwrap_or(&0)));
    let drops = after.filter(|(reason, count)| *count > 0 && !CHATTER.contains(reason)).collect();
    let seen = seen.borrow();
    Experience {
        arrived: seen.arrivals.first().cloned(),
        refused: seen.refused.clone(),
        echoed: seen.echoed,
        drops,
        report,
    }
}

fn is_of(packet: &Packet, protocol: ProbeProtocol) -> bool {
    matches!(
        (packet.l4, protocol),
        (L4::Tcp { .. }, ProbeProtocol::Tcp)
            | (L4::Udp { .. }, ProbeProtocol::Udp)
            | (L4::Sctp { .. }, ProbeProtocol::Sctp)
            | (L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. }, ProbeProtocol::Icmp)
    )
}

/// A reset, an abort or an ICMP error.
fn says_no(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Tcp { .. } | L4::Sctp { .. } | L4::Icmp { meaning: IcmpKind::Error { .. }, .. })
}
