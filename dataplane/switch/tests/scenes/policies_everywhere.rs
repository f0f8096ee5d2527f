//! Policy where it meets the rest: fragments, hairpins, nodePorts (N25), Services (N08), errors (N09, N19), nodes (N10, N11), SCTP
//! (N07), pods that end, labels that change (N14, N15), and ports whose pod is not known (N13).

use crate::bytes::Sketch;
use crate::scene::{Scene, ports};
use switch::{DropReason, Fate, PortConfig, PortId, PortKind};
use wire::{Frame, MacAddr};

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080 node-port=30080: near
    service store tcp 80 to 5432 node-port=30081: far
";

/// Port unreachable (RFC 792): type, code, last word.
const PORT_UNREACHABLE: (u8, u8, u16) = (3, 3, 0);

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: default}}\nspec: {spec}\n"
    )
}

/// Opens a connection from client to far and answers it.
fn connect(scene: &mut Scene, port: u16) {
    scene.check(&format!("client: tcp {port} > far:80 syn"), &format!("far: tcp client:{port} > far:80 syn"));
    scene
        .check(&format!("far: tcp 80 > client:{port} syn-ack"), &format!("client: tcp far:80 > client:{port} syn-ack"));
    scene.check(&format!("client: tcp {port} > far:80 ack"), &format!("far: tcp client:{port} > far:80 ack"));
}

/// What becomes of the next packet in each direction of that connection.
fn next_packets(scene: &mut Scene, port: u16) -> [String; 2] {
    [format!("client: tcp {port} > far:80 data"), format!("far: tcp 80 > client:{port} data")]
        .map(|words| scene.send(&words))
}

const CUT_AT_SERVER: [&str; 2] = ["drop denied-by-ingress-policy"; 2];
const CUT_AT_CLIENT: [&str; 2] = ["drop denied-by-egress-policy"; 2];
const LIVES: [&str; 2] = ["far: tcp client:40000 > far:80 data", "client: tcp far:80 > client:40000 data"];

#[test]
fn n14_n15_a_label_of_either_pod_cuts_a_live_flow_at_its_next_packet_at_either_end() {
    let from_team =
        "{podSelector: {matchLabels: {name: far}}, ingress: [{from: [{podSelector: {matchLabels: {team: a}}}]}]}";
    let to_team = "{podSelector: {matchLabels: {name: client}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {team: a}}}]}]}";
    let of_team = "{podSelector: {matchLabels: {team: a}}, policyTypes: [Ingress]}";
    for (spec, labelled, cut) in [(from_team, "client", CUT_AT_SERVER), (to_team, "far", CUT_AT_CLIENT)] {
        let mut scene = Scene::new(PODS);
        scene.manifests(&policy(spec));
        scene.label(labelled, "team: a");
        connect(&mut scene, 40_000);
        scene.label(labelled, "team: b");
        assert_eq!(next_packets(&mut scene, 40_000), cut, "{spec}");
        scene.label(labelled, "team: a");
        assert_eq!(next_packets(&mut scene, 40_000), LIVES, "{spec}");
    }
    // The label that makes a policy select the pod.
    let mut scene = Scene::new(PODS);
    scene.manifests(&policy(of_team));
    connect(&mut scene, 40_000);
    scene.label("near", "team: a");
    assert_eq!(next_packets(&mut scene, 40_000), LIVES, "another pod's label");
    scene.label("far", "team: a");
    assert_eq!(next_packets(&mut scene, 40_000), CUT_AT_SERVER);
}

#[test]
fn n14_n15_a_label_of_the_namespace_does_too() {
    let mut scene = Scene::new(PODS);
    scene.manifests(&policy(
        "{podSelector: {matchLabels: {name: far}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}]}]}",
    ));
    scene.label_namespace("team: a");
    connect(&mut scene, 40_000);
    scene.label_namespace("team: b");
    assert_eq!(next_packets(&mut scene, 40_000), CUT_AT_SERVER);
    scene.label_namespace("team: a");
    assert_eq!(next_packets(&mut scene, 40_000), LIVES);
}

