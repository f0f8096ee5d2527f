//! What annotations make of a policy: dry run (N21, W04), established flows kept or cut (W09).

use crate::records::{drops, hits};
use crate::scene::Scene;

const PODS: &str = "
    pod client on node1
    pod server on node1
    pod db on node2
    service store tcp 80 to 5432: db
";

/// A ClusterNetworkPolicy that denies what everybody sends to port 5432 of `db`.
fn guard(annotations: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: guard, annotations: {{{annotations}}}}}
spec:
  tier: Admin
  priority: 10
  subject: {{pods: {{podSelector: {{matchLabels: {{name: db}}}}}}}}
  ingress:
  - {{name: others, action: Pass, from: [{{namespaces: {{}}}}], protocols: [{{tcp: {{destinationPort: {{number: 1}}}}}}]}}
  - {{name: no-store, action: Deny, from: [{{namespaces: {{}}}}], protocols: [{{tcp: {{destinationPort: {{number: 5432}}}}}}]}}
"
    )
}

/// A connection from client to `to` that is established.
fn connect(scene: &mut Scene, port: u16, pod: &str, to: u16) {
    scene.check(&format!("client: tcp {port} > {pod}:{to} syn"), &format!("{pod}: tcp client:{port} > {pod}:{to} syn"));
    let (answer, seen) =
        (format!("{pod}: tcp {to} > client:{port}"), format!("client: tcp {pod}:{to} > client:{port}"));
    scene.check(&format!("{answer} syn-ack"), &format!("{seen} syn-ack"));
    go_on(scene, port, pod, to);
}

/// Both ends say something, and hear it.
#[track_caller]
fn go_on(scene: &mut Scene, port: u16, pod: &str, to: u16) {
    scene.check(
        &format!("client: tcp {port} > {pod}:{to} data"),
        &format!("{pod}: tcp client:{port} > {pod}:{to} data"),
    );
    scene.check(
        &format!("{pod}: tcp {to} > client:{port} data"),
        &format!("client: tcp {pod}:{to} > client:{port} data"),
    );
}

#[test]
fn n21_w04_a_dry_run_counts_and_lists_what_it_would_deny_and_denies_nothing() {
    for (rules, node, reason, at, rule) in [
        ("ingress db: server\n dry-run ingress db", 2, "denied-by-ingress-policy", "db", "rule-0 ingress"),
        ("egress client: server\n dry-run egress client", 1, "denied-by-egress-policy", "client", "rule-0 egress"),
    ] {
        let mut scene = Scene::new(PODS);
        scene.change(rules);
        connect(&mut scene, 40_000, "db", 5432);
        connect(&mut scene, 40_001, "db", 5432);
        connect(&mut scene, 40_002, "server", 80);
        let accepted = if at == "client" { vec![format!("{rule}[0] 1/0/0")] } else { vec![] };
        assert_eq!(hits(&scene, node), [vec![format!("{rule} 0/0/2")], accepted].concat());
        assert_eq!(drops(&scene, node), [format!("would be {reason} at {at}: client:40001 > db:5432 x2")]);
        assert_eq!(scene.nodes[node - 1].shards[0].counters().total().drops().count(), 0);

        // Without the annotation it is enforced at once.
        scene.change(&format!("enforce {}", if at == "client" { "egress client" } else { "ingress db" }));
        scene.check("client: tcp 40000 > db:5432 data", &format!("drop {reason}"));
        scene.check("client: tcp 40003 > db:5432 syn", &format!("drop {reason}"));
        go_on(&mut scene, 40_002, "server", 80);
    }
}

#[test]
fn w04_a_live_flow_is_counted_once_for_as_long_as_a_dry_run_would_deny_it() {
    let mut scene = Scene::new(PODS);
    connect(&mut scene, 40_000, "db", 5432);
    scene.change("ingress db: server\n dry-run ingress db");
    for _ in 0..3 {
        go_on(&mut scene, 40_000, "db", 5432);
        scene.change("service other tcp 80 to 80: db");
        scene.change("service other tcp 81 to 80: db");
    }
    assert_eq!(hits(&scene, 2), ["rule-0 ingress 0/0/1"]);
    scene.change("ingress db: client");
    go_on(&mut scene, 40_000, "db", 5432);
    scene.change("ingress db: server");
    go_on(&mut scene, 40_000, "db", 5432);
    assert_eq!(hits(&scene, 2), ["rule-0 ingress 0/0/2"]);
    assert_eq!(drops(&scene, 2), ["would be denied-by-ingress-policy at db: client:40000 > db:5432 x2"]);
}

