//! ClusterIP Services: which backend, how long, and what happens without one.

use crate::scene::{Scene, ports};
use std::collections::HashSet;

const WEB: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080: near
    service dns udp 53 to 5353: far
";

/// The receiver of a packet.
fn receiver(words: &str) -> &str {
    words.split_once(':').expect("a receiver").0
}

#[test]
fn a_service_leads_to_its_backend_and_answers_in_its_own_name() {
    let mut scene = Scene::new(WEB);
    for version in ["", "6"] {
        scene.check(&format!("client: tcp{version} 40000 > web:80 syn"), "near: tcp client:40000 > near:8080 syn");
        scene.check(
            &format!("near: tcp{version} 8080 > client:40000 syn-ack"),
            "client: tcp web:80 > client:40000 syn-ack",
        );
        scene.check(&format!("client: tcp{version} 40000 > web:80 ack"), "near: tcp client:40000 > near:8080 ack");
        scene.check(&format!("client: udp{version} 5000 > dns:53"), "far: udp client:5000 > far:5353");
        scene.check(&format!("far: udp{version} 5353 > client:5000"), "client: udp dns:53 > client:5000");
    }
}

#[test]
fn a_node_reaches_services_too() {
    let mut scene = Scene::new(WEB);
    scene.check("node1: tcp 40000 > web:80 syn", "near: tcp node1:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > node1:40000 syn-ack", "node1: tcp web:80 > node1:40000 syn-ack");
    scene.check("node2: tcp6 40000 > web:80 syn", "near: tcp node2:40000 > near:8080 syn");
    scene.check("near: tcp6 8080 > node2:40000 syn-ack", "node2: tcp web:80 > node2:40000 syn-ack");
}

#[test]
fn a_super_frame_is_translated_with_its_checksum_still_partial() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("client: tcp 40000 > web:80 data len=30000 segments=1400", "near: tcp client:40000 > near:8080 data");
}

#[test]
fn connections_are_spread_over_the_backends_and_each_keeps_its_own() {
    let mut scene = Scene::new(WEB);
    scene.change("service web tcp 80 to 8080: near, far, client");
    let mut seen = HashSet::new();
    for port in 40_000..40_100 {
        let opened = scene.send(&format!("node1: tcp {port} > web:80 syn"));
        let again = scene.send(&format!("node1: tcp {port} > web:80 ack"));
        assert_eq!(receiver(&opened), receiver(&again));
        seen.insert(receiver(&opened).to_owned());
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_connection_keeps_its_backend_while_others_come_and_go() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > client:40000 syn-ack", "client: tcp web:80 > client:40000 syn-ack");
    for backends in ["far, near", "near", "far, client, near"] {
        scene.change(&format!("service web tcp 80 to 8080: {backends}"));
        scene.check("client: tcp 40000 > web:80 ack", "near: tcp client:40000 > near:8080 ack");
    }
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let mut scene = Scene::new(WEB);
    scene.change("service web tcp 80 to 8080:\n service dns udp 53 to 5353:\n service sig sctp 99 to 99:");
    for version in ["", "6"] {
        scene.check(&format!("client: tcp{version} 40000 > web:80 syn"), "client: tcp web:80 > client:40000 rst-ack");
        scene.check(
            &format!("client: udp{version} 5000 > dns:53"),
            "client: port-unreachable dns > client about client:5000 > dns:53",
        );
        scene.check(&format!("client: sctp{version} 5000 > sig:99"), "client: sctp sig:99 > client:5000 abort");
        scene.check(&format!("node1: tcp{version} 40000 > web:80 syn"), "node1: tcp web:80 > node1:40000 rst-ack");
    }
}

#[test]
fn another_port_of_a_services_address_refuses_in_the_same_way() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > web:81 syn", "client: tcp web:81 > client:40000 rst-ack");
    scene.check("client: udp 5000 > web:80", "client: port-unreachable web > client about client:5000 > web:80");
    scene.check("client: ping 7 > web", "client: port-unreachable web > client about client:7 > web:7");
}

#[test]
fn a_udp_flow_whose_backend_goes_gets_another() {
    let mut scene = Scene::new(WEB);
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    scene.change("service dns udp 53 to 5353: near");
    scene.check("client: udp 5000 > dns:53", "near: udp client:5000 > near:5353");
    scene.check("near: udp 5353 > client:5000", "client: udp dns:53 > client:5000");
}

#[test]
fn a_udp_flow_is_refused_at_scale_to_zero_and_works_again_afterwards() {
    let mut scene = Scene::new(WEB);
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    scene.change("service dns udp 53 to 5353:");
    scene.check("client: udp 5000 > dns:53", "client: port-unreachable dns > client about client:5000 > dns:53");
    scene.change("service dns udp 53 to 5353: near");
    scene.check("client: udp 5000 > dns:53", "near: udp client:5000 > near:5353");
}

