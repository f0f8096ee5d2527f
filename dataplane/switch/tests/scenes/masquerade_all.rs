//! `--masquerade-all`: whatever goes to a Service comes from the node's gateway address, and the answers find their way back.

use crate::scene::{Scene, ports};
use std::collections::BTreeSet;
use switch::DropReason;
use wire::Frame;

const PODS: &str = "
    masquerade-all
    pod client on node1
    pod other on node1
    pod third on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080: far
    service home tcp 80 to 8080: near
    service dns udp 53 to 5353: far
    service local udp 53 to 5353: near
    service own tcp 80 to 8080: client
";

/// The source port in the words of a packet that came from the gateway.
#[track_caller]
fn source_port(words: &str) -> u16 {
    assert!(words.contains(" gateway1:"), "{words}");
    let (port, _) = ports(words);
    assert!((1_024..30_000).contains(&port), "{words}");
    port
}

#[test]
fn what_goes_to_a_service_comes_from_the_gateway_and_the_answers_find_their_client() {
    for shards in 1..=3 {
        let mut scene = Scene::with_shards(shards, PODS);
        for version in ["", "6"] {
            for (service, backend) in [("web", "far"), ("home", "near")] {
                let mut used = BTreeSet::new();
                // All from the same port: what tells them apart is the node's choice.
                for client in ["client", "other", "third"] {
                    let syn = scene.send(&format!("{client}: tcp{version} 40000 > {service}:80 syn"));
                    let port = source_port(&syn);
                    assert!(used.insert(port), "{port} is another client's");
                    scene.check(
                        &format!("{backend}: tcp{version} 8080 > gateway1:{port} syn-ack"),
                        &format!("{client}: tcp {service}:80 > {client}:40000 syn-ack"),
                    );
                    scene.check(
                        &format!("{client}: tcp{version} 40000 > {service}:80 ack"),
                        &format!("{backend}: tcp gateway1:{port} > {backend}:8080 ack"),
                    );
                    scene.check(
                        &format!("{backend}: tcp{version} 8080 > gateway1:{port} data"),
                        &format!("{client}: tcp {service}:80 > {client}:40000 data"),
                    );
                }
            }
        }
    }
}

#[test]
fn what_goes_to_a_pod_or_to_itself_is_as_ever() {
    let mut scene = Scene::new(PODS);
    scene.check("client: tcp 40000 > far:8080 syn", "far: tcp client:40000 > far:8080 syn");
    scene.check("client: tcp 40000 > own:80 syn", "client: tcp gateway1:40000 > client:8080 syn");
    scene.check("client: tcp 8080 > gateway1:40000 syn-ack", "client: tcp own:80 > client:40000 syn-ack");
}

#[test]
fn the_node_keeps_its_own_flows_whatever_their_ports() {
    for shards in 1..=3 {
        let mut scene = Scene::with_shards(shards, PODS);
        for port in 2_000..2_006 {
            for (protocol, open, reply) in [("tcp", " syn", " syn-ack"), ("udp", "", "")] {
                for pod in ["far", "client", "other"] {
                    scene.check(
                        &format!("{pod}: {protocol} 40000 > gateway1:{port}{open}"),
                        &format!("node1: {protocol} {pod}:40000 > gateway1:{port}{open}"),
                    );
                    scene.check(
                        &format!("gateway1: {protocol} {port} > {pod}:40001{open}"),
                        &format!("{pod}: {protocol} gateway1:{port} > {pod}:40001{open}"),
                    );
                    scene.check(
                        &format!("{pod}: {protocol} 40001 > gateway1:{port}{reply}"),
                        &format!("node1: {protocol} {pod}:40001 > gateway1:{port}{reply}"),
                    );
                }
            }
        }
    }
}

#[test]
fn errors_and_fragments_find_their_client_too() {
    for shards in 1..=2 {
        let mut scene = Scene::with_shards(shards, PODS);
        for (service, backend) in [("dns", "far"), ("local", "near")] {
            let sent = scene.send(&format!("client: udp 5000 > {service}:53"));
            let port = source_port(&sent);
            let about = scene.sketch(&format!("client: udp {port} > {backend}:5353 from=gateway1")).1;
            let mut error = scene.error(backend, (3, 3, 0), &about);
            assert_eq!(
                scene.send_frame(backend, &mut error),
                format!("client: port-unreachable {service} > client about client:5000 > {service}:53")
            );
            let answer = scene.sketch(&format!("{backend}: udp 5353 > gateway1:{port} len=2000 may-be-cut")).1;
            let fragments = answer.fragments(9, 1_400);
            let mut send = |bytes: &Vec<u8>| scene.send_frame(backend, &mut Frame::from_bytes(bytes));
            assert_eq!(send(&fragments[0]), format!("client: udp {service}:53 > client:5000"));
            assert_eq!(send(&fragments[1]), format!("client: later fragment {service} > client at 1400"));
        }
    }
}

#[test]
fn a_source_port_is_given_out_again_when_its_flow_is_over() {
    let mut scene = Scene::new(PODS);
    for round in 0..3 {
        for port in 10_000..11_000 {
            let sent = scene.send(&format!("client: udp {port} > dns:53"));
            assert!(sent.starts_with("far: udp gateway1:"), "round {round}: {sent}");
        }
        scene.wait(31);
        scene.expire();
    }
    assert_eq!(scene.drops(1, DropReason::SourcePortsExhausted), 0);
    let sent = scene.send("client: udp 5000 > dns:53");
    let port = source_port(&sent);
    scene.remove("own");
    scene.remove("client");
    let late = scene.send(&format!("far: udp 5353 > gateway1:{port}"));
    assert_eq!(late, format!("node1: udp far:5353 > gateway1:{port}"), "nobody's any more");
}
