//! What is told of policies' decisions and of drops: counts per rule (N22, W25), the most recent drops (W03).

use crate::scene::Scene;
use overlay::vxlan;
use policy::tables::Direction;
use std::net::IpAddr;
use switch::{DropReason, DropSeen, PolicyHits};

const PODS: &str = "
    pod client on node1
    pod server on node1
    pod db on node2
    service web tcp 80 to 8080: server
    service store tcp 80 to 5432: db
";

/// The counts of node `node`, as `POLICY DIRECTION[RULE] accepted/denied/would deny`, in order of evaluation.
pub(crate) fn hits(scene: &Scene, node: usize) -> Vec<String> {
    let mut told = Vec::new();
    for switch in &scene.nodes[node - 1].shards {
        for (decider, PolicyHits { accepted, denied, would_deny }) in switch.policy_hits() {
            let tables = scene.tables();
            let policy = tables.find_policy(decider.policy).map(|index| tables.policy(index).name.to_string());
            let direction = if decider.direction == Direction::ToPod { "ingress" } else { "egress" };
            let rule = decider.rule.map_or(String::new(), |rule| format!("[{rule}]"));
            let policy = policy.unwrap_or_else(|| "gone".to_owned());
            told.push(format!("{policy} {direction}{rule} {accepted}/{denied}/{would_deny}"));
        }
    }
    told.sort();
    told
}

/// The records of node `node`, the most recent first, as `REASON PORT'S POD: before => after xCOUNT`.
pub(crate) fn drops(scene: &Scene, node: usize) -> Vec<String> {
    let seen = scene.nodes[node - 1].shards.iter().flat_map(|switch| switch.drops_seen(scene.now).records);
    let told = |seen: DropSeen| {
        let at = seen.port.map_or(String::new(), |port| format!(" at {}", scene.pod_at(port)));
        let key = |key: wire::FlowKey| {
            format!("{}:{} > {}:{}", scene.name(key.src()), key.src_port, scene.name(key.dst()), key.dst_port)
        };
        let before = seen.before.map_or(String::new(), |before| format!("{} => ", key(before)));
        let flow = seen.flow.map_or("no packet".to_owned(), key);
        let would = if seen.dry_run { "would be " } else { "" };
        format!("{would}{}{at}: {before}{flow} x{}", seen.reason.name(), seen.count)
    };
    seen.map(told).collect()
}

#[test]
fn n22_a_rule_is_counted_for_each_flow_that_it_accepts_and_the_policies_for_what_none_does() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress server: db tcp/1, client tcp/8080");
    scene.manifests(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: second, namespace: default}
spec: {podSelector: {matchLabels: {name: server}}, policyTypes: [Ingress], ingress: [{ports: [{port: 22}]}]}",
    );
    for port in 40_000..40_003 {
        scene.check(
            &format!("client: tcp {port} > server:8080 syn"),
            &format!("server: tcp client:{port} > server:8080 syn"),
        );
        scene.check(
            &format!("client: tcp {port} > server:8080 ack"),
            &format!("server: tcp client:{port} > server:8080 ack"),
        );
    }
    scene.check("client: tcp 40000 > server:22 syn", "server: tcp client:40000 > server:22 syn");
    for _ in 0..5 {
        scene.check("client: tcp 40000 > server:8081 syn", "drop denied-by-ingress-policy");
    }
    let expect = ["rule-0 ingress 0/5/0", "rule-0 ingress[1] 3/0/0", "second ingress 0/5/0", "second ingress[0] 1/0/0"];
    assert_eq!(hits(&scene, 1), expect);
    assert_eq!(hits(&scene, 2), [""; 0], "the other node has nothing to say");

    // Counts outlive the tables, and what went on was counted when it was opened.
    scene.change("ingress server: db tcp/1, client tcp/8080");
    scene.check("client: tcp 40000 > server:8080 ack", "server: tcp client:40000 > server:8080 ack");
    scene.check("client: tcp 40000 > server:8081 syn", "drop denied-by-ingress-policy");
    let expect = ["rule-0 ingress 0/6/0", "rule-0 ingress[1] 3/0/0", "second ingress 0/6/0", "second ingress[0] 1/0/0"];
    assert_eq!(hits(&scene, 1), expect);
    scene.manifests("");
    assert_eq!(
        hits(&scene, 1),
        ["gone ingress 0/6/0", "gone ingress[0] 1/0/0", "rule-0 ingress 0/6/0", "rule-0 ingress[1] 3/0/0"]
    );
}

