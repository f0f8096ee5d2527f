//! The cluster DNS, which every node answers itself (D20): who may ask it, what is handed to the shell, how answers come back.

use crate::names::message;
use crate::records::{drops, hits};
use crate::scene::{Scene, UPLINK_PORT};
use switch::{AnswerKind, DropReason, PortId};
use wire::{Checksum, Frame, Packet};

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    uplinks 50000-50999
";

/// A NetworkPolicy of the client's egress.
fn egress(rules: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: egress, namespace: default}}
spec: {{podSelector: {{matchLabels: {{name: client}}}}, policyTypes: [Egress], egress: [{rules}]}}
"
    )
}

/// Peers that are the pods of a cluster's DNS.
const DNS_PODS: &str = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, \
                        podSelector: {matchLabels: {k8s-app: kube-dns}}}";

#[test]
fn d20_a_query_is_the_nodes_own_and_its_answer_comes_from_the_address_that_was_asked() {
    for version in ["", "6"] {
        let mut scene = Scene::new(PODS);
        for (sender, port) in [("client", 5000), ("far", 5000), ("node1", 5000), ("gateway2", 5001)] {
            let query = format!("udp{version} {port} > cluster-dns:53");
            let seen = format!("udp {sender}:{port} > cluster-dns:53");
            scene.check(&format!("{sender}: {query} ttl=1"), &format!("asked: {seen}"));
            let receiver = sender.replace("gateway", "node");
            assert_eq!(scene.answer(b"an answer"), format!("{receiver}: udp cluster-dns:53 > {sender}:{port}"));
        }
        assert_eq!((scene.flows(1), scene.flows(2)), (0, 0), "no flow is entered");
        let total = scene.nodes[0].shards[0].counters().total();
        assert_eq!((total.received.frames, total.asked.frames, total.delivered.frames), (2, 2, 2));
    }
}

#[test]
fn d20_an_answer_comes_later_as_long_as_the_port_is_there() {
    let mut scene = Scene::new(PODS);
    scene.send("client: udp 5000 > cluster-dns:53");
    scene.wait(60);
    scene.change("service other tcp 80 to 80: far");
    assert_eq!(scene.answer(&[7; 1_232]), "client: udp cluster-dns:53 > client:5000");
    assert_eq!(scene.answer(&[7; 65_508]), "drop too-big", "no IP packet holds it");
    scene.detach("client");
    assert_eq!(scene.answer(b"late"), "drop port-gone");
}

#[test]
fn d20_policies_judge_a_query_as_one_to_the_pods_of_the_dns() {
    for (rules, udp, tcp) in [
        ("", false, false),
        ("{}", true, true),
        (&*format!("{{to: [{DNS_PODS}]}}"), true, true),
        (&*format!("{{to: [{DNS_PODS}], ports: [{{port: dns, protocol: UDP}}]}}"), true, false),
        (&*format!("{{to: [{DNS_PODS}], ports: [{{port: dns-tcp, protocol: TCP}}]}}"), false, true),
        ("{to: [{podSelector: {}}]}", false, false),
        ("{to: [{ipBlock: {cidr: 10.96.0.0/16}}, {ipBlock: {cidr: 'fd00:10:96::/112'}}]}", true, true),
        ("{to: [{ipBlock: {cidr: 10.96.0.0/16, except: [10.96.0.53/32]}}]}", false, false),
    ] {
        let mut scene = Scene::new(PODS);
        scene.manifests(&egress(rules));
        for version in ["", "6"] {
            for (over, words, allowed) in [("udp", "", udp), ("tcp", " syn", tcp)] {
                let seen = format!("{over} client:5000 > cluster-dns:53{words}");
                let expect = if allowed { format!("asked: {seen}") } else { "drop denied-by-egress-policy".into() };
                scene.check(&format!("client: {over}{version} 5000 > cluster-dns:53{words}"), &expect);
                scene.check(&format!("node1: {over}{version} 5000 > cluster-dns:53{words}"), &seen_by(over, words));
            }
        }
    }
}

