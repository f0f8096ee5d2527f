//! Rules that name DNS names (N18): who is reached depends on what the pod's DNS answers said.

use crate::bytes;
use crate::scene::Scene;
use domain::base::iana::Rtype;
use domain::base::{MessageBuilder, Name, StaticCompressor};
use domain::rdata::{A, Aaaa, Cname};
use proptest::prelude::*;
use std::net::IpAddr;
use std::str::FromStr;
use wire::Frame;

/// `resolver` is the trusted name server, `fake` is another one; `far` and `near` are who has names.
const PODS: &str = "
    pod resolver on node2
    pod fake on node2
    pod far on node2
    pod client on node1
    pod near on node1
    service dns udp 53 to 53: resolver
";
const FAR: &str = "10.244.2.13";
const FAR6: &str = "fd00:10:244:2::d";
const NEAR: &str = "10.244.1.12";

/// The client may ask both name servers and reach what has these names, and nothing else.
fn policy(names: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: names}}
spec:
  tier: Admin
  priority: 10
  subject: {{pods: {{podSelector: {{matchLabels: {{name: client}}}}}}}}
  egress:
  - action: Accept
    to: [{{pods: {{podSelector: {{matchExpressions: [{{key: name, operator: In, values: [resolver, fake]}}]}}}}}}]
    protocols: [{{udp: {{destinationPort: {{number: 53}}}}}}]
  - action: Accept
    to: [{{domainNames: [{names}]}}]
    protocols: [{{tcp: {{destinationPort: {{number: 443}}}}}}]
  - {{action: Deny, to: [{{networks: [0.0.0.0/0, '::/0']}}]}}
"
    )
}

fn scene() -> Scene {
    let mut scene = Scene::new(PODS);
    scene.manifests(&policy("far.example, '*.wild.example'"));
    scene
}

/// A DNS answer about `asked`: records of owner, seconds and an address or a name.
pub(crate) fn message(asked: &str, records: &[(&str, u32, &str)]) -> Vec<u8> {
    let name = |text: &str| Name::<Vec<u8>>::from_str(text).unwrap();
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).unwrap();
    builder.header_mut().set_qr(true);
    let mut builder = builder.question();
    builder.push((name(asked), Rtype::A)).unwrap();
    let mut builder = builder.answer();
    for (owner, ttl, value) in records {
        let pushed = match value.parse::<IpAddr>() {
            Ok(IpAddr::V4(addr)) => builder.push((name(owner), *ttl, A::new(addr))),
            Ok(IpAddr::V6(addr)) => builder.push((name(owner), *ttl, Aaaa::new(addr))),
            Err(_) => builder.push((name(owner), *ttl, Cname::new(name(value)))),
        };
        pushed.unwrap();
    }
    builder.finish().into_target()
}

/// The client asks `server` (a pod, or the Service), whose pod answers with `payload`.
#[track_caller]
fn ask(scene: &mut Scene, server: &str, payload: &[u8]) {
    let pod = if server == "dns" { "resolver" } else { server };
    scene.check(&format!("client: udp 5000 > {server}:53"), &format!("{pod}: udp client:5000 > {pod}:53"));
    let (sender, mut sketch, _) = scene.sketch(&format!("{pod}: udp 53 > client:5000"));
    sketch.l4 = bytes::udp(53, 5000, 0);
    sketch.l4.extend(payload);
    let len = sketch.l4.len() as u16;
    sketch.l4[4..6].copy_from_slice(&len.to_be_bytes());
    let outcome = scene.send_frame(&sender, &mut Frame::from_bytes(&sketch.bytes()));
    assert_eq!(outcome, format!("client: udp {server}:53 > client:5000"), "an answer always passes");
}

/// Whether the client may open a connection from `port` to 443 of `pod`.
fn opens(scene: &mut Scene, port: u16, pod: &str) -> bool {
    match scene.send(&format!("client: tcp {port} > {pod}:443 syn")).as_str() {
        "drop denied-by-egress-policy" => false,
        reached => {
            assert_eq!(reached, format!("{pod}: tcp client:{port} > {pod}:443 syn"));
            true
        }
    }
}