#[test]
fn a_pod_that_ends_is_judged_until_it_is_gone() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress far: client tcp/80");
    connect(&mut scene, 40_000);
    scene.terminate("far");
    assert_eq!(next_packets(&mut scene, 40_000), LIVES);
    connect(&mut scene, 40_001);
    scene.check("client: tcp 40000 > far:81 syn", "drop denied-by-ingress-policy");
    scene.terminate("client");
    connect(&mut scene, 40_002);
    scene.change("egress client: near");
    assert_eq!(next_packets(&mut scene, 40_000), CUT_AT_CLIENT);
    scene.check("client: tcp 40003 > far:80 syn", "drop denied-by-egress-policy");
}

#[test]
fn n07_sctp_has_ports_of_its_own() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress near: client sctp/99\n egress far: client sctp/99");
    for version in ["", "6"] {
        scene.check(&format!("client: sctp{version} 5000 > near:99"), "near: sctp client:5000 > near:99 chunk 1");
        scene.check(&format!("client: sctp{version} 5000 > near:98"), "drop denied-by-ingress-policy");
        scene.check(&format!("client: udp{version} 5000 > near:99"), "drop denied-by-ingress-policy");
        scene.check(&format!("far: sctp{version} 5000 > client:99"), "client: sctp far:5000 > client:99 chunk 1");
        scene.check(&format!("far: sctp{version} 5000 > client:100"), "drop denied-by-egress-policy");
        scene.check(
            &format!("near: sctp{version} 99 > client:5000 chunk=2"),
            "client: sctp near:99 > client:5000 chunk 2",
        );
    }
}

#[test]
fn n19_icmp_is_matched_by_rules_without_ports_and_by_no_other() {
    for version in ["", "6"] {
        let mut scene = Scene::new(PODS);
        scene.change("ingress near: client\n ingress far: client tcp/7");
        scene.check(&format!("client: ping{version} 7 > near"), "near: ping 7 client > near");
        scene.check(&format!("near: pong{version} 7 > client"), "client: pong 7 near > client");
        scene.check(&format!("client: ping{version} 7 > far"), "drop denied-by-ingress-policy");
        scene.change("egress client: near udp/7, far");
        scene.check(&format!("client: ping{version} 8 > near"), "drop denied-by-egress-policy");
        scene.check(&format!("client: ping{version} 7 > near"), "drop denied-by-egress-policy");
    }
}

#[test]
fn n09_errors_about_an_allowed_flow_pass_whatever_policies_say_to_their_sender() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress client:\n egress far:\n ingress far: client udp/53\n ingress near:\n egress near:");
    scene.check("client: udp 5000 > far:53", "far: udp client:5000 > far:53");
    let about = scene.sketch("client: udp 5000 > far:53").1;
    let mut error = scene.error("far", PORT_UNREACHABLE, &about);
    let expect = "client: port-unreachable far > client about client:5000 > far:53";
    assert_eq!(scene.send_frame("far", &mut error), expect);
}

#[test]
fn n09_errors_about_a_denied_or_a_cut_flow_do_not() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress far: client udp/53");
    let about = |scene: &Scene, words: &str| -> Sketch { scene.sketch(words).1 };
    scene.check("client: udp 5000 > far:54", "drop denied-by-ingress-policy");
    let mut error = scene.error("far", PORT_UNREACHABLE, &about(&scene, "client: udp 5000 > far:54"));
    assert_eq!(scene.send_frame("far", &mut error), "drop unrelated-icmp-error");

    scene.check("client: udp 5000 > far:53", "far: udp client:5000 > far:53");
    scene.change("ingress far: near");
    let mut error = scene.error("far", PORT_UNREACHABLE, &about(&scene, "client: udp 5000 > far:53"));
    assert_eq!(scene.send_frame("far", &mut error), "drop denied-by-ingress-policy");
    let mut error = scene.error("far", PORT_UNREACHABLE, &about(&scene, "client: udp 5000 > far:53"));
    assert_eq!(scene.send_frame("far", &mut error), "drop denied-by-ingress-policy", "and again");
}

