//! Golden captures: a pcap of what one node receives, the pcap of what it sends, and the fate of every frame.
//!
//! Each case is `NAME.in.pcap`, `NAME.out.pcap` and `NAME.counters` beside this file, readable by any packet tool; the cluster is
//! `cluster.yaml`. A frame of the input enters where its Ethernet source says: a pod's MAC at that pod's port, an underlay datagram
//! from the tunnel, anything else at the client's port. `PODPLANE_GOLDEN_WRITE=1` writes the files again; read the difference before you
//! commit it.

mod cases;

use lab::sim::capture::{self, Capture};
use overlay::tunnel::{Outgoing, SOURCE_PORTS, source_port};
use overlay::vxlan::{VXLAN_PORT, Vni};
use policy::cluster::Cluster;
use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use switch::{Attached, Exit, Fate, PortConfig, PortId, PortKind, ShardId, Switch, SwitchConfig, Tables};
use wire::build::{self, Ends};
use wire::{Checksum, Frame, Instant, L4, MacAddr, Offload, Packet, Segmentation, SegmentationKind};

const NODE_UNDERLAY: &str = "172.30.0.11";
const SHARD: ShardId = ShardId(0);
const HOST: PortId = PortId(100);
const POD_MTU: u16 = 1_450;

/// The pods of node1, in the order of their ports (from 1), and their addresses.
const PODS: [(&str, &str, &str); 3] = [
    ("client", "10.244.1.2", "fd00:10:244:1::2"),
    ("near", "10.244.1.3", "fd00:10:244:1::3"),
    ("db", "10.244.1.4", "fd00:10:244:1::4"),
];

