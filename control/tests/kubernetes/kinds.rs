//! Facts of real clusters that files do not have, and kinds that not every cluster has.

use crate::followed::{Followed, Wishes};
use crate::server::ApiServer;
use control::kubernetes::PROXY_KINDS;
use policy::tables::Owner;
use serde_json::{Value, json};

const POLICIES: &str = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies";
const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1/gateways";
const GRANTS: &str = "/apis/gateway.networking.k8s.io/v1beta1/referencegrants";

fn synced(server: &ApiServer) -> Followed {
    let mut followed = Followed::new(server);
    followed.until_synced();
    followed
}

fn owner(followed: &Followed, address: &str) -> Option<String> {
    let (tables, _) = policy::compile::compile(followed.cluster(), 1);
    tables.owner(address.parse().expect("an address")).map(|owner| match owner {
        Owner::Pod(pod) => tables.pod(pod).name.to_string(),
        Owner::Node(node) => tables.node(node).name.to_string(),
    })
}

fn pod(name: &str, created: &str, status: Value) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": created},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": status,
    })
}

#[test]
fn kinds_that_are_installed_later_are_followed_and_their_objects_go_with_them() {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    assert_eq!(followed.resource("clusternetworkpolicies").state, "absent");
    server.install("ClusterNetworkPolicy", POLICIES);
    server.put(
        "clusternetworkpolicies",
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "metadata": {"name": "strict"},
            "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}},
        }),
    );
    followed.until("the policy", |followed| followed.cluster().cluster_network_policies.len() == 1);
    server.uninstall(POLICIES);
    followed.until("it is gone", |followed| {
        followed.cluster().cluster_network_policies.is_empty()
            && followed.resource("clusternetworkpolicies").state == "absent"
    });
    assert_eq!(followed.resource("clusternetworkpolicies").error, None);
}

#[test]
fn what_is_installed_belongs_to_what_must_be_listed_first() {
    let server = ApiServer::recorded();
    server.install("Gateway", GATEWAYS);
    server.install("ReferenceGrant", GRANTS);
    server.put(
        "gateways",
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "metadata": {"namespace": "shop", "name": "door"},
            "spec": {"gatewayClassName": "podplane", "listeners": [{
                "name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "cert"}]},
            }]},
        }),
    );
    server.put(
        "secrets",
        json!({
            "apiVersion": "v1", "metadata": {"namespace": "shop", "name": "cert"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": "Yw==", "tls.key": "aw==", "ca.crt": "eA=="},
        }),
    );
    server
        .put("secrets", json!({"apiVersion": "v1", "metadata": {"namespace": "shop", "name": "password"}, "data": {}}));
    let mut followed = Followed::with(&server, Wishes { kinds: PROXY_KINDS, ..Wishes::default() });
    followed.until("the first generation", |followed| followed.generations > 0);
    assert_eq!((followed.cluster().gateways.len(), followed.cluster().secrets.len()), (1, 1));
    assert_eq!(server.count(&[GRANTS, "limit"]), 1, "in the version that there is");
    assert_eq!(followed.resource("httproutes").state, "absent");
}

#[test]
fn pods_have_addresses_from_when_they_have_them_until_they_have_ended() {
    let server = ApiServer::recorded();
    server.put("pods", pod("pending", "2026-01-01T00:00:00Z", json!({"phase": "Pending"})));
    server.put(
        "pods",
        pod("done", "2026-01-01T00:00:00Z", json!({"phase": "Succeeded", "podIPs": [{"ip": "10.9.0.1"}]})),
    );
    let mut followed = synced(&server);
    assert!(followed.has_pod("shop", "pending") && followed.problems.is_empty(), "{:?}", followed.problems);
    assert_eq!(owner(&followed, "10.9.0.1"), None);
    server.put(
        "pods",
        pod("pending", "2026-01-01T00:00:00Z", json!({"phase": "Running", "podIPs": [{"ip": "10.9.0.1"}]})),
    );
    followed.until("the address", |followed| owner(followed, "10.9.0.1").as_deref() == Some("pending"));
    server.put(
        "pods",
        pod("pending", "2026-01-01T00:00:00Z", json!({"phase": "Failed", "podIPs": [{"ip": "10.9.0.1"}]})),
    );
    followed.until("it is free", |followed| owner(followed, "10.9.0.1").is_none());
}

