//! No stale state (S13, S14, B01, B02, B19): an endpoint, Service or address that goes away takes its flows with it.

use crate::scene::Scene;

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    pod other on node2
    service web tcp 80 to 8080 node-port=30080 lb=200: far
    service dns udp 53 to 5353 node-port=30053 lb=201 external-ip=198.51.100.99: far
    service sig sctp 99 to 9999 node-port=30099: far
";

/// The addresses and ports of `dns`, `web` and `sig`.
const DNS: [&str; 5] = ["dns:53", "dns-lb:53", "node1:30053", "node2:30053", "198.51.100.99:53"];
const WEB: [&str; 4] = ["web:80", "web-lb:80", "node1:30080", "node2:30080"];
const SIG: [&str; 3] = ["sig:99", "node1:30099", "node2:30099"];

/// Opens a flow from `client` over every address; each has a port of its own.
fn open_all(scene: &mut Scene) {
    for (n, to) in (0..).zip(DNS) {
        scene.check(&format!("client: udp {} > {to}", 5_000 + n), &format!("far: udp client:{} > far:5353", 5_000 + n));
    }
    for (n, to) in (0..).zip(WEB) {
        let port = 40_000 + n;
        scene.check(&format!("client: tcp {port} > {to} syn"), &format!("far: tcp client:{port} > far:8080 syn"));
        scene.check(
            &format!("far: tcp 8080 > client:{port} syn-ack"),
            &format!("client: tcp {to} > client:{port} syn-ack"),
        );
    }
    for (n, to) in (0..).zip(SIG) {
        let port = 6_000 + n;
        scene.check(&format!("client: sctp {port} > {to}"), &format!("far: sctp client:{port} > far:9999 chunk 1"));
        scene.check(
            &format!("far: sctp 9999 > client:{port} chunk=14"),
            &format!("client: sctp {to} > client:{port} chunk 14"),
        );
    }
}

#[test]
fn s13_s14_an_endpoint_that_is_removed_takes_its_flows_over_every_address() {
    let mut scene = Scene::new(PODS);
    open_all(&mut scene);
    scene.change("service web tcp 80 to 8080 node-port=30080 lb=200: near");
    scene.change("service dns udp 53 to 5353 node-port=30053 lb=201 external-ip=198.51.100.99: near");
    scene.change("service sig sctp 99 to 9999 node-port=30099: near");
    for (n, to) in (0..).zip(DNS) {
        let port = 5_000 + n;
        scene.check(&format!("client: udp {port} > {to}"), &format!("near: udp client:{port} > near:5353"));
    }
    for (n, to) in (0..).zip(WEB) {
        let port = 40_000 + n;
        scene.check(&format!("client: tcp {port} > {to} data"), &format!("client: tcp {to} > client:{port} rst"));
        scene.check(&format!("client: tcp {port} > {to} syn"), &format!("near: tcp client:{port} > near:8080 syn"));
    }
    for (n, to) in (0..).zip(SIG) {
        let port = 6_000 + n;
        scene
            .check(&format!("client: sctp {port} > {to} chunk=4"), &format!("client: sctp {to} > client:{port} abort"));
        scene.check(&format!("client: sctp {port} > {to}"), &format!("near: sctp client:{port} > near:9999 chunk 1"));
    }
}

#[test]
fn b01_scale_to_zero_and_back_never_sends_a_packet_to_the_old_endpoint() {
    let mut scene = Scene::new(PODS);
    open_all(&mut scene);
    scene.change("service dns udp 53 to 5353 node-port=30053 lb=201 external-ip=198.51.100.99:");
    scene.change("service web tcp 80 to 8080 node-port=30080 lb=200:");
    for _ in 0..3 {
        for (n, to) in (0..).zip(DNS) {
            let fate = scene.send(&format!("client: udp {} > {to}", 5_000 + n));
            assert!(fate.starts_with("client: port-unreachable"), "{to}: {fate}");
        }
        scene.wait(1);
    }
    for (n, to) in (0..).zip(WEB) {
        let port = 40_000 + n;
        scene.check(&format!("client: tcp {port} > {to} data"), &format!("client: tcp {to} > client:{port} rst"));
        scene.check(&format!("client: tcp {port} > {to} syn"), &format!("client: tcp {to} > client:{port} rst-ack"));
    }
    scene.change("service dns udp 53 to 5353 node-port=30053 lb=201 external-ip=198.51.100.99: other");
    for (n, to) in (0..).zip(DNS) {
        let port = 5_000 + n;
        scene.check(&format!("client: udp {port} > {to}"), &format!("other: udp client:{port} > other:5353"));
    }
}

