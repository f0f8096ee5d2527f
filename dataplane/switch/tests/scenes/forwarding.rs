//! Pod to pod, node to pod, pod to node; one node or two, one shard or more.

use crate::scene::Scene;
use switch::DropReason;

const TWO_AND_ONE: &str = "
    pod client on node1
    pod server on node1
    pod db on node2
";

#[test]
fn pods_of_one_node_reach_each_other_without_translation() {
    let mut scene = Scene::new(TWO_AND_ONE);
    for version in ["", "6"] {
        scene.check(
            &format!("client: tcp{version} 40000 > server:8080 syn"),
            "server: tcp client:40000 > server:8080 syn",
        );
        scene.check(
            &format!("server: tcp{version} 8080 > client:40000 syn-ack"),
            "client: tcp server:8080 > client:40000 syn-ack",
        );
        scene.check(&format!("client: udp{version} 5000 > server:53"), "server: udp client:5000 > server:53");
        scene.check(&format!("client: sctp{version} 5000 > server:99"), "server: sctp client:5000 > server:99 chunk 1");
        scene.check(&format!("client: ping{version} 7 > server"), "server: ping 7 client > server");
        scene.check(&format!("server: pong{version} 7 > client"), "client: pong 7 server > client");
    }
}

#[test]
fn pods_of_two_nodes_reach_each_other_through_the_tunnel() {
    let mut scene = Scene::new(TWO_AND_ONE);
    for version in ["", "6"] {
        scene.check(&format!("client: tcp{version} 40000 > db:5432 syn"), "db: tcp client:40000 > db:5432 syn");
        scene.check(
            &format!("db: tcp{version} 5432 > client:40000 syn-ack"),
            "client: tcp db:5432 > client:40000 syn-ack",
        );
        scene.check(&format!("client: udp{version} 5000 > db:53"), "db: udp client:5000 > db:53");
        scene.check(&format!("client: ping{version} 7 > db"), "db: ping 7 client > db");
        scene.check(&format!("db: pong{version} 7 > client"), "client: pong 7 db > client");
    }
}

#[test]
fn pods_of_two_shards_reach_each_other() {
    let mut scene = Scene::with_shards(2, TWO_AND_ONE);
    scene.check("client: tcp 40000 > server:8080 syn", "server: tcp client:40000 > server:8080 syn");
    scene.check("server: tcp 8080 > client:40000 syn-ack", "client: tcp server:8080 > client:40000 syn-ack");
    scene.check("client: tcp 40000 > db:5432 syn", "db: tcp client:40000 > db:5432 syn");
    scene.check("db: tcp 5432 > client:40000 syn-ack", "client: tcp db:5432 > client:40000 syn-ack");
}

#[test]
fn services_hosts_errors_and_fragments_cross_shards() {
    let mut scene = Scene::with_shards(2, TWO_AND_ONE);
    scene.change("service web udp 53 to 5353: server\n service own tcp 80 to 8080: client");
    scene.check("client: udp 5000 > web:53", "server: udp client:5000 > server:5353");
    scene.check("server: udp 5353 > client:5000", "client: udp web:53 > client:5000");
    let about = scene.sketch("client: udp 5000 > server:5353").1;
    let mut error = scene.error("server", (3, 3, 0), &about);
    assert_eq!(
        scene.send_frame("server", &mut error),
        "client: port-unreachable web > client about client:5000 > web:53"
    );
    for pod in ["client", "server"] {
        scene.check(&format!("{pod}: udp 5000 > node1:53"), &format!("node1: udp {pod}:5000 > node1:53"));
        scene.check(&format!("node1: udp 53 > {pod}:5000"), &format!("{pod}: udp node1:53 > {pod}:5000"));
    }
    scene.check("client: tcp 40000 > own:80 syn", "client: tcp gateway1:40000 > client:8080 syn");
    let (sender, sketch, _) = scene.sketch("client: udp 5000 > web:53 len=2000 may-be-cut");
    let fates: Vec<String> = sketch
        .fragments(1, 1_400)
        .iter()
        .map(|fragment| scene.send_frame(&sender, &mut wire::Frame::from_bytes(fragment)))
        .collect();
    assert_eq!(fates, ["server: udp client:5000 > server:5353", "server: later fragment client > server at 1400"]);
}

