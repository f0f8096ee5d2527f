use super::*;
use serde_json::json;

fn snapshot() -> Snapshot {
    let node = |name: &str, ip: &str, cidr: &str| {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]},
        }))
        .unwrap()
    };
    let pod = |name: &str, ip: &str, host: bool| {
        serde_json::from_value(json!({
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"nodeName": "node1", "hostNetwork": host, "containers": []},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
        }))
        .unwrap()
    };
    let service = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"clusterIPs": ["10.96.0.50"]},
    }))
    .unwrap();
    let mut snapshot = Snapshot {
        nodes: vec![node("node1", "172.30.0.11", "10.244.1.0/24"), node("node2", "172.30.0.12", "10.244.2.0/24")],
        pods: vec![pod("a", "10.244.1.2", false), pod("agent", "172.30.0.11", true)],
        services: vec![service],
        specs: Vec::new(),
    };
    snapshot.specs = snapshot.pods.iter().filter_map(crate::pods::PodSpec::of).collect();
    snapshot
}

#[test]
fn places_are_found_by_name_and_by_address() {
    let snapshot = snapshot();
    let find = |text| Place::find(text, &snapshot).map(|place| place.to_string());
    assert_eq!(find("shop/a").unwrap(), "shop/a");
    assert_eq!(find("10.244.1.2").unwrap(), "shop/a");
    assert_eq!(find("node:node2").unwrap(), "node:node2");
    assert_eq!(find("172.30.0.11").unwrap(), "node:node1");
    assert_eq!(find("world").unwrap(), "world");
    assert_eq!(find("world:203.0.113.9").unwrap(), "world:203.0.113.9");
    assert_eq!(find("203.0.113.9").unwrap(), "world:203.0.113.9");
}

#[test]
fn a_place_that_is_not_there_is_bad_input() {
    let snapshot = snapshot();
    for text in ["shop/b", "node:node9", "10.244.1.77", "somewhere", "world:x", ""] {
        assert!(matches!(Place::find(text, &snapshot), Err(LabError::BadInput(_))), "{text}");
    }
}

#[test]
fn service_names_are_looked_up_while_there_is_no_dns() {
    let (mut snapshot, network) = (snapshot(), LabNetwork::default());
    let from = Place::find("shop/a", &snapshot).unwrap();
    let address = Host::Address("10.96.0.50".parse().unwrap());
    for text in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local."] {
        assert_eq!(find_host(text, &from, &snapshot, &network).unwrap(), address, "{text}");
    }
    assert_eq!(find_host("web", &Place::World(None), &snapshot, &network).unwrap(), Host::Name("web".into()));
    let dns = json!({"metadata": {"namespace": "kube-system", "name": "dns"}, "spec": {"clusterIPs": ["10.96.0.10"]}});
    snapshot.services.push(serde_json::from_value(dns).unwrap());
    assert_eq!(find_host("web", &from, &snapshot, &network).unwrap(), Host::Name("web".into()));
}

#[test]
fn a_place_is_a_host_too() {
    let (snapshot, network) = (snapshot(), LabNetwork::default());
    let host = |text| find_host(text, &Place::World(None), &snapshot, &network).unwrap();
    assert_eq!(host("shop/a"), Host::Address("10.244.1.2".parse().unwrap()));
    assert_eq!(host("node:node2"), Host::Address("172.30.0.12".parse().unwrap()));
    assert_eq!(host("world"), Host::Address("172.30.0.100".parse().unwrap()));
}