#[test]
fn n18_a_name_opens_its_addresses_once_it_has_been_resolved() {
    for server in ["resolver", "dns"] {
        let mut scene = scene();
        assert!(!opens(&mut scene, 40_000, "far"));
        ask(&mut scene, server, &message("Far.Example", &[("far.example", 30, FAR), ("far.example", 30, FAR6)]));
        assert!(opens(&mut scene, 40_001, "far"));
        assert!(!opens(&mut scene, 40_002, "near"));
        scene.check("client: tcp6 40003 > far:443 syn", "far: tcp client:40003 > far:443 syn");
        scene.check("client: tcp 40004 > far:80 syn", "drop denied-by-egress-policy");
        let names = scene.nodes[0].shards[0].counters().names;
        assert_eq!((names.held, names.learned, names.unreadable), (2, 2, 0));
    }
}

#[test]
fn n18_a_name_that_is_over_opens_nothing_and_live_flows_survive_it() {
    let mut scene = scene();
    ask(&mut scene, "dns", &message("far.example", &[("far.example", 5, FAR)]));
    assert!(opens(&mut scene, 40_000, "far"));
    scene.check("far: tcp 443 > client:40000 syn-ack", "client: tcp far:443 > client:40000 syn-ack");
    scene.check("client: tcp 40000 > far:443 ack", "far: tcp client:40000 > far:443 ack");
    scene.wait(6);
    assert!(!opens(&mut scene, 40_001, "far"));
    scene.check("client: tcp 40000 > far:443 data", "far: tcp client:40000 > far:443 data");
    // Other tables: the flow is judged again, by the name that it was opened by.
    scene.manifests(&policy("far.example, other.example"));
    scene.check("client: tcp 40000 > far:443 data", "far: tcp client:40000 > far:443 data");
    scene.check("far: tcp 443 > client:40000 data", "client: tcp far:443 > client:40000 data");
    assert!(!opens(&mut scene, 40_002, "far"));
    // The rule is gone: so is the flow.
    scene.manifests(&policy("other.example"));
    scene.check("client: tcp 40000 > far:443 data", "drop denied-by-egress-policy");
}

#[test]
fn n18_a_time_of_nothing_leaves_a_second_to_connect() {
    let mut scene = scene();
    ask(&mut scene, "dns", &message("far.example", &[("far.example", 0, FAR)]));
    scene.wait_ms(900);
    assert!(opens(&mut scene, 40_000, "far"));
    scene.wait_ms(100);
    assert!(!opens(&mut scene, 40_001, "far"));
}

#[test]
fn n18_a_wildcard_and_a_chain_of_aliases_open_what_they_lead_to() {
    let mut scene = scene();
    ask(&mut scene, "dns", &message("wild.example", &[("wild.example", 30, NEAR)]));
    assert!(!opens(&mut scene, 40_000, "near"), "a wildcard is not the name itself");
    let chain = [("www.wild.example", 30, "edge.cdn.example"), ("edge.cdn.example", 30, NEAR)];
    ask(&mut scene, "dns", &message("www.wild.example", &chain));
    assert!(opens(&mut scene, 40_001, "near"));
}

#[test]
fn n18_a_name_on_the_way_of_an_alias_is_not_believed() {
    let mut scene = scene();
    let chain = [("evil.test", 30, "far.example"), ("far.example", 30, NEAR)];
    ask(&mut scene, "dns", &message("evil.test", &chain));
    assert!(!opens(&mut scene, 40_000, "near"));
    assert_eq!(scene.nodes[0].shards[0].counters().names.held, 0, "a name that no rule reads is not kept");
}

#[test]
fn n18_a_name_server_that_is_not_trusted_opens_nothing() {
    let mut scene = scene();
    ask(&mut scene, "fake", &message("far.example", &[("far.example", 30, FAR)]));
    assert!(!opens(&mut scene, 40_000, "far"));
}

/// Whether the client learns from a name server on node2 in `namespace` with these labels.
fn learns_from(namespace: &str, labels: &str) -> bool {
    let server = "10.244.2.99";
    let mut scene = Scene::new(PODS);
    let pod = format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: coredns, namespace: {namespace}, labels: {{name: fake, {labels}}}}}