#[test]
fn b02_a_deleted_service_whose_pods_address_is_another_pods_leaks_nothing_to_it() {
    let mut scene = Scene::new(PODS);
    open_all(&mut scene);
    let vips: Vec<_> = ["dns", "web"].map(|name| scene.address(name, false)).into();
    for service in ["web", "dns", "sig"] {
        scene.remove(service);
    }
    // `far` goes, and a pod of another kind gets its address.
    scene.rename("far", "stranger");
    for (n, to) in (0..).zip([format!("{}:53", vips[0]), "172.30.0.201:53".into(), "node1:30053".into()]) {
        let fate = scene.send(&format!("client: udp {} > {to}", 5_000 + n));
        assert!(!fate.starts_with("stranger"), "{to}: {fate}");
    }
    for (n, to) in (0..).zip([format!("{}:80", vips[1]), "172.30.0.200:80".into(), "node1:30080".into()]) {
        for flags in ["data", "syn"] {
            let fate = scene.send(&format!("client: tcp {} > {to} {flags}", 40_000 + n));
            assert!(!fate.starts_with("stranger"), "{to}: {fate}");
        }
    }
}

#[test]
fn b02_an_event_that_was_missed_is_noticed_all_the_same() {
    let mut scene = Scene::new(PODS);
    open_all(&mut scene);
    // Deleted and made again with another backend, and nobody sent anything in between.
    scene.remove("dns");
    scene.change("service dns udp 53 to 5353 node-port=30053 lb=201 external-ip=198.51.100.99: near");
    let dns = scene.address("dns", false);
    let fate = scene.send("client: udp 5001 > dns-lb:53");
    assert_eq!(fate, "near: udp client:5001 > near:5353", "{dns}");
    scene.check("client: udp 5002 > node1:30053", "near: udp client:5002 > near:5353");
}

#[test]
fn b19_a_syn_on_an_old_5_tuple_chooses_among_the_endpoints_that_are_ready() {
    for state in ["", ", far/draining", ", far/unready"] {
        let mut scene = Scene::new(PODS);
        scene.check("client: tcp 40000 > web:80 syn", "far: tcp client:40000 > far:8080 syn");
        scene.check("far: tcp 8080 > client:40000 syn-ack", "client: tcp web:80 > client:40000 syn-ack");
        scene.check("client: tcp 40000 > web:80 ack", "far: tcp client:40000 > far:8080 ack");
        scene.check("client: tcp 40000 > web:80 fin", "far: tcp client:40000 > far:8080 fin");
        if state.is_empty() {
            scene.check("far: tcp 8080 > client:40000 fin", "client: tcp web:80 > client:40000 fin");
        }
        scene.change(&format!("service web tcp 80 to 8080 node-port=30080 lb=200: near{state}"));
        if !state.is_empty() {
            scene.check("far: tcp 8080 > client:40000 fin", "client: tcp web:80 > client:40000 fin");
            scene.check("client: tcp 40000 > web:80 ack", "far: tcp client:40000 > far:8080 ack");
        }
        scene.check("client: tcp 40000 > web:80 syn", "near: tcp client:40000 > near:8080 syn");
        scene.check("near: tcp 8080 > client:40000 syn-ack", "client: tcp web:80 > client:40000 syn-ack");
    }
}

#[test]
fn b19_short_connections_from_one_port_during_a_rolling_update_never_reach_a_removed_endpoint() {
    let mut scene = Scene::new(PODS);
    for round in 0..30 {
        let pods = ["near", "far", "other"];
        let (ready, going) = (pods[round % 3], pods[(round + 2) % 3]);
        scene.change(&format!("service web tcp 80 to 8080 node-port=30080 lb=200: {ready}, {going}/draining"));
        let opened = scene.send("client: tcp 40000 > web:80 syn");
        assert_eq!(opened, format!("{ready}: tcp client:40000 > {ready}:8080 syn"));
        for (from, flags) in
            [(ready, "syn-ack"), ("client", "ack"), ("client", "fin"), (ready, "fin"), ("client", "ack")]
        {
            let words = match from {
                "client" => format!("client: tcp 40000 > web:80 {flags}"),
                pod => format!("{pod}: tcp 8080 > client:40000 {flags}"),
            };
            let fate = scene.send(&words);
            assert!(!fate.starts_with("drop") && !fate.contains("rst"), "{words}: {fate}");
        }
    }
}

#[test]
fn a_udp_flow_moves_when_its_endpoint_stops_serving_and_not_before() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    scene.change("service dns udp 53 to 5353: far/draining, near");
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    scene.check("client: udp 5001 > dns:53", "near: udp client:5001 > near:5353");
    scene.change("service dns udp 53 to 5353: far/unready, near");
    scene.check("client: udp 5000 > dns:53", "near: udp client:5000 > near:5353");
}

#[test]
fn an_unrelated_change_keeps_every_flow_where_it_is() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 node-port=30080 lb=200: far, near, other");
    let opened: Vec<String> =
        (40_000..40_040).map(|port| scene.send(&format!("client: tcp {port} > web:80 syn"))).collect();
    for change in [
        "service more tcp 80 to 8080: near",
        "service web tcp 80 to 8080 node-port=30080 lb=200: far, near, other, client",
        "service web tcp 80 to 8080 node-port=30080 lb=200 internal=Local external=Local: far, near, other",
        "ingress near: client",
    ] {
        scene.change(change);
        for (port, before) in (40_000..).zip(&opened) {
            let fate = scene.send(&format!("client: tcp {port} > web:80 ack"));
            assert_eq!(fate, before.replace(" syn", " ack"), "{change}");
        }
    }
}
