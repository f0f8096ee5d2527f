//! Session affinity ClientIP (S07, B23).

use crate::scene::Scene;

const PODS: &str = "
    pod client on node1
    pod other on node1
    pod near on node1
    pod far on node2
    pod third on node2
";

/// Where a connection attempt goes.
fn receiver(scene: &mut Scene, words: &str) -> String {
    let fate = scene.send(words);
    fate.split_once(':').unwrap_or_else(|| panic!("{words}: {fate}")).0.to_owned()
}

#[test]
fn s07_a_client_keeps_its_backend_over_ports_and_addresses_of_the_service() {
    let mut scene = Scene::new(PODS);
    scene.change(
        "service web tcp 80 to 8080 affinity=60 lb=200 node-port=30080 also=81:8081: near, far, third\n
         service free tcp 80 to 8080: near, far, third",
    );
    for version in ["", "6"] {
        let first = receiver(&mut scene, &format!("client: tcp{version} 40000 > web:80 syn"));
        for port in 40_001..40_020 {
            for to in ["web:80", "web:81", "web-lb:80", "web-lb:81", "node1:30080", "node2:30080"] {
                let words = format!("client: tcp{version} {port} > {to} syn");
                assert_eq!(receiver(&mut scene, &words), first, "{words}");
            }
        }
        let free =
            (41_000..41_020).map(|port| receiver(&mut scene, &format!("client: tcp{version} {port} > free:80 syn")));
        assert!(free.collect::<std::collections::BTreeSet<_>>().len() > 1, "another Service is another matter");
    }
    let clients = ["client", "other", "near", "far", "third", "node1", "node2"];
    let chosen: std::collections::BTreeSet<_> =
        clients.iter().map(|client| receiver(&mut scene, &format!("{client}: tcp 50000 > web:80 syn"))).collect();
    assert!(chosen.len() > 1, "clients are spread: {chosen:?}");
}

#[test]
fn s07_the_timeout_begins_anew_with_each_flow_and_then_the_choice_is_free() {
    let mut scene = Scene::new(PODS);
    scene.change("service dns udp 53 to 5353 affinity=10: near, far, third");
    let first = receiver(&mut scene, "client: udp 5000 > dns:53");
    for port in 5_001..5_020 {
        scene.wait(9);
        assert_eq!(receiver(&mut scene, &format!("client: udp {port} > dns:53")), first);
    }
    let mut seen = std::collections::BTreeSet::new();
    for port in 6_000..6_040 {
        scene.wait(10);
        seen.insert(receiver(&mut scene, &format!("client: udp {port} > dns:53")));
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn s07_a_client_whose_backend_goes_gets_another_one_and_keeps_that() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 affinity=3600: near, far, third");
    let first = receiver(&mut scene, "client: tcp 40000 > web:80 syn");
    for gone in ["", "/draining", "/unready"] {
        let others: Vec<&str> = ["near", "far", "third"].into_iter().filter(|pod| *pod != first).collect();
        let listed = if gone.is_empty() { String::new() } else { format!(", {first}{gone}") };
        scene.change(&format!("service web tcp 80 to 8080 affinity=3600: {}{listed}", others.join(", ")));
        let second = receiver(&mut scene, "client: tcp 40001 > web:80 syn");
        assert_ne!(second, first);
        for port in 40_002..40_020 {
            assert_eq!(receiver(&mut scene, &format!("client: tcp {port} > web:80 syn")), second);
        }
    }
}

#[test]
fn a_service_that_loses_its_affinity_spreads_its_clients_flows_again() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 affinity=3600: near, far, third");
    receiver(&mut scene, "client: tcp 40000 > web:80 syn");
    scene.change("service web tcp 80 to 8080: near, far, third");
    let seen: std::collections::BTreeSet<_> =
        (41_000..41_040).map(|port| receiver(&mut scene, &format!("client: tcp {port} > web:80 syn"))).collect();
    assert_eq!(seen.len(), 3);
}

#[test]
fn b23_affinity_is_honored_where_traffic_policy_is_local() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 affinity=3600 internal=Local: near, other, far, third");
    let first = receiver(&mut scene, "client: tcp 40000 > web:80 syn");
    assert!(["near", "other"].contains(&&*first));
    for port in 40_001..40_040 {
        assert_eq!(receiver(&mut scene, &format!("client: tcp {port} > web:80 syn")), first);
    }
}