#[test]
fn a_connection_whose_backend_goes_is_reset_and_the_next_gets_another() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > client:40000 syn-ack", "client: tcp web:80 > client:40000 syn-ack");
    scene.change("service web tcp 80 to 8080: far");
    scene.check("near: tcp 8080 > client:40000 data", "client: tcp web:80 > client:40000 data");
    scene.check("client: tcp 40000 > web:80 data", "client: tcp web:80 > client:40000 rst");
    // What the backend said before it heard of that is no flow of its own.
    scene.check("near: tcp 8080 > client:40000 data", "client: tcp web:80 > client:40000 data");
    scene.check("client: tcp 40000 > web:80 syn", "far: tcp client:40000 > far:8080 syn");
}

#[test]
fn a_connection_attempt_whose_backend_goes_is_led_to_another() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.change("service web tcp 80 to 8080: far");
    scene.check("client: tcp 40000 > web:80 syn", "far: tcp client:40000 > far:8080 syn");
}

#[test]
fn a_syn_on_an_ended_connection_chooses_among_the_backends_of_then() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > client:40000 rst-ack", "client: tcp web:80 > client:40000 rst-ack");
    scene.change("service web tcp 80 to 8080: far");
    scene.check("client: tcp 40000 > web:80 syn", "far: tcp client:40000 > far:8080 syn");
}

#[test]
fn a_deleted_service_ends_its_flows() {
    let mut scene = Scene::new(WEB);
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    let dns = scene.address("dns", false);
    scene.remove("dns");
    scene.check(
        &format!("client: udp 5000 > {dns}:53"),
        &format!("client: net-unreachable gateway1 > client about client:5000 > {dns}:53"),
    );
}

#[test]
fn egress_policy_judges_the_backend_and_not_the_services_address() {
    let mut scene = Scene::new(WEB);
    scene.change("egress client: near tcp/8080");
    scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.change("egress client: near tcp/80");
    scene.check("client: tcp 40001 > web:80 syn", "drop denied-by-egress-policy");
}

#[test]
fn a_pod_reaches_itself_through_its_own_service_whatever_policies_say() {
    let mut scene = Scene::new(WEB);
    scene.change("service own tcp 80 to 8080: client\n ingress client:\n egress client:");
    for version in ["", "6"] {
        scene
            .check(&format!("client: tcp{version} 40000 > own:80 syn"), "client: tcp gateway1:40000 > client:8080 syn");
        scene.check(
            &format!("client: tcp{version} 8080 > gateway1:40000 syn-ack"),
            "client: tcp own:80 > client:40000 syn-ack",
        );
        scene
            .check(&format!("client: tcp{version} 40000 > own:80 ack"), "client: tcp gateway1:40000 > client:8080 ack");
    }
    scene.change("service other tcp 81 to 8080: near");
    scene.check("client: tcp 40000 > own:80 ack", "client: tcp gateway1:40000 > client:8080 ack");
}

#[test]
fn a_pod_does_not_reach_itself_over_the_switch_without_a_service() {
    let mut scene = Scene::new(WEB);
    scene.check("client: tcp 40000 > client:8080 syn", "drop to-itself");
}

#[test]
fn two_services_that_lead_to_the_same_backend_work_from_the_same_client_port() {
    let mut scene = Scene::new(WEB);
    scene.change("service shop tcp 80 to 8080: near");
    for version in ["", "6"] {
        scene.check(&format!("client: tcp{version} 40000 > web:80 syn"), "near: tcp client:40000 > near:8080 syn");
        let second = scene.send(&format!("client: tcp{version} 40000 > shop:80 syn"));
        let (chosen, 8080) = ports(&second) else { panic!("{second}") };
        assert!(chosen != 40000 && chosen >= 1024, "{second}");
        scene.check(
            &format!("near: tcp{version} 8080 > client:{chosen} syn-ack"),
            "client: tcp shop:80 > client:40000 syn-ack",
        );
        scene.check(
            &format!("near: tcp{version} 8080 > client:40000 syn-ack"),
            "client: tcp web:80 > client:40000 syn-ack",
        );
        let direct = scene.send(&format!("client: tcp{version} 40000 > near:8080 syn"));
        let (direct, 8080) = ports(&direct) else { panic!("{direct}") };
        assert!(direct != 40000 && direct != chosen, "the direct flow is the third");
        scene.check(
            &format!("near: tcp{version} 8080 > client:{direct} syn-ack"),
            "client: tcp near:8080 > client:40000 syn-ack",
        );
    }
}