#[test]
fn a_node_and_its_pods_reach_each_other() {
    let mut scene = Scene::new(TWO_AND_ONE);
    scene.check("node1: tcp 40000 > server:8080 syn", "server: tcp node1:40000 > server:8080 syn");
    scene.check("server: tcp 8080 > node1:40000 syn-ack", "node1: tcp server:8080 > node1:40000 syn-ack");
    scene.check("client: tcp6 40000 > node1:10250 syn", "node1: tcp client:40000 > node1:10250 syn");
    scene.check("node1: tcp6 10250 > client:40000 syn-ack", "client: tcp node1:10250 > client:40000 syn-ack");
    scene.check("gateway1: udp 5000 > server:53", "server: udp gateway1:5000 > server:53");
    scene.check("server: udp 53 > gateway1:5000", "node1: udp server:53 > gateway1:5000");
}

#[test]
fn a_node_and_the_pods_of_another_node_reach_each_other() {
    let mut scene = Scene::new(TWO_AND_ONE);
    scene.check("node1: tcp 40000 > db:5432 syn", "db: tcp node1:40000 > db:5432 syn");
    scene.check("db: tcp 5432 > node1:40000 syn-ack", "node1: tcp db:5432 > node1:40000 syn-ack");
    scene.check("client: tcp 40000 > node2:10250 syn", "node2: tcp client:40000 > node2:10250 syn");
    scene.check("node2: tcp 10250 > client:40000 syn-ack", "client: tcp node2:10250 > client:40000 syn-ack");
}

#[test]
fn the_first_packet_to_a_pod_that_is_not_compiled_yet_finds_its_node() {
    let mut scene = Scene::new("pod client on node1");
    scene.check("client: udp 5000 > 10.244.2.77:53", "drop not-local");
    assert_eq!(scene.drops(2, DropReason::NotLocal), 1);
}

#[test]
fn a_port_is_closed_until_the_tables_know_its_pod() {
    let mut scene = Scene::new(TWO_AND_ONE);
    let stranger = switch::PortConfig {
        id: switch::PortId(999),
        kind: switch::PortKind::Pod { namespace: "default".to_owned(), name: "stranger".to_owned() },
        mac: wire::MacAddr::local(999),
        addresses: vec!["10.244.1.99".parse().unwrap()],
        mtu: 1450,
    };
    let switch = &mut scene.nodes[0].shards[0];
    switch.add_port(stranger.clone());
    let mut sketch = scene.sketch("client: udp 5000 > server:53").1;
    sketch.src_mac = stranger.mac;
    sketch.src = stranger.addresses[0];
    let mut frame = wire::Frame::from_bytes(&sketch.bytes());
    let now = scene.now;
    let fate = scene.nodes[0].shards[0].from_pod(now, stranger.id, &mut frame);
    assert_eq!(fate, switch::Fate::Drop(DropReason::PortNotReady));
}

#[test]
fn frames_of_a_port_that_was_detached_are_dropped_and_so_are_its_flows() {
    let mut scene = Scene::new(TWO_AND_ONE);
    scene.check("client: udp 5000 > server:53", "server: udp client:5000 > server:53");
    assert_eq!(scene.flows(1), 2);
    scene.remove("server");
    assert_eq!(scene.flows(1), 1);
    scene.check(
        "client: udp 5000 > 10.244.1.12:53",
        "client: host-unreachable gateway1 > client about client:5000 > 10.244.1.12:53",
    );
}

#[test]
fn a_pod_that_moves_is_followed_by_a_flow_at_its_next_packet() {
    let mut scene = Scene::new(TWO_AND_ONE);
    scene.check("client: udp 5000 > server:53", "server: udp client:5000 > server:53");
    let before = scene.flows(1);
    scene.change("pod late on node2");
    scene.check("client: udp 5000 > server:53", "server: udp client:5000 > server:53");
    assert_eq!(scene.flows(1), before, "a table swap that changes nothing for a flow keeps it");
}

#[test]
fn a_super_frame_passes_whole_with_its_checksum_still_partial() {
    let mut scene = Scene::new(TWO_AND_ONE);
    scene.check(
        "client: tcp 40000 > server:8080 data len=30000 segments=1400",
        "server: tcp client:40000 > server:8080 data",
    );
    scene.check("client: udp6 5000 > server:53 len=30000 segments=1400", "server: udp client:5000 > server:53");
}
