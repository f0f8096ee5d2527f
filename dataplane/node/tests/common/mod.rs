//! Two nodes with three pods inside the namespaces of one test: dataplanes run in the test process, each in the network
//! namespace of its node; pods are network namespaces.

// Every test binary uses its own part of this.
#![allow(dead_code)]

pub(crate) mod namespace;
pub(crate) mod world;

pub(crate) use namespace::sh;

use nix::sched::{CloneFlags, setns};
use node::{Dataplane, DataplaneConfig, PortInfo, PortSpec, StartError, TapMode};
use policy::cluster::Cluster;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};
use switch::PortKind;

/// Two nodes, `a` and `b` on node1, `c` on node2.
pub(crate) const CLUSTER: &str = r#"
kind: Node
apiVersion: v1
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}, {type: InternalIP, address: "fd00:172:30::11"}]}
---
kind: Node
apiVersion: v1
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24, "fd00:10:244:2::/64"]}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}, {type: InternalIP, address: "fd00:172:30::12"}]}
---
kind: Pod
apiVersion: v1
metadata: {name: a, namespace: test}
spec: {nodeName: node1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.2}, {ip: "fd00:10:244:1::2"}]}
---
kind: Pod
apiVersion: v1
metadata: {name: b, namespace: test}
spec: {nodeName: node1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.3}, {ip: "fd00:10:244:1::3"}]}
---
kind: Pod
apiVersion: v1
metadata: {name: c, namespace: test}
spec: {nodeName: node2, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.2}, {ip: "fd00:10:244:2::2"}]}
"#;

/// Addresses of the pods of [`CLUSTER`]: IPv4, IPv6.
pub(crate) const A: [&str; 2] = ["10.244.1.2", "fd00:10:244:1::2"];
pub(crate) const B: [&str; 2] = ["10.244.1.3", "fd00:10:244:1::3"];
pub(crate) const C: [&str; 2] = ["10.244.2.2", "fd00:10:244:2::2"];

/// Makes the namespaces of two nodes and three pods; the nodes are joined by a veth pair with an MTU of 1,500 bytes.
pub(crate) fn make_namespaces() {
    sh("mount -t tmpfs tmpfs /run; mkdir /run/netns
        for name in node1 node2 a b c; do ip netns add $name; ip -n $name link set lo up; done
        ip -n node1 link add under0 type veth peer name under0 netns node2
        ip -n node1 address add 172.30.0.11/24 dev under0; ip -n node2 address add 172.30.0.12/24 dev under0
        ip -n node1 address add fd00:172:30::11/64 dev under0 nodad
        ip -n node2 address add fd00:172:30::12/64 dev under0 nodad
        ip -n node1 link set under0 up; ip -n node2 link set under0 up");
}

/// Where the network namespace `name` is.
pub(crate) fn netns(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Runs `work` on a thread in the network namespace `name`.
pub(crate) fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(netns(name)).expect("the namespace exists");
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
            work()
        });
        worker.join().expect("the work ends well")
    })
}

/// The configuration of node1 or node2.
pub(crate) fn config(node: &str, tap_mode: TapMode) -> DataplaneConfig {
    let number: u8 = node.trim_start_matches("node").parse().expect("node1 or node2");
    let address = |text: String| text.parse::<IpAddr>().expect("an address");
    let underlay = vec![address(format!("172.30.0.1{number}")), address(format!("fd00:172:30::1{number}"))];
    let gateways = vec![address(format!("10.244.{number}.1")), address(format!("fd00:10:244:{number}::1"))];
    DataplaneConfig { tap_mode, ..DataplaneConfig::new(node, underlay, gateways) }
}

/// Starts a dataplane in the namespace of its node.
pub(crate) fn start(config: DataplaneConfig) -> Result<Dataplane, StartError> {
    let name = config.node_name.clone();
    within(&name, || Dataplane::start(config))
}

/// What to attach for the pod `name`.
pub(crate) fn spec(name: &str, addresses: [&str; 2]) -> PortSpec {
    PortSpec {
        kind: PortKind::Pod { namespace: "test".to_owned(), name: name.to_owned() },
        netns: netns(name),
        ifname: "eth0".to_owned(),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        mac: None,
    }
}

/// The tables of [`CLUSTER`].
pub(crate) fn tables() -> Arc<policy::tables::Tables> {
    let parsed = policy::objects::parse("cluster.yaml", CLUSTER);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert!(problems.is_empty(), "{problems:?}");
    let (tables, problems) = policy::compile::compile(&cluster, 1);
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(tables)
}

/// Both nodes with their pods, in force.
pub(crate) struct Lab {
    pub(crate) node1: Dataplane,
    pub(crate) node2: Dataplane,
    pub(crate) ports: [PortInfo; 3],
}

/// Starts both nodes and attaches the pods.
pub(crate) fn lab(tap_mode: TapMode, shards: u16) -> Lab {
    make_namespaces();
    let node = |name| {
        let node = start(DataplaneConfig { shards, ..config(name, tap_mode) }).expect("the node starts");
        node.set_policy(tables()).expect("the node runs");
        let ranges = ["10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/48", "fd00:10:96::/112"];
        node.set_routes(&ranges.map(|range| range.parse().expect("a range"))).expect("the routes are set");
        node
    };
    let (node1, node2) = (node("node1"), node("node2"));
    let ports = [
        node1.attach(spec("a", A)).expect("a is attached"),
        node1.attach(spec("b", B)).expect("b is attached"),
        node2.attach(spec("c", C)).expect("c is attached"),
    ];
    Lab { node1, node2, ports }
}

/// One ping from the namespace `from`.
pub(crate) fn ping(from: &str, to: &str) {
    within(from, || sh(&format!("ping -q -n -c 1 -W 5 {to} > /dev/null")));
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A TCP transfer of `bytes` from one namespace to another, compared byte for byte.
pub(crate) fn transfer(from: &str, to: &str, address: &str, bytes: &[u8]) {
    let address = SocketAddr::new(address.parse().expect("an address"), 7_000);
    let listener = within(to, || TcpListener::bind(address)).expect("the port is free");
    thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut received = Vec::with_capacity(bytes.len());
            listener.accept().expect("a connection comes").0.read_to_end(&mut received).expect("it is read");
            received
        });
        within(from, || {
            let mut stream =
                TcpStream::connect_timeout(&address, Duration::from_secs(10)).expect("the connection opens");
            stream.write_all(bytes).expect("it is written");
        });
        let received = receiver.join().expect("the receiver ends well");
        assert!(received == bytes, "{} of {} bytes arrived, or others", received.len(), bytes.len());
    });
}

/// A counter of `/proc/net/snmp` or `/proc/net/snmp6` in the namespace `name`, such as `Tcp InCsumErrors`.
pub(crate) fn kernel_counter(name: &str, protocol: &str, counter: &str) -> u64 {
    let text = within(name, || fs::read_to_string("/proc/thread-self/net/snmp")).expect("the counters are readable");
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("{protocol}:")));
    let names = lines.next().expect("the protocol is listed").split_whitespace();
    let values = lines.next().expect("the protocol has values").split_whitespace();
    let (_, value) = names.zip(values).find(|(name, _)| *name == counter).expect("the counter is listed");
    value.parse().expect("a counter is a number")
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        thread::yield_now();
    }
}