#[test]
fn of_two_pods_with_one_address_the_younger_one_has_it() {
    let server = ApiServer::recorded();
    let running = json!({"phase": "Running", "podIPs": [{"ip": "10.9.0.1"}]});
    server.put("pods", pod("a-ghost", "2026-01-01T00:00:00Z", running.clone()));
    let mut followed = synced(&server);
    assert_eq!(owner(&followed, "10.9.0.1").as_deref(), Some("a-ghost"));
    server.put("pods", pod("young", "2026-01-02T00:00:00Z", running.clone()));
    followed.until("the younger", |followed| owner(followed, "10.9.0.1").as_deref() == Some("young"));
    let refused = followed.definitions.problems();
    assert_eq!(
        refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "Kubernetes API: Pod shop/a-ghost: status.podIPs: 10.9.0.1 is already used by Pod shop/young in Kubernetes API"
        ]
    );
    // One of the same name that was made anew is the youngest.
    server.delete("pods", "shop/a-ghost");
    server.put("pods", pod("a-ghost", "2026-01-03T00:00:00Z", running));
    followed.until("the youngest", |followed| owner(followed, "10.9.0.1").as_deref() == Some("a-ghost"));
}

#[test]
fn a_node_is_there_before_it_has_ranges_and_addresses() {
    let server = ApiServer::recorded();
    server.put("nodes", json!({"apiVersion": "v1", "metadata": {"name": "n9"}, "spec": {}}));
    let mut followed = synced(&server);
    assert_eq!(followed.problems, []);
    let ready = json!({
        "apiVersion": "v1", "metadata": {"name": "n9"}, "spec": {"podCIDRs": ["10.9.0.0/24", "fd00:9::/64"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}, {"type": "InternalIP", "address": "2001:db8::9"}],
            "conditions": [{"type": "Ready", "status": "False"}],
        },
    });
    server.put("nodes", ready);
    followed.until("its ranges", |followed| owner(followed, "10.9.0.1").as_deref() == Some("n9"));
    for address in ["fd00:9::1", "192.0.2.9", "2001:db8::9"] {
        assert_eq!(owner(&followed, address).as_deref(), Some("n9"), "{address}");
    }
}

#[test]
fn heartbeats_of_nodes_are_no_changes() {
    let server = ApiServer::recorded();
    let node = |beat: &str| {
        json!({
            "apiVersion": "v1", "metadata": {"name": "n9", "annotations": {"volumes": beat}}, "spec": {"podCIDRs": ["10.9.0.0/24"]},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}], "images": [beat]},
        })
    };
    server.put("nodes", node("2026-01-01T00:00:00Z"));
    let mut followed = synced(&server);
    followed.look();
    let generations = followed.generations;
    server.put("nodes", node("2026-01-01T00:00:10Z"));
    followed.until("the event", |followed| followed.resource("nodes").events == 1);
    assert_eq!((followed.generations, followed.resource("nodes").unchanged), (generations, 1));
}

#[test]
fn the_api_servers_own_service_leads_to_an_address_of_a_node() {
    let server = ApiServer::recorded();
    server.put("endpointslices", json!({
        "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {"namespace": "default", "name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true}}],
    }));
    let followed = synced(&server);
    let service = ("default".into(), "kubernetes".into());
    assert!(followed.cluster().services.contains_key(&service));
    let slices: Vec<_> = followed.cluster().slices_of(&service).collect();
    assert!(slices.iter().any(|slice| slice.object.endpoints[0].addr.to_string() == "192.0.2.1"), "{slices:?}");
    assert_eq!(followed.problems, []);
}
