//! Which backend a Service chooses: session affinity, states of endpoints, the same node first, and what a client keeps while
//! endpoints come and go.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::services::{NODES, at, cluster, curl, outcome, probe, server, service};
use support::{Lab, has_program, labs_can_run, wait_for, wait_until};

/// Requests of one client that must all have one answer.
const REQUESTS: usize = 20;

/// Who answers `count` requests of `from`, each over a connection of its own.
fn answers(lab: &Lab, from: &str, to: &str, count: usize) -> BTreeMap<String, usize> {
    let mut servers = BTreeMap::new();
    for _ in 0..count {
        let answer =
            curl(lab, from, to, &[]).unwrap_or_else(|code| panic!("curl from {from} to {to}: exit code {code}"));
        *servers.entry(answer["server"].as_str().expect("a server").to_owned()).or_default() += 1;
    }
    servers
}

/// An EndpointSlice in front of the Service `web`: addresses with their conditions (ready, serving, terminating) and nodes.
fn slice(endpoints: &[(&str, [bool; 3], &str)]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|(address, [ready, serving, terminating], node)| {
            format!(
                "- {{addresses: ['{address}'], nodeName: {node}, \
                 conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}}}\n"
            )
        })
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-by-hand\n  namespace: e2e\n  \
         labels: {{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{{name: tcp, port: 8080, protocol: TCP}}]\n\
         endpoints:\n{}",
        endpoints.concat()
    )
}

#[test]
fn a_client_with_affinity_keeps_its_backend_on_every_frontend_until_the_timeout() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let more: String =
        (1..=4).map(|i| server(&format!("more{i}"), &format!("node{}", i % 2 + 1), "app: web")).collect();
    let affinity = "sessionAffinity: ClientIP\nsessionAffinityConfig: {clientIP: {timeoutSeconds: 2}}";
    let lab = Lab::up(&cluster(&(more + &service("web", "NodePort", 85, "app: web", affinity))), &[]);
    for family in [0, 1] {
        let frontends =
            [("e2e/client", at(["10.96.0.85", "fd00:10:96::85"][family], 80)), ("world", at(NODES[0][family], 30_085))];
        for (from, to) in &frontends {
            let first = answers(&lab, from, to, REQUESTS);
            assert_eq!(first.len(), 1, "{from} to {to}: {first:?}");
            // Affinity belongs to the Service and the client, not to a port.
            let server = first.keys().next().expect("a server");
            assert_eq!(probe(&lab, from, to, "udp")["server"], server.as_str(), "{from} to {to} by UDP");
            // With five other backends and a new choice after every pause, one of them comes soon.
            let other = wait_until(Duration::from_secs(40), || {
                std::thread::sleep(Duration::from_millis(2200));
                let next = answers(&lab, from, to, 1);
                next.keys().any(|other| other != server).then_some(())
            });
            assert!(other.is_some(), "{from} to {to}: still {server}, long after the timeout");
        }
    }
    // The node itself has affinity on its loopback too.
    let own = answers(&lab, "node:node1", "127.0.0.1:30085", REQUESTS);
    assert_eq!(own.len(), 1, "{own:?}");
}

#[test]
fn without_affinity_all_backends_are_chosen() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "NodePort", 86, "app: web", "")), &[]);
    for (from, to) in
        [("e2e/client", "10.96.0.86:80"), ("world", "172.30.0.11:30086"), ("node:node1", "127.0.0.1:30086")]
    {
        let both = answers(&lab, from, to, 2 * REQUESTS);
        assert_eq!(both.len(), 2, "{from} to {to}: {both:?}");
    }
}

#[test]
fn ready_endpoints_come_first_and_serving_ones_when_all_are_ending() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "NodePort", 87, "app: web", "")), &[]);
    let (near, far) = (lab.address("e2e/near", false), lab.address("e2e/far", false));
    let (ready, ending, dead) = ([true, true, false], [false, true, true], [false, false, true]);
    let both = ["e2e/near", "e2e/far"];
    for (near_state, far_state, expected) in [
        (ready, ready, &both[..]),
        (ready, ending, &both[..1]),
        (dead, ready, &both[1..]),
        (ending, ending, &both[..]),
        (dead, ending, &both[1..]),
        (dead, dead, &[]),
    ] {
        lab.apply(&slice(&[(&near, near_state, "node1"), (&far, far_state, "node2")]));
        for (from, to) in
            [("e2e/client", "10.96.0.87:80"), ("world", "172.30.0.11:30087"), ("node:node2", "127.0.0.1:30087")]
        {
            let what = format!("{near_state:?} {far_state:?}: {from} to {to}");
            if expected.is_empty() {
                assert_eq!(curl(&lab, from, to, &[]), Err(7), "refused: {what}");
                continue;
            }
            let servers: BTreeSet<String> = answers(&lab, from, to, REQUESTS).into_keys().collect();
            assert_eq!(servers, expected.iter().map(|name| (*name).to_owned()).collect(), "{what}");
        }
    }
}

#[test]
fn the_internal_policy_local_stays_on_the_node_and_drops_without_an_endpoint() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(
        &cluster(
            &(service("web", "ClusterIP", 88, "app: web", "internalTrafficPolicy: Local")
                + &service("far", "ClusterIP", 89, "where: far", "internalTrafficPolicy: Local")),
        ),
        &[],
    );
    for family in [0, 1] {
        let both = at(["10.96.0.88", "fd00:10:96::88"][family], 80);
        let far = at(["10.96.0.89", "fd00:10:96::89"][family], 80);
        for (from, server) in [("e2e/client", "e2e/near"), ("node:node1", "e2e/near"), ("node:node2", "e2e/far")] {
            assert_eq!(answers(&lab, from, &both, REQUESTS), BTreeMap::from([(server.to_owned(), REQUESTS)]), "{from}");
        }
        assert_eq!(outcome(&lab, "e2e/client", &far, "tcp", 500), "timeout");
        assert_eq!(outcome(&lab, "node:node2", &far, "tcp", 500), "connected");
    }
}

#[test]
fn traffic_distribution_prefers_the_same_node_and_falls_back() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let distribution = "trafficDistribution: PreferSameNode";
    let lab = Lab::up(&cluster(&service("web", "ClusterIP", 90, "app: web", distribution)), &[]);
    let near = BTreeMap::from([("e2e/near".to_owned(), REQUESTS)]);
    assert_eq!(answers(&lab, "e2e/client", "10.96.0.90:80", REQUESTS), near);
    lab.delete("apiVersion: v1\nkind: Pod\nmetadata: {name: near, namespace: e2e}\nspec: {containers: []}\n");
    wait_for("the other node's endpoint serves", Duration::from_secs(5), || {
        let answer = curl(&lab, "e2e/client", "10.96.0.90:80", &[]).ok()?;
        (answer["server"] == "e2e/far").then_some(())
    });
}