/// MAC of the pod behind a port.
fn mac(port: u32) -> MacAddr {
    MacAddr::local(u64::from(port))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

fn vni() -> Vni {
    Vni::new(1).expect("1 is a VNI")
}

/// The switch of node1 with everything attached.
fn node1() -> (Switch, Arc<Tables>) {
    let parsed = policy::objects::parse("cluster.yaml", include_str!("cluster.yaml"));
    let (cluster, conflicts) = Cluster::from_objects(parsed.objects);
    let (policy, refused) = policy::compile::compile(&cluster, 1);
    assert!(parsed.problems.is_empty() && conflicts.is_empty() && refused.is_empty(), "{refused:?}");
    let mut switch = Switch::new(SwitchConfig {
        node_name: "node1".to_owned(),
        shard: SHARD,
        shards: 1,
        vni: vni(),
        vxlan_port: VXLAN_PORT,
        vtep_mac: overlay::peers::derive_vtep_mac("node1"),
        gateways: vec![ip("10.244.1.1"), ip("fd00:10:244:1::1")],
        tunnel_mtu: POD_MTU,
        seed: 1,
        flows_per_port_max: 64,
        uplink_flows_max: 1,
        service_cidrs: Vec::new(),
        non_masquerade: Vec::new(),
        masquerade_all: false,
        trusted_dns: Vec::new(),
    });
    let mut local = HashMap::new();
    for (port, (name, v4, v6)) in (1..).zip(PODS) {
        let kind = PortKind::Pod { namespace: "demo".to_owned(), name: name.to_owned() };
        let addresses = vec![ip(v4), ip(v6)];
        local.extend(addresses.iter().map(|addr| (*addr, (SHARD, PortId(port)))));
        switch.add_port(PortConfig { id: PortId(port), kind, mac: mac(port), addresses, mtu: POD_MTU });
    }
    let addresses = vec![ip(NODE_UNDERLAY), ip("10.244.1.1"), ip("fd00:10:244:1::1")];
    switch.add_port(PortConfig { id: HOST, kind: PortKind::Host, mac: mac(HOST.0), addresses, mtu: POD_MTU });
    let attached = Attached { pods: Arc::new(local), host: Some((SHARD, HOST)), ..Attached::default() };
    let tables = Arc::new(Tables::new("node1", Arc::new(policy), attached));
    switch.set_tables(tables.clone());
    (switch, tables)
}

/// Pcap has no place for a virtio-net header, so a frame larger than the port's MTU is a TCP super-frame.
fn offload(frame: &[u8]) -> Offload {
    let Ok(packet) = Packet::check(frame) else { return Offload::NONE };
    let is_super = matches!(packet.l4, L4::Tcp { .. }) && packet.ip_len_bytes() > 2 * usize::from(POD_MTU);
    if !is_super {
        return Offload::NONE;
    }
    let headers = usize::from(packet.payload_offset) - usize::from(packet.l3_offset);
    let size_bytes = POD_MTU - headers as u16;
    let segmentation = Segmentation { kind: SegmentationKind::Tcp, size_bytes, ecn: false };
    Offload { checksum: Checksum::Partial, segmentation: Some(segmentation) }
}

/// The inner frame and sender of an underlay datagram to this node.
fn tunnel_datagram(frame: &[u8]) -> Option<(IpAddr, Frame)> {
    let packet = Packet::check(frame).ok().filter(|packet| packet.dst == ip(NODE_UNDERLAY))?;
    let L4::Udp { dst_port: VXLAN_PORT, .. } = packet.l4 else { return None };
    let datagram = &frame[usize::from(packet.payload_offset)..packet.end as usize];
    let mut frame = Frame::from_bytes(datagram);
    let mut rest = Vec::new();
    let report = wire::merge_received(&mut frame, 0, 8, || Frame::with_capacity(0), &mut rest);
    assert_eq!(report.bad_checksum, 0, "a golden datagram has good checksums");
    Some((packet.src, frame))
}

/// Plays the input; gives the output capture, and the fates and counters as text.
fn play(input: &[(Instant, Vec<u8>)]) -> (Vec<u8>, String) {
    let (mut switch, tables) = node1();
    let (mut out, mut text) = (Capture::new(), String::new());
    for (number, (at, bytes)) in (1..).zip(input) {
        let (mut frame, fate) = match tunnel_datagram(bytes) {
            Some((sender, mut frame)) => {
                let fate = switch.from_peer(*at, sender, &mut frame);
                (frame, fate)
            }
            None => {
                let mut frame = Frame::from_bytes(bytes);
                frame.offload = offload(bytes);
                let port = (1..=3).chain([HOST.0]).find(|port| bytes[6..12] == mac(*port).0).unwrap_or(1);
                let fate = switch.from_pod(*at, PortId(port), &mut frame);
                (frame, fate)
            }
        };
        let what = match fate {
            Fate::Forward(Exit::Port(port)) => format!("forwarded to {}", port_name(port)),
            Fate::Forward(Exit::Peer(_)) => "forwarded to the tunnel".to_owned(),
            Fate::Forward(exit) => format!("forwarded to {exit:?}"),
            Fate::Answer(_) => "answered".to_owned(),
            Fate::Ask(_) => "asked of the cluster DNS".to_owned(),
            Fate::Held => "held".to_owned(),
            Fate::Drop(reason) => format!("dropped: {}", reason.name()),
        };
        writeln!(text, "{number}: {what}").expect("a String takes it");
        match fate {
            Fate::Forward(Exit::Peer(peer)) => {
                let dst = tables.peers.get(peer).expect("a peer of the tables").underlay[0];
                encapsulate(&mut frame, dst).iter().for_each(|bytes| out.push(*at, bytes));
            }
            Fate::Forward(_) | Fate::Answer(_) => out.push(*at, frame.bytes()),
            Fate::Ask(_) | Fate::Held | Fate::Drop(_) => {}
        }
    }
    let counters = switch.counters();
    assert!(counters.balance(), "every frame has one fate");
    let total = counters.total();
    for (name, count) in [("received", total.received), ("forwarded", total.forwarded), ("answered", total.answered)] {
        writeln!(text, "{name} {} frames {} bytes", count.frames, count.bytes).expect("a String takes it");
    }
    if total.held.frames > 0 {
        writeln!(text, "held {} frames {} bytes", total.held.frames, total.held.bytes).expect("a String takes it");
    }
    total
        .answers()
        .for_each(|(kind, count)| writeln!(text, "answer {} {count}", kind.name()).expect("a String takes it"));
    total
        .drops()
        .for_each(|(reason, count)| writeln!(text, "drop {} {count}", reason.name()).expect("a String takes it"));
    writeln!(text, "flows {}", counters.flows).expect("a String takes it");
    (out.as_bytes().to_vec(), text)
}

fn port_name(port: PortId) -> &'static str {
    PODS.get(port.0 as usize - 1).map_or("the host", |(name, ..)| name)
}

