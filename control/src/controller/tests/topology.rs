//! Which endpoints are meant for which zones and nodes.

use super::*;
use k8s_openapi::api::discovery::v1::Endpoint;

/// Nodes with their zones, and a pod on each node named.
fn cluster(nodes: &[(&str, &str)], pods: &[&str], service: &str) -> String {
    let mut yaml = String::new();
    for (number, (name, zone)) in nodes.iter().enumerate() {
        yaml += &format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\nspec: \
             {{podCIDRs: [10.1.{number}.0/24]}}\n"
        );
    }
    for (number, node) in pods.iter().enumerate() {
        yaml +=
            &pod(&format!("p{number}"), &format!(", nodeName: {node}")).replace(&format!("app: p{number}"), "app: web");
    }
    yaml + service
}

fn asking(how: &str) -> String {
    service("s", &format!(", trafficDistribution: {how}")).replace("targetPort: http", "targetPort: 80")
}

fn shared_out() -> String {
    let annotated = "{name: s, annotations: {service.kubernetes.io/topology-mode: Auto}}";
    service("s", "").replace("targetPort: http", "targetPort: 80").replace("{name: s}", annotated)
}

/// Node of the endpoint, then the zones and nodes that are to use it.
fn hints(filled: &Filled) -> Vec<String> {
    let endpoints = slices(filled).into_iter().flat_map(|slice| slice.endpoints.clone().unwrap());
    let text = |endpoint: Endpoint| {
        let hints = endpoint.hints.unwrap_or_default();
        let zones = hints.for_zones.unwrap_or_default().into_iter().map(|zone| zone.name);
        let nodes = hints.for_nodes.unwrap_or_default().into_iter().map(|node| node.name);
        let meant: Vec<String> = zones.chain(nodes).collect();
        format!("{}: {}", endpoint.node_name.unwrap(), meant.join(" "))
    };
    endpoints.map(text).collect()
}

const NODES: [(&str, &str); 3] = [("n1", "a"), ("n2", "a"), ("n3", "b")];

#[test]
fn endpoints_say_their_zone_or_node_when_the_service_asks_for_near_ones() {
    for how in ["PreferClose", "PreferSameZone"] {
        let filled = run(&cluster(&NODES, &["n1", "n3"], &asking(how)));
        assert_eq!(hints(&filled), ["n1: a", "n3: b"], "{how}");
    }
    let filled = run(&cluster(&NODES, &["n1", "n3"], &asking("PreferSameNode")));
    assert_eq!(hints(&filled), ["n1: a n1", "n3: b n3"]);
    let filled = run(&cluster(&NODES, &["n1", "n3"], &service("s", "").replace("targetPort: http", "targetPort: 80")));
    assert_eq!(hints(&filled), ["n1: ", "n3: "]);
}

#[test]
fn endpoints_are_shared_out_by_zone_and_a_zone_without_any_gets_one_of_the_others() {
    let own = run(&cluster(&NODES, &["n1", "n2", "n3"], &shared_out()));
    assert_eq!(hints(&own), ["n1: a", "n2: a", "n3: b"]);
    let moved = run(&cluster(&NODES, &["n1", "n1", "n2"], &shared_out()));
    let text = hints(&moved).concat();
    assert_eq!((text.matches(": a").count(), text.matches(": b").count()), (2, 1), "{text}");
}

#[test]
fn there_are_no_hints_where_they_would_overload_a_zone_or_where_a_node_has_no_zone() {
    let too_few = run(&cluster(&NODES, &["n1"], &shared_out()));
    assert_eq!(hints(&too_few), ["n1: "]);
    let unlabelled =
        cluster(&NODES, &["n1", "n2", "n3"], &shared_out()).replace("topology.kubernetes.io/zone: b", "x: z");
    assert_eq!(hints(&run(&unlabelled)), ["n1: ", "n2: ", "n3: "]);
    let heavy = "apiVersion: v1\nkind: Node\nmetadata: {name: n4, labels: {topology.kubernetes.io/zone: a}}\nspec: {podCIDRs: \
                 [10.1.9.0/24]}\nstatus: {allocatable: {cpu: 64}}\n---\n";
    let unknown = run(&[heavy.to_owned(), cluster(&NODES, &["n1", "n2", "n3"], &shared_out())].concat());
    assert_eq!(hints(&unknown), ["n1: a", "n2: a", "n3: b"], "CPUs count only when all are known");
}