fn seen_by(over: &str, words: &str) -> String {
    format!("asked: {over} node1:5000 > cluster-dns:53{words}")
}

#[test]
fn d20_policies_of_the_dns_pods_say_who_may_ask() {
    let mut scene = Scene::new(PODS);
    scene.manifests(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: askers, namespace: kube-system}
spec:
  podSelector: {matchLabels: {k8s-app: kube-dns}}
  policyTypes: [Ingress]
  ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {name: near}}}]}]
",
    );
    scene.check("near: udp 5000 > cluster-dns:53", "asked: udp near:5000 > cluster-dns:53");
    scene.check("client: udp 5000 > cluster-dns:53", "drop denied-by-ingress-policy");
    scene.check("node1: udp 5000 > cluster-dns:53", "asked: udp node1:5000 > cluster-dns:53");
    assert_eq!(hits(&scene, 1), ["askers ingress 0/1/0", "askers ingress[0] 1/0/0"]);
    assert_eq!(drops(&scene, 1), ["denied-by-ingress-policy at client: client:5000 > cluster-dns:53 x1"]);
}

#[test]
fn d20_each_query_counts_for_the_rule_that_decides_and_what_is_denied_is_recorded() {
    let mut scene = Scene::new(PODS);
    scene.manifests(&egress(&format!("{{to: [{DNS_PODS}], ports: [{{port: 53, protocol: UDP}}]}}")));
    for port in [5000, 5000, 5001] {
        scene.send(&format!("client: udp {port} > cluster-dns:53"));
    }
    scene.send("client: tcp 5000 > cluster-dns:53 syn");
    assert_eq!(hits(&scene, 1), ["egress egress 0/1/0", "egress egress[0] 3/0/0"]);
    assert_eq!(drops(&scene, 1), ["denied-by-egress-policy at client: client:5000 > cluster-dns:53 x1"]);
}

#[test]
fn d20_w04_a_dry_run_is_counted_once_for_a_query_and_once_for_a_connection() {
    let mut scene = Scene::new(PODS);
    let rehearsed =
        egress("").replace("namespace: default}", "namespace: default, annotations: {podplane.io/dry-run: \"true\"}}");
    scene.manifests(&rehearsed);
    scene.check("client: udp 5000 > cluster-dns:53", "asked: udp client:5000 > cluster-dns:53");
    scene.check("client: tcp 5000 > cluster-dns:53 syn", "asked: tcp client:5000 > cluster-dns:53 syn");
    for _ in 0..3 {
        scene.check("client: tcp 5000 > cluster-dns:53 data", "asked: tcp client:5000 > cluster-dns:53 data");
    }
    assert_eq!(hits(&scene, 1), ["egress egress 0/0/2"]);
    let would_be = "would be denied-by-egress-policy at client: client:5000 > cluster-dns:53 x1";
    assert_eq!(drops(&scene, 1), [would_be, would_be], "one of TCP, one of UDP");
}

#[test]
fn d20_n15_a_policy_that_comes_cuts_a_connection_unless_it_keeps_what_is_established() {
    for (annotation, outcome) in [
        ("", "drop denied-by-egress-policy"),
        ("podplane.io/established: keep", "asked: tcp client:5000 > cluster-dns:53 data"),
    ] {
        let mut scene = Scene::new(PODS);
        scene.check("client: tcp 5000 > cluster-dns:53 syn", "asked: tcp client:5000 > cluster-dns:53 syn");
        scene.manifests(&egress("").replace("default}", &format!("default, annotations: {{{annotation}}}}}")));
        scene.check("client: tcp 5000 > cluster-dns:53 data", outcome);
        scene.check("client: tcp 5001 > cluster-dns:53 syn", "drop denied-by-egress-policy");
    }
}