#[test]
fn n08_both_ends_judge_a_service_by_its_backend_and_the_client_as_it_is() {
    let mut scene = Scene::new(PODS);
    for (service, backend, port) in [("web", "near", 8080), ("store", "far", 5432)] {
        for frontend in [format!("{service}:80"), format!("node1:{}", if service == "web" { 30_080 } else { 30_081 })] {
            let opened = format!("{backend}: tcp client:40000 > {backend}:{port} syn");
            scene.change(&format!("ingress {backend}: client tcp/{port}\n egress client: {backend} tcp/{port}"));
            scene.check(&format!("client: tcp 40000 > {frontend} syn"), &opened);
            scene.change(&format!("ingress {backend}: client tcp/80"));
            scene.check(&format!("client: tcp 40001 > {frontend} syn"), "drop denied-by-ingress-policy");
            scene.change(&format!("egress client: {backend} tcp/80, 10.96.0.0/16, 172.30.0.0/24"));
            scene.check(&format!("client: tcp 40002 > {frontend} syn"), "drop denied-by-egress-policy");
            scene.remove(&format!("ingress {backend}"));
            scene.remove("egress client");
            scene.wait(1_000);
        }
    }
}

#[test]
fn n10_a_node_reaches_its_own_pods_and_not_those_of_other_nodes_and_pods_do_not_reach_it_unasked() {
    for version in ["", "6"] {
        let mut scene = Scene::new(PODS);
        scene.change("ingress near:\n ingress far:\n egress near:");
        for from in ["node1", "gateway1"] {
            scene.check(
                &format!("{from}: tcp{version} 40000 > near:80 syn"),
                &format!("near: tcp {from}:40000 > near:80 syn"),
            );
            scene.check(
                &format!("near: tcp{version} 80 > {from}:40000 syn-ack"),
                &format!("node1: tcp near:80 > {from}:40000 syn-ack"),
            );
            scene.check(&format!("{from}: tcp{version} 40000 > far:80 syn"), "drop denied-by-ingress-policy");
            scene.check(&format!("{from}: ping{version} 7 > near"), &format!("near: ping 7 {from} > near"));
        }
        scene.check(&format!("near: tcp{version} 40001 > node1:10250 syn"), "drop denied-by-egress-policy");
        // A Service changes nothing about it.
        scene.check(&format!("node1: tcp{version} 40000 > web:80 syn"), "near: tcp node1:40000 > near:8080 syn");
        scene.check(&format!("node1: tcp{version} 40000 > store:80 syn"), "drop denied-by-ingress-policy");
    }
}

