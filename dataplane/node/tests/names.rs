//! The cluster DNS of a node, asked by pods over UDP and TCP, with offload and without (D15, D20).

mod common;

use common::*;
use node::{ClusterDns, Dataplane, DataplaneConfig, TapMode};
use policy::cluster::Cluster;
use policy::compile::{CompileOptions, compile_with};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

const DNS: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

/// Longer than an answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

const SERV_FAIL: u8 = 2;

fn addresses() -> Vec<IpAddr> {
    DNS.iter().map(|addr| addr.parse().expect("an address")).collect()
}

fn start_node(tap_mode: TapMode, shards: u16) -> Dataplane {
    make_namespaces();
    let dns = ClusterDns {
        addresses: addresses(),
        responder: Default::default(),
        forward: Default::default(),
        report: |_| {},
    };
    start(DataplaneConfig { shards, cluster_dns: Some(dns), ..config("node1", tap_mode) }).expect("the node starts")
}

fn tables() -> Arc<policy::tables::Tables> {
    let (cluster, problems) = Cluster::from_objects(policy::objects::parse("cluster.yaml", CLUSTER).objects);
    assert!(problems.is_empty(), "{problems:?}");
    let options = CompileOptions { cluster_dns: addresses(), ..CompileOptions::default() };
    Arc::new(compile_with(&cluster, &options, 1).0)
}

/// The question for the TXT record of `dns-version.cluster.local`.
fn query(id: u16) -> Vec<u8> {
    let mut query = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in ["dns-version", "cluster", "local"] {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 16, 0, 1]);
    query
}

/// What the answer to `query` says: its code, and how many records.
fn read(answer: &[u8], query: &[u8]) -> (u8, u16) {
    assert_eq!(answer[..2], query[..2], "the answer to this query");
    (answer[3] & 0xf, u16::from_be_bytes([answer[6], answer[7]]))
}

fn ask_udp(pod: &str, dns: &str) -> (u8, u16) {
    within(pod, || {
        let own = if dns.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(own).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let server: IpAddr = dns.parse().expect("an address");
        socket.connect(SocketAddr::new(server, 53)).expect("a route");
        let (query, mut answer) = (query(7), [0; 1500]);
        socket.send(&query).expect("it is sent");
        let len = socket.recv(&mut answer).expect("an answer");
        read(&answer[..len], &query)
    })
}

/// Asks many times on one connection before it listens.
fn ask_tcp(pod: &str, dns: &str) -> Vec<(u8, u16)> {
    within(pod, || {
        let server: IpAddr = dns.parse().expect("an address");
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, 53), PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let queries: Vec<Vec<u8>> = (0..200).map(query).collect();
        let framed = queries.iter().map(|query| [&(query.len() as u16).to_be_bytes()[..], query].concat());
        stream.write_all(&framed.collect::<Vec<_>>().concat()).expect("it is sent");
        let read_one = |query: &Vec<u8>| {
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a length");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
            stream.read_exact(&mut answer).expect("an answer");
            read(&answer, query)
        };
        queries.iter().map(read_one).collect()
    })
}

fn ask_early_and_late(tap_mode: TapMode, shards: u16) {
    let node = start_node(tap_mode, shards);
    node.attach(spec("a", A)).expect("a is attached");
    node.attach(spec("b", B)).expect("b is attached");
    for (pod, dns) in [("a", DNS[0]), ("b", DNS[1])] {
        assert_eq!(ask_udp(pod, dns), (SERV_FAIL, 0), "before the first tables");
        assert_eq!(ask_tcp(pod, dns), [(SERV_FAIL, 0); 200]);
    }
    node.set_policy(tables()).expect("the node runs");
    for (pod, dns) in [("a", DNS[1]), ("b", DNS[0]), ("b", DNS[1])] {
        assert_eq!(ask_udp(pod, dns), (0, 1), "{pod} {dns}");
        assert_eq!(ask_tcp(pod, dns), [(0, 1); 200], "{pod} {dns}");
    }
    wait_until("the desk has counted", || node.counters().dns.desk.responder.tcp == 1_000);
    let counters = node.counters();
    assert!(counters.switch.balance());
    assert_eq!((counters.dns.shards.udp, counters.dns.shards.tcp), (5, 0));
    assert_eq!(counters.dns.desk.connections.accepted, 5);
    assert_eq!(counters.switch.flows, 0, "no flow is entered");
    for pod in ["a", "b"] {
        assert_eq!(kernel_counter(pod, "Tcp", "InCsumErrors"), 0, "pod {pod} saw a wrong checksum");
        assert_eq!(kernel_counter(pod, "Udp", "InCsumErrors"), 0, "pod {pod} saw a wrong checksum");
    }
}

#[test]
fn d15_d20_pods_are_told_that_it_is_too_early_and_then_answered() {
    namespace::run(|| ask_early_and_late(TapMode::Auto, 1));
}

#[test]
fn d15_d20_so_are_those_without_offloads_and_on_two_shards() {
    namespace::run(|| ask_early_and_late(TapMode::Plain, 2));
}