#[test]
fn d20_a_query_in_pieces_is_discarded_and_so_is_what_follows_its_first_piece() {
    for (id, version) in [(1, ""), (2, "6")] {
        let mut scene = Scene::new(PODS);
        let (sender, sketch, _) =
            scene.sketch(&format!("client: udp{version} 5000 > cluster-dns:53 len=3000 may-be-cut"));
        let fragments = sketch.fragments(id, 1_400);
        let mut send = |n: usize| scene.send_frame(&sender, &mut Frame::from_bytes(&fragments[n]));
        assert_eq!(send(2), "held", "nobody knows what it is a part of");
        assert_eq!(send(0), "drop query-in-pieces");
        assert_eq!(send(1), "drop fragment-without-first");
        assert_eq!(scene.released(), ["drop fragment-without-first"]);
        scene.check(
            &format!("client: udp{version} 5000 > cluster-dns:53 len=3000 segments=500"),
            "drop query-in-pieces",
        );
    }
}

#[test]
fn d20_a_connections_super_frames_are_handed_over_whole() {
    let mut scene = Scene::new(PODS);
    for version in ["", "6"] {
        scene.check(
            &format!("client: tcp{version} 5000 > cluster-dns:53 data len=9000 segments=1000"),
            "asked: tcp client:5000 > cluster-dns:53 data",
        );
    }
}

#[test]
fn d20_a_damaged_query_is_discarded_and_an_unfinished_checksum_is_not_judged() {
    let mut scene = Scene::new(PODS);
    for (version, over, words) in [("", "udp", ""), ("6", "udp", ""), ("", "tcp", " syn"), ("6", "tcp", " syn")] {
        let (sender, sketch, _) = scene.sketch(&format!("client: {over}{version} 5000 > cluster-dns:53{words}"));
        let mut bytes = sketch.bytes();
        *bytes.last_mut().expect("bytes") ^= 1;
        let mut frame = Frame::from_bytes(&bytes);
        assert_eq!(scene.send_frame(&sender, &mut frame), "drop bad-checksum");
        let mut frame = Frame::from_bytes(&bytes);
        frame.offload.checksum = Checksum::Partial;
        assert!(scene.send_frame(&sender, &mut frame).starts_with("asked: "));
    }
}

#[test]
fn d20_who_has_no_port_here_asks_nobody() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > cluster-dns:53 from=near", "drop spoofed-source");
    scene.check("world: udp 5000 > cluster-dns:53", "drop left-to-kernel");
    scene.check("world: tcp6 5000 > cluster-dns:53 syn", "drop left-to-kernel");
    let (_, sketch, _) = scene.sketch("far: udp 5000 > cluster-dns:53");
    let [src_mac, dst_mac] = ["node2", "node1"].map(overlay::peers::derive_vtep_mac);
    let inner = crate::bytes::Sketch { src_mac, dst_mac, ..sketch }.bytes();
    let datagram = [&overlay::vxlan::header(overlay::vxlan::Vni::new(1).unwrap())[..], &inner].concat();
    let peer = scene.address("node2", false);
    assert_eq!(scene.send_datagram(peer, 1, &datagram), "drop not-local");
    assert!(scene.nodes[0].shards[0].ports().iter().any(|port| port.id == UPLINK_PORT));
}

#[test]
fn d20_other_ports_of_the_address_are_refused_or_a_services() {
    let mut scene = Scene::new(PODS);
    for words in ["udp 5000 > cluster-dns:54", "tcp 5000 > cluster-dns:9153 syn", "ping 7 > cluster-dns"] {
        scene.send(&format!("client: {words}"));
    }
    let total = scene.nodes[0].shards[0].counters().total();
    assert_eq!((total.answers_of(AnswerKind::Rejected), total.asked.frames, total.answered.frames), (3, 0, 3));
    let slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: metrics, port: 9153, protocol: TCP}]