/// The underlay frames that a frame becomes.
fn encapsulate(frame: &mut Frame, dst: IpAddr) -> Vec<Vec<u8>> {
    let outgoing = Outgoing::new(frame, vni()).expect("what the switch forwards can be sent");
    let src_port = source_port(outgoing.flow_hash(), &SOURCE_PORTS);
    let ends = Ends::new(SocketAddr::new(ip(NODE_UNDERLAY), src_port), SocketAddr::new(dst, VXLAN_PORT));
    let datagram = |index| {
        let mut bytes = vec![0; outgoing.prefix_len()];
        outgoing.write_prefix(index, &mut bytes);
        bytes.extend_from_slice(outgoing.payload(index));
        build::udp(&ends, &bytes)
    };
    (0..outgoing.count()).map(datagram).collect()
}

fn path(name: &str, suffix: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.{suffix}"))
}

fn check(name: &str, make: fn() -> Vec<Vec<u8>>) {
    let write = std::env::var_os("PODPLANE_GOLDEN_WRITE").is_some();
    if write {
        let mut input = Capture::new();
        let times = (0..).map(|number| Instant::ZERO + Duration::from_millis(number));
        times.zip(make()).for_each(|(at, frame)| input.push(at, &frame));
        std::fs::write(path(name, "in.pcap"), input.as_bytes()).expect("the test folder can be written");
    }
    let read = |suffix| std::fs::read(path(name, suffix)).unwrap_or_else(|error| panic!("{name}.{suffix}: {error}"));
    let input = capture::read(&read("in.pcap")).expect("a pcap file");
    let (out, text) = play(&input);
    if write {
        std::fs::write(path(name, "out.pcap"), &out).expect("the test folder can be written");
        std::fs::write(path(name, "counters"), &text).expect("the test folder can be written");
    }
    assert_eq!(text, String::from_utf8_lossy(&read("counters")), "{name}: fates and counters");
    let describe = |file: &[u8]| -> Vec<String> {
        capture::read(file).expect("a pcap file").iter().map(|(_, frame)| wire::describe(frame).to_string()).collect()
    };
    let expected = read("out.pcap");
    assert_eq!(describe(&out), describe(&expected), "{name}: frames");
    assert!(out == expected, "{name}: the frames look alike and differ in their bytes");
}

#[test]
fn the_gateway_answers_arp_neighbor_discovery_and_ping() {
    check("gateway", cases::gateway);
}

#[test]
fn tcp_through_a_cluster_ip_reaches_a_pod_on_another_node_and_comes_back() {
    check("cluster-ip", cases::cluster_ip);
}

#[test]
fn a_policy_drops_what_it_does_not_allow() {
    check("policy", cases::policy);
}

#[test]
fn spoofed_senders_are_dropped() {
    check("spoofed", cases::spoofed);
}

#[test]
fn fragments_follow_their_first_one() {
    check("fragments", cases::fragments);
}

#[test]
fn a_super_frame_is_cut_for_the_tunnel() {
    check("super-frame", cases::super_frame);
}

#[test]
fn a_packet_too_big_for_the_tunnel_is_answered_with_the_mtu() {
    check("too-big", cases::too_big);
}

#[test]
fn only_known_peers_and_the_right_vni_come_in_from_the_tunnel() {
    check("tunnel", cases::tunnel);
}