#[test]
fn w04_what_a_dry_run_would_allow_stays_denied_and_what_it_adds_to_others_is_no_denial() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress db: server tcp/5432\n ingress db: server tcp/5432");
    scene.manifests(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: rehearsed, namespace: default, annotations: {podplane.io/dry-run: \"true\"}}
spec: {podSelector: {matchLabels: {name: db}}, policyTypes: [Ingress], ingress: [{ports: [{port: 80}]}]}",
    );
    scene.check("client: tcp 40000 > db:80 syn", "drop denied-by-ingress-policy");
    scene.check("server: tcp 40000 > db:5432 syn", "db: tcp server:40000 > db:5432 syn");
    assert_eq!(hits(&scene, 2), ["rule-0 ingress 0/1/0", "rule-0 ingress[0] 1/0/0"]);
    assert_eq!(drops(&scene, 2), ["denied-by-ingress-policy at db: client:40000 > db:80 x1"]);
}

#[test]
fn w04_a_rule_that_would_deny_is_named() {
    let mut scene = Scene::new(PODS);
    scene.manifests(&guard("podplane.io/dry-run: \"true\""));
    connect(&mut scene, 40_000, "db", 5432);
    scene.check("client: tcp 40001 > store:80 syn", "db: tcp client:40001 > db:5432 syn");
    connect(&mut scene, 40_002, "db", 80);
    assert_eq!(hits(&scene, 2), ["guard ingress[1] 0/0/2"]);
    scene.manifests(&guard(""));
    scene.check("client: tcp 40000 > db:5432 data", "drop denied-by-ingress-policy");
    scene.check("client: tcp 40003 > db:5432 syn", "drop denied-by-ingress-policy");
    go_on(&mut scene, 40_002, "db", 80);
    assert_eq!(hits(&scene, 2), ["guard ingress[1] 0/2/2"]);
}

#[test]
fn w09_a_policy_that_keeps_established_flows_denies_others_and_leaves_those_alone() {
    for rules in ["ingress db: server\n keep ingress db", "egress client: server\n keep egress client"] {
        let mut scene = Scene::new(PODS);
        connect(&mut scene, 40_000, "db", 5432);
        scene.check("client: udp 5000 > db:53", "db: udp client:5000 > db:53");
        scene.change(rules);
        for _ in 0..3 {
            go_on(&mut scene, 40_000, "db", 5432);
            scene.check("client: udp 5000 > db:53", "db: udp client:5000 > db:53");
            scene.check("db: udp 53 > client:5000", "client: udp db:53 > client:5000");
            assert!(scene.send("client: tcp 40001 > db:5432 syn").starts_with("drop denied-by-"));
            scene.change("service other tcp 80 to 80: db");
            scene.remove("other");
        }
        // It ends, and what begins on its 5-tuple is another one.
        scene.check("client: tcp 40000 > db:5432 rst", "db: tcp client:40000 > db:5432 rst");
        assert!(scene.send("client: tcp 40000 > db:5432 syn").starts_with("drop denied-by-"));
    }
}

#[test]
fn w09_cut_is_the_default_and_one_policy_that_cuts_is_enough() {
    let keeps = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: keeps, namespace: default, annotations: {podplane.io/established: keep}}
spec: {podSelector: {matchLabels: {name: db}}, policyTypes: [Ingress]}";
    let mut scene = Scene::new(PODS);
    connect(&mut scene, 40_000, "db", 5432);
    scene.manifests(keeps);
    go_on(&mut scene, 40_000, "db", 5432);
    scene.change("ingress db: server");
    for packet in ["client: tcp 40000 > db:5432 data", "db: tcp 5432 > client:40000 data"] {
        scene.check(packet, "drop denied-by-ingress-policy");
    }
    // What was cut is no established flow any more.
    scene.remove("ingress db");
    scene.check("client: tcp 40000 > db:5432 data", "drop denied-by-ingress-policy");
    scene.manifests("");
    go_on(&mut scene, 40_000, "db", 5432);
    assert_eq!(hits(&scene, 2), ["gone ingress 0/1/0", "gone ingress 0/1/0"]);
}

#[test]
fn w09_a_flow_that_was_kept_is_cut_when_its_policy_cuts() {
    let mut scene = Scene::new(PODS);
    connect(&mut scene, 40_000, "db", 5432);
    scene.manifests(&guard("podplane.io/established: keep"));
    go_on(&mut scene, 40_000, "db", 5432);
    scene.check("client: tcp 40001 > db:5432 syn", "drop denied-by-ingress-policy");
    scene.manifests(&guard(""));
    scene.check("client: tcp 40000 > db:5432 data", "drop denied-by-ingress-policy");
}

#[test]
fn w09_a_rehearsal_of_a_policy_that_keeps_counts_no_live_flow() {
    let mut scene = Scene::new(PODS);
    connect(&mut scene, 40_000, "db", 5432);
    scene.manifests(&guard("podplane.io/established: keep, podplane.io/dry-run: \"true\""));
    go_on(&mut scene, 40_000, "db", 5432);
    assert_eq!(hits(&scene, 2), [""; 0]);
    connect(&mut scene, 40_001, "db", 5432);
    assert_eq!(hits(&scene, 2), ["guard ingress[1] 0/0/1"]);
}