/// A pod of node1's own network.
const AGENT: &str = "apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: default, labels: {name: agent}}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: main, image: none}]}
status: {phase: Running, podIP: 172.30.0.11, podIPs: [{ip: 172.30.0.11}, {ip: \"fd00:172:30::11\"}]}
";

#[test]
fn n11_a_pod_of_the_host_network_is_its_node_to_everybody_and_never_isolated() {
    let mut scene = Scene::new(PODS);
    scene.manifests(AGENT);
    let (syn, opened) = ("node1: tcp 40000 > far:80 syn", "far: tcp node1:40000 > far:80 syn");
    scene.change("ingress far: agent");
    scene.check(syn, "drop denied-by-ingress-policy");
    scene.change("ingress far: 172.30.0.11/32");
    scene.check(syn, opened);
    scene.change("egress client: agent");
    scene.check("client: tcp 40000 > node1:80 syn", "drop denied-by-egress-policy");
    scene.change("egress client: 172.30.0.11/32");
    scene.check("client: tcp 40000 > node1:80 syn", "node1: tcp client:40000 > node1:80 syn");
    scene.change("ingress agent:\n egress agent:");
    scene.check("client: tcp 40001 > node1:80 syn", "node1: tcp client:40001 > node1:80 syn");
    scene.check("node1: tcp 40001 > client:80 syn", "client: tcp node1:40001 > client:80 syn");
}

#[test]
fn n25_fragments_follow_what_egress_policy_says_of_their_first() {
    let mut scene = Scene::new(PODS);
    scene.change("egress client: near udp/53, far udp/53");
    let mut id = 0;
    for version in ["", "6"] {
        for pod in ["near", "far"] {
            for order in [[0, 1, 2], [2, 1, 0]] {
                for (port, passes) in [(53, true), (54, false)] {
                    id += 1;
                    let words = format!("client: udp{version} 5000 > {pod}:{port} len=4000 may-be-cut");
                    let fragments = scene.sketch(&words).1.fragments(id, 1_400);
                    let mut fates: Vec<String> = order
                        .iter()
                        .map(|&n| scene.send_frame("client", &mut Frame::from_bytes(&fragments[n])))
                        .collect();
                    fates.retain(|fate| fate != "held");
                    fates.extend(scene.released());
                    assert_eq!(fates.len(), 3);
                    for fate in &fates {
                        assert_eq!(fate.starts_with(pod), passes, "{words} {order:?}: {fates:?}");
                        assert!(passes || fate.starts_with("drop "), "{fate}");
                    }
                }
            }
        }
    }
    assert_eq!(scene.drops(1, DropReason::DeniedByEgressPolicy), 8);
    assert_eq!(scene.drops(1, DropReason::FragmentWithoutFirst), 16);
}

#[test]
fn n25_n12_a_hairpin_is_exempt_and_opens_nothing_else() {
    let mut scene = Scene::new(PODS);
    scene.change("service own tcp 80 to 8080: near\n ingress near:\n egress near:");
    scene.check("near: tcp 40000 > own:80 syn", "near: tcp gateway1:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > gateway1:40000 syn-ack", "near: tcp own:80 > near:40000 syn-ack");
    scene.check("client: tcp 40000 > own:80 syn", "drop denied-by-ingress-policy");
    scene.check("near: tcp 8080 > gateway1:40001 syn", "drop denied-by-egress-policy");
    scene.check("near: tcp 40000 > client:8080 syn", "drop denied-by-egress-policy");
}

#[test]
fn n25_a_node_port_is_judged_with_the_clients_address_unless_the_node_gives_its_own() {
    // Without translation of the source: the pod's policies see who it is, on whichever node the client comes in.
    let mut scene = Scene::new(&format!("{PODS}\nuplinks 50000-50999"));
    scene.change("ingress near: 203.0.113.0/24 tcp/8080\n ingress far: 203.0.113.0/24 tcp/5432");
    for (frontend, server) in [("node1:30080", "near:8080"), ("node2:30080", "near:8080"), ("node1:30081", "far:5432")]
    {
        let pod = server.split(':').next().unwrap();
        scene.check(
            &format!("outside: tcp 40000 > {frontend} syn"),
            &format!("{pod}: tcp outside:40000 > {server} syn"),
        );
        scene.check(&format!("world: tcp 40000 > {frontend} syn"), "drop denied-by-ingress-policy");
        scene.wait(100);
    }
    // With it: what comes in here is judged here, before its source is lost; to another node's pod it is this node.
    let mut scene = Scene::new(&format!("masquerade-all\n{PODS}\nuplinks 50000-50999"));
    scene.change("ingress near: 203.0.113.0/24 tcp/8080\n ingress far: 203.0.113.0/24 tcp/5432");
    let sent = scene.send("outside: tcp 40000 > node1:30080 syn");
    let (source, _) = ports(&sent);
    assert_eq!(sent, format!("near: tcp node1:{source} > near:8080 syn"));
    scene.check("world: tcp 40000 > node1:30080 syn", "drop denied-by-ingress-policy");
    scene.check("outside: tcp 40000 > node1:30081 syn", "drop denied-by-ingress-policy");
    assert_eq!(scene.drops(2, DropReason::DeniedByIngressPolicy), 1, "by the other node, which sees this one");
    scene.change("ingress far: 203.0.113.0/24 tcp/5432, 172.30.0.11/32 tcp/5432");
    assert!(scene.send("outside: tcp 40001 > node1:30081 syn").starts_with("far: tcp node1:"));
    scene.check("world: tcp 40001 > node1:30081 syn", "drop denied-by-ingress-policy");
}

#[test]
fn n25_under_masquerade_all_a_pod_is_judged_as_itself_where_it_leaves_and_as_its_node_where_it_arrives() {
    let mut scene = Scene::new(&format!("masquerade-all\n{PODS}"));
    scene.change("ingress far: client\n ingress near:");
    scene.check("client: tcp 40000 > store:80 syn", "drop denied-by-ingress-policy");
    scene.change("ingress far: 10.244.1.1/32");
    assert!(scene.send("client: tcp 40000 > store:80 syn").starts_with("far: tcp gateway1:"));
    assert!(scene.send("client: tcp 40000 > web:80 syn").starts_with("near: tcp gateway1:"), "its own node's pod");
    scene.change("egress client: near tcp/8080");
    scene.check("client: tcp 40001 > store:80 syn", "drop denied-by-egress-policy");
    assert!(scene.send("client: tcp 40001 > web:80 syn").starts_with("near: tcp gateway1:"));
    scene.check("client: tcp 40000 > store:80 ack", "drop denied-by-egress-policy");
}

#[test]
fn n26_whoever_asks_for_an_address_of_its_own_is_not_stopped_by_policy() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress client:\n egress client:");
    for words in ["client: udp 68 > 255.255.255.255:67", "client: udp6 546 > ff02::1:2"] {
        scene.check(words, "drop multicast");
    }
    scene.check("client: udp 68 > gateway1:67", "drop denied-by-egress-policy");
    assert_eq!(scene.drops(1, DropReason::DeniedByEgressPolicy), 1, "a packet for the node's own processes is traffic");
}

/// A port of a pod of node1 that no object describes.
fn stranger(name: &str) -> PortConfig {
    PortConfig {
        id: PortId(999),
        kind: PortKind::Pod { namespace: "default".to_owned(), name: name.to_owned() },
        mac: MacAddr::local(999),
        addresses: vec!["10.244.1.99".parse().unwrap()],
        mtu: 1450,
    }
}

fn pod(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{name: {name}}}}}\nspec: {{nodeName: node1}}\n\
         status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
    )
}

