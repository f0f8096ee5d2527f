use super::*;
use policy::objects::parse;

const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: a}
spec: {nodeName: node1, containers: []}
status: {phase: Running, podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: agent}
spec: {nodeName: node1, hostNetwork: true, containers: []}
status: {phase: Running, podIPs: [{ip: 172.30.0.11}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: ended}
spec: {nodeName: node1, containers: []}
status: {phase: Succeeded, podIPs: [{ip: 10.244.1.3}]}
";

fn census() -> Census {
    Census::of(parse("test.yaml", CLUSTER).objects.iter().map(|sourced| &sourced.object))
}

#[test]
fn places_are_found_by_name_and_by_address() {
    let census = census();
    let find = |text| Place::find(text, &census).map(|place| place.to_string());
    assert_eq!(find("shop/a").unwrap(), "shop/a");
    assert_eq!(find("10.244.1.2").unwrap(), "shop/a");
    assert_eq!(find("node:node2").unwrap(), "node:node2");
    assert_eq!(find("172.30.0.11").unwrap(), "node:node1");
    assert_eq!(find("world").unwrap(), "world");
    assert_eq!(find("world:203.0.113.9").unwrap(), "world:203.0.113.9");
    assert_eq!(find("203.0.113.9").unwrap(), "world:203.0.113.9");
}

#[test]
fn an_address_of_a_pod_range_that_no_pod_has_is_an_unlabelled_pod_there() {
    let address = "10.244.2.77".parse().unwrap();
    let place = Place::find("10.244.2.77", &census()).unwrap();
    assert_eq!(place, Place::Unlabelled { address, node: "node2".into() });
    // In a lab there is no such pod to send from.
    assert!(matches!(place.room(Path::new("/")), Err(LabError::BadInput(_))));
    // What has ended has no address any more.
    assert!(matches!(Place::find("10.244.1.3", &census()).unwrap(), Place::Unlabelled { .. }));
}

#[test]
fn a_place_that_is_not_there_is_bad_input() {
    for text in ["shop/b", "shop/ended", "node:node9", "somewhere", "world:x", ""] {
        assert!(matches!(Place::find(text, &census()), Err(LabError::BadInput(_))), "{text}");
    }
}
