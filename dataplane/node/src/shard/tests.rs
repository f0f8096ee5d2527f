//! What a turn costs: a shard driven by the test's own thread, so that its allocations can be counted.

use super::*;
use crate::common::{A, B, C, config, make_namespaces, namespace, pattern, spec, tables, transfer, within};
use crate::link;
use crate::netlink::Netlink;
use crate::start::{self, Made};
use crate::{DataplaneConfig, TapMode};
use crossbeam_channel::bounded;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use switch::{PortConfig, Tables};
use wire::MacAddr;

const MTU: u16 = 1_450;

/// The only shard of a node, with the given pods, in the order that a dataplane does it.
fn shard_with(config: DataplaneConfig, pods: &[(&str, [&str; 2])]) -> Made {
    let node_name = config.node_name.clone();
    let mut made = within(&node_name, || start::make_shards(&config, MTU)).expect("the shard is made").remove(0);
    let mut local = HashMap::new();
    for (number, (name, addresses)) in (1..).zip(pods) {
        let id = PortId(number);
        let spec = spec(name, *addresses);
        let mac = MacAddr::local(u64::from(number));
        let tap = within(name, || {
            let tap = Tap::open("eth0", config.tap_mode).expect("the TAP opens");
            link::set_ipv6_switches("eth0");
            let mut netlink = Netlink::open().expect("netlink opens");
            let link = netlink.find_link("eth0").expect("netlink answers").expect("the TAP is there");
            link::prepare(&mut netlink, &link, mac, MTU, &spec.addresses).expect("the link is set");
            let gateways: Vec<IpAddr> = config.gateways.clone();
            link::connect_pod(&mut netlink, &link, &gateways, MTU).expect("the link goes up");
            tap
        });
        local.extend(spec.addresses.iter().map(|address| (*address, (ShardId(0), id))));
        made.shard
            .add_port(PortConfig { id, kind: spec.kind, mac, addresses: spec.addresses, mtu: MTU }, tap, None)
            .expect("the port is polled");
    }
    let (reply, _answer) = bounded(1);
    let attached = switch::Attached { pods: Arc::new(local), ..Default::default() };
    let tables = Arc::new(Tables::new(&node_name, tables(), attached));
    made.commands.send(Command::SetTables(tables, reply)).expect("the shard listens");
    made.shard.take_commands();
    made
}

/// Drives `made` on this thread while `work` runs on another; counts this thread's allocations.
fn allocations_during(made: &mut Made, work: impl FnOnce() + Send) -> u64 {
    let done = AtomicBool::new(false);
    let waker = made.waker.clone();
    let mut events = Events::with_capacity(EVENTS_MAX);
    thread::scope(|scope| {
        scope.spawn(|| {
            work();
            done.store(true, Ordering::Release);
            waker.wake().expect("the shard is woken");
        });
        let counted = allocation_counter::measure(|| {
            while !done.load(Ordering::Acquire) {
                made.shard.turn(&mut events);
            }
        });
        counted.count_total
    })
}

/// Rounds that may pass until every lane of the tunnel has its buffer and every flow table its size.
const WARM_UP_ROUNDS_MAX: usize = 30;

/// TCP on one node and both ways between nodes. Each round has flows of its own, so the first ones fill pools, lanes and
/// tables; then a round costs nothing, however many frames it has.
fn nothing_is_allocated(tap_mode: TapMode) {
    make_namespaces();
    let mut node1 = shard_with(config("node1", tap_mode), &[("a", A), ("b", B)]);
    let Made { shard, commands, waker } = shard_with(config("node2", tap_mode), &[("c", C)]);
    let node2 = thread::spawn(move || shard.run());
    let bytes = pattern(1 << 20);
    let rounds = (0..WARM_UP_ROUNDS_MAX).map(|_| {
        let before = node1.shard.switch.counters().total().received.frames;
        let allocations = allocations_during(&mut node1, || {
            for (from, to, address) in [("a", "b", B[0]), ("a", "c", C[0]), ("c", "a", A[1])] {
                transfer(from, to, address, &bytes);
            }
        });
        (allocations, node1.shard.switch.counters().total().received.frames - before)
    });
    let mut seen = Vec::new();
    let is_free = |round: &(u64, u64)| round.0 == 0 && round.1 > 100;
    assert!(rounds.inspect(|round| seen.push(*round)).any(|round| is_free(&round)), "allocations, frames: {seen:?}");
    commands.send(Command::Stop).expect("the shard listens");
    waker.wake().expect("the shard is woken");
    node2.join().expect("the shard ends well");
}

#[test]
fn no_frame_costs_an_allocation_with_offload() {
    namespace::run(|| nothing_is_allocated(TapMode::Offload));
}

#[test]
fn no_frame_costs_an_allocation_on_plain_taps() {
    namespace::run(|| nothing_is_allocated(TapMode::Plain));
}