spec: {{nodeName: node2, containers: []}}
status: {{podIPs: [{{ip: {server}}}]}}
"
    );
    scene.manifests(&(policy("far.example") + &pod));
    scene.send(&format!("client: udp 5000 > {server}:53"));
    let (_, client, _) = scene.sketch("client: udp 5000 > far:53");
    let mut l4 = bytes::udp(53, 5000, 0);
    l4.extend(message("far.example", &[("far.example", 30, FAR)]));
    let len = l4.len() as u16;
    l4[4..6].copy_from_slice(&len.to_be_bytes());
    let [src_mac, dst_mac] = ["node2", "node1"].map(overlay::peers::derive_vtep_mac);
    let answer = bytes::Sketch { src_mac, dst_mac, src: server.parse().unwrap(), dst: client.src, l4, ..client };
    let datagram = [&overlay::vxlan::header(overlay::vxlan::Vni::new(1).unwrap())[..], &answer.bytes()].concat();
    let outcome = scene.send_datagram("172.30.0.12".parse().unwrap(), 1, &datagram);
    assert_eq!(outcome, format!("client: udp {server}:53 > client:5000"));
    opens(&mut scene, 40_000, "far")
}

#[test]
fn n18_the_clusters_own_name_servers_are_known_by_namespace_and_label() {
    assert!(learns_from("kube-system", "k8s-app: kube-dns"));
    assert!(!learns_from("default", "k8s-app: kube-dns"));
    assert!(!learns_from("kube-system", "k8s-app: coredns"));
}

#[test]
fn n18_an_answer_that_nobody_asked_for_opens_nothing() {
    let mut scene = scene();
    let (sender, mut sketch, _) = scene.sketch("resolver: udp 53 > client:5000");
    sketch.l4 = bytes::udp(53, 5000, 0);
    sketch.l4.extend(message("far.example", &[("far.example", 30, FAR)]));
    let len = sketch.l4.len() as u16;
    sketch.l4[4..6].copy_from_slice(&len.to_be_bytes());
    scene.send_frame(&sender, &mut Frame::from_bytes(&sketch.bytes()));
    assert!(!opens(&mut scene, 40_000, "far"));
}

#[test]
fn n18_a_rule_that_comes_later_reads_the_answers_of_flows_that_are_open() {
    let mut scene = Scene::new(PODS);
    ask(&mut scene, "dns", &message("far.example", &[("far.example", 30, FAR)]));
    assert_eq!(scene.nodes[0].shards[0].counters().names.learned, 0, "no rule reads names");
    scene.manifests(&policy("far.example"));
    assert!(!opens(&mut scene, 40_000, "far"));
    ask(&mut scene, "dns", &message("far.example", &[("far.example", 30, FAR)]));
    assert!(opens(&mut scene, 40_001, "far"));
}

#[test]
fn n18_what_one_pod_has_resolved_opens_nothing_for_another() {
    let mut scene = Scene::new(&format!("{PODS}\npod second on node1"));
    scene.manifests(&policy("far.example").replace(
        "matchLabels: {name: client}",
        "matchExpressions: [{key: name, operator: In, values: [client, second]}]",
    ));
    ask(&mut scene, "dns", &message("far.example", &[("far.example", 30, FAR)]));
    assert!(opens(&mut scene, 40_000, "far"));
    scene.check("second: tcp 40000 > far:443 syn", "drop denied-by-egress-policy");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n18_hostile_answers_open_nothing_that_no_rule_names(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in 20..120usize,
    ) {
        let mut scene = scene();
        let mut payload = message("far.example", &[("far.example", 30, FAR)]);
        for (at, value) in changes {
            let at = at.index(payload.len());
            payload[at] = value;
        }
        payload.truncate(cut);
        ask(&mut scene, "dns", &payload);
        // Only an address of one of the two names may have opened; port 80 never does.
        scene.check("client: tcp 40000 > far:80 syn", "drop denied-by-egress-policy");
        let names = scene.nodes[0].shards[0].counters().names;
        prop_assert!(names.held <= 1 && names.unreadable <= 1);
    }
}