#[test]
fn n22_a_cut_is_counted_once_however_long_the_ends_go_on_and_so_is_its_end() {
    let mut scene = Scene::new(PODS);
    scene.check("client: tcp 40000 > db:5432 syn", "db: tcp client:40000 > db:5432 syn");
    scene.change("ingress db:");
    for _ in 0..4 {
        scene.check("client: tcp 40000 > db:5432 ack", "drop denied-by-ingress-policy");
        scene.change("");
    }
    assert_eq!(hits(&scene, 2), ["rule-0 ingress 0/1/0"]);
    assert_eq!(drops(&scene, 2), ["denied-by-ingress-policy at db: client:40000 > db:5432 x4"]);
    scene.change("ingress db: client");
    scene.check("client: tcp 40000 > db:5432 ack", "db: tcp client:40000 > db:5432 ack");
    assert_eq!(hits(&scene, 2), ["rule-0 ingress 0/1/0", "rule-0 ingress[0] 1/0/0"]);
}

#[test]
fn w03_a_denial_is_recorded_with_the_flow_before_and_after_translation() {
    for shards in 1..=2 {
        let mut scene = Scene::with_shards(shards, PODS);
        scene.change("egress client: server");
        scene.check("client: tcp 40000 > store:80 syn", "drop denied-by-egress-policy");
        scene.check("client: tcp 40001 > store:80 syn", "drop denied-by-egress-policy");
        let expect = "denied-by-egress-policy at client: client:40001 > store:80 => client:40001 > db:5432 x2";
        assert_eq!(drops(&scene, 1), [expect]);
        let seen = scene.nodes[0].shards.iter().find_map(|s| s.drops_seen(scene.now).records.first().copied()).unwrap();
        let asked = seen.asked().unwrap();
        assert_eq!((asked.direction, asked.port), (Direction::FromPod, 5432));
        assert_eq!([asked.subject, asked.peer], ["client", "db"].map(|name| scene.address(name, false)));

        let mut scene = Scene::with_shards(shards, PODS);
        scene.change("ingress server: db\n ingress db: server");
        scene.check("client: tcp6 40000 > web:80 syn", "drop denied-by-ingress-policy");
        scene.check("client: tcp 40000 > store:80 syn", "drop denied-by-ingress-policy");
        let before = if shards == 1 { "client:40000 > web:80 => " } else { "" };
        assert_eq!(
            drops(&scene, 1),
            [format!("denied-by-ingress-policy at server: {before}client:40000 > server:8080 x1")]
        );
        assert_eq!(drops(&scene, 2), ["denied-by-ingress-policy at db: client:40000 > db:5432 x1"]);
    }
}

#[test]
fn w03_other_drops_are_recorded_by_port_and_ends_and_chatter_is_not() {
    let mut scene = Scene::new(PODS);
    let stranger = IpAddr::from([172, 30, 0, 99]);
    let mut datagram = vxlan::header(vxlan::Vni::new(1).unwrap()).to_vec();
    datagram.extend([0; 60]);
    assert_eq!(scene.send_datagram(stranger, 1, &datagram), "drop unknown-peer");
    scene.wait(1);
    scene.check("client: udp 5000 > server:53 from=db", "drop spoofed-source");
    scene.wait(1);
    let mut frame = wire::Frame::from_bytes(&scene.sketch("client: udp 5000 > server:53").1.bytes());
    frame.bytes_mut()[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(scene.send_frame("client", &mut frame), "drop unknown-ethertype");
    scene.wait(1);
    scene.check("client: udp 5000 > 224.0.0.251:5353", "drop multicast");
    scene.change("uplinks 50000-50999");
    scene.check("world: tcp 40000 > node1:22 syn", "drop left-to-kernel");
    assert_eq!(
        drops(&scene, 1),
        [
            "multicast at client: client:5000 > 224.0.0.251:5353 x1",
            "unknown-ethertype at client: no packet x1",
            "spoofed-source at client: db:5000 > server:53 x1",
            "unknown-peer: 172.30.0.99:0 > node1:4789 x1",
        ]
    );
    assert_eq!(scene.drops(1, DropReason::LeftToKernel), 1, "counted all the same");
}

#[test]
fn a_fragment_that_was_given_up_is_recorded() {
    let mut scene = Scene::new(PODS);
    let sketch = scene.sketch("client: udp 5000 > server:53 len=4000 may-be-cut").1;
    let mut later = wire::Frame::from_bytes(&sketch.fragments(7, 1_400)[1]);
    assert_eq!(scene.send_frame("client", &mut later), "held");
    scene.wait(5);
    scene.expire();
    assert_eq!(drops(&scene, 1), ["fragment-without-first at client: client:0 > server:0 x1"]);
}