/// What becomes of a packet of the port.
fn from_stranger(scene: &mut Scene, port: &PortConfig) -> Fate {
    let mut sketch = scene.sketch("client: udp 5000 > near:53").1;
    (sketch.src_mac, sketch.src) = (port.mac, port.addresses[0]);
    let now = scene.now;
    scene.nodes[0].shards[0].from_pod(now, port.id, &mut Frame::from_bytes(&sketch.bytes()))
}

/// What becomes of a packet to its address.
fn to_stranger(scene: &mut Scene) -> Fate {
    let sketch = scene.sketch("client: udp 5000 > 10.244.1.99:53").1;
    let (_, _, port, _) = scene.entry("client");
    let now = scene.now;
    scene.nodes[0].shards[0].from_pod(now, port, &mut Frame::from_bytes(&sketch.bytes()))
}

#[test]
fn n13_a_port_is_closed_in_both_directions_unless_the_tables_know_its_pod_with_its_addresses() {
    let closed = Fate::Drop(DropReason::PortNotReady);
    let mut scene = Scene::new(PODS);
    // Attached first, described later.
    let port = stranger("late");
    scene.attach(port.clone());
    assert_eq!((from_stranger(&mut scene, &port), to_stranger(&mut scene)), (closed, closed));
    // Described without its address, which peers would take for somebody else's.
    scene.manifests(&pod("late", "10.244.1.98"));
    assert_eq!((from_stranger(&mut scene, &port), to_stranger(&mut scene)), (closed, closed));
    scene.manifests(&pod("late", "10.244.1.99"));
    assert!(matches!(from_stranger(&mut scene, &port), Fate::Forward(_)));
    assert!(matches!(to_stranger(&mut scene), Fate::Forward(_)));
    // Another pod gets the address while the old one's port is still there.
    scene.manifests(&pod("heir", "10.244.1.99"));
    assert_eq!((from_stranger(&mut scene, &port), to_stranger(&mut scene)), (closed, closed));
    // Its own port is judged from its first packet, and knows nothing of the other one's flows.
    let heir = PortConfig { id: PortId(1_000), ..stranger("heir") };
    scene.detach_port(port.id);
    scene.attach(heir.clone());
    scene.change("egress heir:\n ingress heir:");
    assert_eq!(from_stranger(&mut scene, &heir), Fate::Drop(DropReason::DeniedByEgressPolicy));
    assert_eq!(to_stranger(&mut scene), Fate::Drop(DropReason::DeniedByIngressPolicy));
    // And closed again once its object goes.
    scene.manifests("");
    assert_eq!((from_stranger(&mut scene, &heir), to_stranger(&mut scene)), (closed, closed));
}