endpoints: [{addresses: [10.244.2.11], conditions: {ready: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.53, ports: [{name: dns, port: 53, protocol: UDP}, {name: metrics, port: 9153}]}
";
    scene.manifests(slice);
    scene.check("client: tcp 5000 > cluster-dns:9153 syn", "far: tcp client:5000 > far:9153 syn");
    scene.check("client: udp 5000 > cluster-dns:53", "asked: udp client:5000 > cluster-dns:53");
}

#[test]
fn d20_packets_of_the_shells_endpoint_go_to_the_pod_that_has_the_address_and_to_no_other() {
    let mut scene = Scene::new(PODS);
    let (_, sketch, _) = scene.sketch("client: tcp 5000 > cluster-dns:53 syn");
    let (_, _, port, mac) = scene.entry("client");
    let (_, _, other, _) = scene.entry("near");
    let mut answer = sketch.clone();
    (answer.src, answer.dst) = (sketch.dst, sketch.src);
    answer.l4 = crate::bytes::tcp(53, 5000, 0x12, 0);
    let bytes = answer.bytes();
    let mut frame = Frame::from_bytes(&[]);
    let switch = &mut scene.nodes[0].shards[0];
    switch.deliver_packet(port, &bytes[14..], &mut frame).expect("it is the client's");
    assert_eq!(frame.bytes()[..6], mac.0);
    assert_eq!(Packet::check(frame.bytes()).unwrap().flow(), Packet::check(&bytes).unwrap().flow());
    for (port, packet, reason) in [
        (other, &bytes[14..], DropReason::PortGone),
        (PortId(9_999), &bytes[14..], DropReason::PortGone),
        (port, &bytes[14..20], DropReason::Truncated),
        (port, &[], DropReason::TooBig),
    ] {
        assert_eq!(switch.deliver_packet(port, packet, &mut frame), Err(reason));
    }
}

#[test]
fn d15_before_any_tables_have_come_who_asks_is_told_so() {
    let scene = Scene::new(PODS);
    let mut fresh = switch::Switch::new(scene.nodes[0].shards[0].config().clone());
    let ports = scene.nodes[0].shards[0].ports();
    ports.into_iter().for_each(|port| fresh.add_port(port));
    let (_, sketch, _) = scene.sketch("client: udp 5000 > cluster-dns:53");
    let port = scene.entry("client").2;
    let send = |switch: &mut switch::Switch| switch.from_pod(scene.now, port, &mut Frame::from_bytes(&sketch.bytes()));
    assert_eq!(send(&mut fresh), switch::Fate::Drop(DropReason::PortNotReady), "nobody said where it is asked");
    let dns = vec![scene.address("cluster-dns", false)];
    let options = policy::compile::CompileOptions { cluster_dns: dns, ..Default::default() };
    let (nothing, _) = policy::compile::compile_with(&Default::default(), &options, 0);
    let tables = switch::Tables::new("node1", nothing.into(), switch::Attached::default());
    fresh.set_tables(tables.into());
    assert!(matches!(send(&mut fresh), switch::Fate::Ask(_)));
    assert!(fresh.counters().balance());
}

/// The client may ask the DNS and reach what has this name.
const NAMES: &str = "apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: names}
spec:
  tier: Admin
  priority: 10
  subject: {pods: {podSelector: {matchLabels: {name: client}}}}
  egress:
  - action: Accept
    to: [{networks: [10.96.0.53/32]}]
  - {action: Accept, to: [{domainNames: [far.example]}]}
  - {action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}
";

#[test]
fn n18_what_the_node_answers_teaches_the_names_over_udp_and_tcp_at_once_and_later() {
    let far = message("far.example", &[("far.example", 30, "10.244.2.11")]);
    let long: Vec<_> = (0..300).map(|_| ("far.example", 30, "10.244.2.11")).collect();
    let long = message("far.example", &long);
    assert!(long.len() > 4_096);
    for (over, answer) in [("udp", &far), ("tcp", &far), ("tcp", &long)] {
        let mut scene = Scene::new(PODS);
        scene.manifests(NAMES);
        scene.check("client: tcp 40000 > far:443 syn", "drop denied-by-egress-policy");
        scene.wait(3);
        if over == "udp" {
            scene.send("client: udp 5000 > cluster-dns:53");
            scene.answer(answer);
        } else {
            let (now, port) = (scene.now, scene.entry("client").2);
            scene.nodes[0].shards[0].hear_answer(now, port, answer);
        }
        scene.check("client: tcp 40001 > far:443 syn", "far: tcp client:40001 > far:443 syn");
        scene.wait(31);
        scene.check("client: tcp 40002 > far:443 syn", "drop denied-by-egress-policy");
    }
}
