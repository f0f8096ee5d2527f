//! Which endpoints a flow to a Service may reach, by the address it used, the Service's policies, and their state.

use crate::scene::Scene;
use std::collections::BTreeSet;
use switch::DropReason;

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    pod further on node2
";

/// The receivers of connection attempts from 60 ports.
fn receivers(scene: &mut Scene, from: &str, version: &str, to: &str) -> BTreeSet<String> {
    // Attempts of before are forgotten by then.
    scene.wait(60);
    let send = |port| {
        let fate = scene.send(&format!("{from}: tcp{version} {port} > {to} syn"));
        match fate.strip_prefix("drop ") {
            Some(reason) => format!("drop {reason}"),
            None => fate.split_once(':').expect("a receiver").0.to_owned(),
        }
    };
    (40_000..40_060).map(send).collect()
}

#[track_caller]
fn check(scene: &mut Scene, from: &str, to: &str, expect: &[&str]) {
    for version in ["", "6"] {
        let expect: BTreeSet<String> = expect.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            receivers(scene, from, version, to),
            expect,
            "{from} to {to}, version {version}\n{}",
            scene.report()
        );
    }
}

#[test]
fn s12_draining_endpoints_take_flows_only_while_none_is_ready_and_unready_ones_never() {
    for (backends, expect) in [
        ("near, far/draining, further/unready", &["near"][..]),
        ("near/draining, far/draining, further/unready", &["near", "far"]),
        ("near/unready, far/draining", &["far"]),
    ] {
        let mut scene = Scene::new(PODS);
        scene.change(&format!("service web tcp 80 to 8080: {backends}"));
        check(&mut scene, "client", "web:80", expect);
    }
}

#[test]
fn s11_a_service_with_nothing_but_unready_endpoints_refuses() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080: near/unready");
    scene.check("client: tcp 40000 > web:80 syn", "client: tcp web:80 > client:40000 rst-ack");
}

#[test]
fn s09_internal_policy_local_keeps_to_the_own_node_and_drops_when_only_others_have_endpoints() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 internal=Local: near, far, further");
    check(&mut scene, "client", "web:80", &["near"]);
    check(&mut scene, "node2", "web:80", &["far", "further"]);
    scene.change("service web tcp 80 to 8080 internal=Local: far, further");
    check(&mut scene, "client", "web:80", &["drop no-local-endpoint"]);
    assert_eq!(scene.drops(1, DropReason::NoLocalEndpoint), 120);
    scene.change("service web tcp 80 to 8080 internal=Local:");
    scene.check("client: tcp 40000 > web:80 syn", "client: tcp web:80 > client:40000 rst-ack");
}

#[test]
fn s04_the_load_balancers_address_leads_to_all_endpoints_from_inside_whatever_the_external_policy() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 lb=200 external=Local: near, far");
    check(&mut scene, "client", "web-lb:80", &["near", "far"]);
    scene.check("client: tcp 41000 > web-lb:81 syn", "client: tcp web-lb:81 > client:41000 rst-ack");
}

#[test]
fn s05_an_external_ip_in_the_allow_list_leads_to_the_service() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 external-ip=198.51.100.99: far");
    scene.check("client: tcp 40000 > 198.51.100.99:80 syn", "far: tcp client:40000 > far:8080 syn");
    scene.check("far: tcp 8080 > client:40000 syn-ack", "client: tcp 198.51.100.99:80 > client:40000 syn-ack");
}

#[test]
fn s02_a_node_port_is_reached_from_pods_and_nodes_at_every_nodes_address() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 node-port=30080: near, far");
    for node in ["node1", "node2"] {
        check(&mut scene, "client", &format!("{node}:30080"), &["near", "far"]);
    }
    scene.change("service web tcp 80 to 8080 node-port=30080 external=Local: near, far, further");
    check(&mut scene, "client", "node1:30080", &["near", "far", "further"]);
    check(&mut scene, "client", "node2:30080", &["far", "further"]);
    scene.change("service web tcp 80 to 8080 node-port=30080 external=Local: near");
    check(&mut scene, "client", "node2:30080", &["drop no-local-endpoint"]);
}

#[test]
fn s02_the_answers_of_a_node_port_come_from_the_address_that_was_asked() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 node-port=30080: far");
    for version in ["", "6"] {
        scene.check(&format!("client: tcp{version} 40000 > node2:30080 syn"), "far: tcp client:40000 > far:8080 syn");
        scene.check(
            &format!("far: tcp{version} 8080 > client:40000 syn-ack"),
            "client: tcp node2:30080 > client:40000 syn-ack",
        );
    }
}

#[test]
fn s19_source_ranges_hold_for_the_load_balancers_address_and_for_no_other() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 lb=200 sources=10.244.2.0/24,fd00:10:244:2::/64: near, far");
    check(&mut scene, "client", "web-lb:80", &["drop source-not-allowed"]);
    check(&mut scene, "client", "web:80", &["near", "far"]);
    check(&mut scene, "far", "web-lb:80", &["near", "far"]);
    assert_eq!(scene.drops(1, DropReason::SourceNotAllowed), 120);
}

#[test]
fn s19_a_flow_ends_when_its_client_is_no_longer_allowed() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 lb=200: near\n service dns udp 53 to 5353 lb=201: near");
    scene.check("client: tcp 40000 > web-lb:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("client: udp 5000 > dns-lb:53", "near: udp client:5000 > near:5353");
    scene.change("service web tcp 80 to 8080 lb=200 sources=10.9.0.0/16: near");
    scene.change("service dns udp 53 to 5353 lb=201 sources=10.9.0.0/16: near");
    scene.check("client: tcp 40000 > web-lb:80 ack", "client: tcp web-lb:80 > client:40000 rst");
    scene.check("client: udp 5000 > dns-lb:53", "drop source-not-allowed");
}

#[test]
fn a_change_of_policy_moves_udp_and_leaves_connections_where_they_are() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080: far\n service dns udp 53 to 5353: far");
    scene.check("client: tcp 40000 > web:80 syn", "far: tcp client:40000 > far:8080 syn");
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    scene.change("service web tcp 80 to 8080 internal=Local: near, far");
    scene.change("service dns udp 53 to 5353 internal=Local: near, far");
    scene.check("client: udp 5000 > dns:53", "near: udp client:5000 > near:5353");
    scene.check("client: tcp 40000 > web:80 ack", "far: tcp client:40000 > far:8080 ack");
    scene.check("client: tcp 40001 > web:80 syn", "near: tcp client:40001 > near:8080 syn");
    scene.change("service dns udp 53 to 5353: near, far");
    scene.check("client: udp 5000 > dns:53", "near: udp client:5000 > near:5353");
}

#[test]
fn a_tcp_connection_to_a_draining_endpoint_goes_on_and_a_new_one_goes_elsewhere() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 internal=Local: near");
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > client:40000 syn-ack", "client: tcp web:80 > client:40000 syn-ack");
    scene.change("service web tcp 80 to 8080: near/draining, far");
    scene.check("client: tcp 40000 > web:80 ack", "near: tcp client:40000 > near:8080 ack");
    scene.check("client: tcp 40001 > web:80 syn", "far: tcp client:40001 > far:8080 syn");
}
