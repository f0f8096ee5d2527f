use super::*;
use serde_json::{Value, json};

fn census(objects: &[Value]) -> Census {
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    let parsed = policy::objects::parse("test.json", &text.join("\n---\n"));
    assert_eq!(parsed.problems, vec![]);
    Census::of(parsed.objects.iter().map(|sourced| &sourced.object))
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

fn cluster() -> Census {
    let port = json!([{"port": 80}]);
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "shop", "name": "db-x", "labels": {"kubernetes.io/service-name": "db"}},
        "endpoints": [
            {"addresses": ["10.244.1.5"], "hostname": "db-0"},
            {"addresses": ["10.244.1.6"]},
            {"addresses": ["10.244.1.7"], "conditions": {"ready": false}},
        ],
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"nodeName": "node1", "containers": []},
        "status": {"podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:10:244:1::2"}]},
    });
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}, "spec": {"podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.11"}]},
    });
    census(&[
        service("web", json!({"clusterIP": "10.96.0.50", "clusterIPs": ["10.96.0.50", "fd00::50"], "ports": port})),
        service("db", json!({"clusterIP": "None", "ports": port})),
        service("empty", json!({"clusterIP": "None", "ports": port})),
        service("alias", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local."})),
        service("outside", json!({"type": "ExternalName", "externalName": "example.com"})),
        service("circle", json!({"type": "ExternalName", "externalName": "circle.shop.svc.cluster.local"})),
        slice,
        pod,
        node,
    ])
}

/// The addresses of `text` for a pod of `namespace`, or why there are none.
fn looked_up(text: &str, namespace: &str) -> Result<Vec<String>, String> {
    match lookup(text, namespace, &cluster()) {
        Meaning::Name { addresses, .. } => Ok(addresses.iter().map(ToString::to_string).collect()),
        Meaning::Nothing(why) => Err(why),
        Meaning::Address(_) => unreachable!("a lookup gives names"),
    }
}

#[test]
fn a_service_has_its_short_and_its_full_names() {
    let both = Ok(vec!["10.96.0.50".to_owned(), "fd00::50".to_owned()]);
    for text in
        ["web", "web.shop", "WEB.shop", "web.shop.svc", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local."]
    {
        assert_eq!(looked_up(text, "shop"), both, "{text}");
    }
    assert_eq!(looked_up("web.shop", "other"), both);
    let why = looked_up("web", "other").unwrap_err();
    assert!(why.contains("web.other.svc.cluster.local") && why.contains("no Service other/web"), "{why}");
    assert!(looked_up("web.shop.", "shop").is_err(), "a final dot ends the name");
}

#[test]
fn a_headless_service_has_its_ready_endpoints_and_their_names() {
    assert_eq!(looked_up("db.shop", "shop").unwrap(), ["10.244.1.5", "10.244.1.6"]);
    assert_eq!(looked_up("db-0.db", "shop").unwrap(), ["10.244.1.5"]);
    assert_eq!(looked_up("10-244-1-6.db.shop.svc.cluster.local", "shop").unwrap(), ["10.244.1.6"]);
    assert!(looked_up("10-244-1-7.db", "shop").is_err(), "an endpoint that is not ready has no record");
    let why = looked_up("empty", "shop").unwrap_err();
    assert_eq!(why, "the headless Service shop/empty has no ready endpoint");
}

#[test]
fn an_external_name_is_followed_inside_of_the_cluster_only() {
    assert_eq!(looked_up("alias", "shop").unwrap(), ["10.96.0.50", "fd00::50"]);
    let why = looked_up("outside", "shop").unwrap_err();
    assert!(why.contains("ExternalName for example.com") && why.contains("no DNS server is asked"), "{why}");
    assert!(looked_up("circle", "shop").unwrap_err().contains("lead to each other"));
}

#[test]
fn pods_are_named_by_their_addresses() {
    assert_eq!(looked_up("10-244-1-2.shop.pod.cluster.local", "x").unwrap(), ["10.244.1.2"]);
    assert_eq!(looked_up("fd00-10-244-1--2.shop.pod", "x").unwrap(), ["fd00:10:244:1::2"]);
    assert!(looked_up("10-244-1-2.other.pod", "x").is_err());
}

#[test]
fn a_host_is_an_address_a_place_a_service_a_name_or_a_node() {
    let (census, network) = (cluster(), LabNetwork::default());
    let from = Place::find("shop/web", &census).unwrap();
    let first = |text: &str, port| match find_host(text, (Protocol::TCP, port), &from, &census, &network) {
        Ok(Meaning::Address(addresses) | Meaning::Name { addresses, .. }) => addresses[0].to_string(),
        Ok(Meaning::Nothing(why)) => why,
        Err(error) => error.to_string(),
    };
    assert_eq!(first("[fd00::1]", 80), "fd00::1");
    assert_eq!(first("shop/db", 80), "10.244.1.5");
    // A pod and a Service are called shop/web; the Service has port 80.
    assert_eq!(first("shop/web", 80), "10.96.0.50");
    assert_eq!(first("shop/web", 8080), "10.244.1.2");
    for text in ["node1", "node:node1"] {
        assert_eq!(first(text, 80), "172.30.0.11");
    }
    assert_eq!(first("world", 80), "172.30.0.100");
    assert!(first("nowhere", 80).contains("no Service shop/nowhere"));
    assert!(first("shop/nobody", 80).contains("no such pod"));
}