#[test]
fn n13_a_pod_that_is_made_again_under_its_name_with_another_address_does_not_open_the_old_ones_port() {
    let mut scene = Scene::new(PODS);
    let port = stranger("web-0");
    scene.attach(port.clone());
    scene.manifests(&pod("web-0", "10.244.1.99"));
    assert!(matches!(from_stranger(&mut scene, &port), Fate::Forward(_)));
    scene.manifests(&pod("web-0", "10.244.1.55"));
    assert_eq!(from_stranger(&mut scene, &port), Fate::Drop(DropReason::PortNotReady));
}

#[test]
fn n13_no_port_forwards_anything_before_the_first_tables() {
    let scene = Scene::new(PODS);
    for words in ["client: udp 5000 > near:53", "node1: udp 5000 > near:53"] {
        let mut switch = switch::Switch::new(scene.nodes[0].shards[0].config().clone());
        scene.nodes[0].shards[0].ports().into_iter().for_each(|port| switch.add_port(port));
        let (sender, sketch, _) = scene.sketch(words);
        let fate = switch.from_pod(scene.now, scene.entry(&sender).2, &mut Frame::from_bytes(&sketch.bytes()));
        assert_eq!(fate, Fate::Drop(DropReason::PortNotReady), "{words}");
    }
}

/// A ClusterNetworkPolicy that denies every pod everything.
const NOTHING: &str = "apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: nothing}
spec:
  tier: Admin
  priority: 0
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
  egress: [{action: Deny, to: [{networks: [0.0.0.0/0, \"::/0\"]}]}]
";

#[test]
fn n26_n10_n12_a_policy_that_denies_everything_leaves_gateway_node_and_hairpin() {
    let mut scene = Scene::new(PODS);
    scene.change("service own tcp 80 to 8080: near");
    scene.manifests(NOTHING);
    for version in ["", "6"] {
        scene.check(&format!("client: ping{version} 7 > gateway1"), "client: pong 7 gateway1 > client");
        scene.check(&format!("node1: tcp{version} 40000 > near:80 syn"), "near: tcp node1:40000 > near:80 syn");
        scene.check(&format!("near: tcp{version} 40000 > own:80 syn"), "near: tcp gateway1:40000 > near:8080 syn");
        for to in ["near", "far", "node1", "node2", "outside"] {
            scene.check(&format!("client: tcp{version} 40000 > {to}:80 syn"), "drop denied-by-egress-policy");
            scene.check(&format!("client: ping{version} 7 > {to}"), "drop denied-by-egress-policy");
        }
    }
}
