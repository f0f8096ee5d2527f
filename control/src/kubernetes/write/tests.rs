//! A writer and a server that answers as the API server does: what goes over the wire, and what becomes of it when the server says no.

mod server;

use super::*;
use crate::kubernetes::connect::Access;
use policy::cluster::Cluster;
use policy::objects::{Kind, ObjectRef, Severity, Source, parse};
use policy::routes::{RouteOptions, compile};
use serde_json::{Value, json};
use server::{Asked, Server};
use tempfile::TempDir;

const NODE: &str = "/api/v1/nodes/node1";
const SERVICE: &str = "/api/v1/namespaces/shop/services/web";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/podplane-system/leases/podplane-controller";

/// A kubeconfig for `server`, in a folder of its own.
fn access(server: &Server) -> (Access, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", server.address)}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    (Access { kubeconfig: Some(path), ..Access::default() }, folder)
}

/// A writer of node1 on `server`; the folder holds its kubeconfig.
fn start(server: &Server) -> (Writer, TempDir) {
    let (access, folder) = access(server);
    let config = WriterConfig {
        access,
        lease: LeaseName { namespace: "podplane-system".to_owned(), name: "podplane-controller".to_owned() },
        instance: "node1".to_owned(),
        manager: "podplane-agent",
        controller: "podplane.io/agent",
    };
    (Writer::start(config).unwrap(), folder)
}

fn node_wish() -> Wishes {
    let underlay = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
    annotations_of_node("node1", "0a:00:00:00:00:01".parse().unwrap(), &underlay)
}

fn own(wishes: Wishes) -> Wanted {
    Wanted { own: wishes, ..Wanted::default() }
}

fn led(wishes: Wishes) -> Wanted {
    Wanted { is_candidate: true, led: wishes, ..Wanted::default() }
}

fn addresses() -> Wishes {
    let wish = Wish::GivenAddresses(json!([{"ip": "192.0.2.200", "ipMode": "VIP"}]));
    Wishes::from([(Target::new(Kind::Service, "shop", "web"), wish)])
}

fn refused(message: &str) -> Problem {
    let source = Source { file: "Kubernetes API".into(), document: 0 };
    Problem::of(&source, ObjectRef::new("Service", "shop", "web"), "spec.ports", message, Severity::Refused)
}

fn about<'a>(asked: &'a [Asked], start: &str) -> Vec<&'a Asked> {
    asked.iter().filter(|asked| asked.line.starts_with(start)).collect()
}

#[test]
fn a_node_is_read_and_what_differs_is_patched_and_nothing_else() {
    let server = Server::start();
    server
        .put(NODE, json!({"metadata": {"name": "node1", "annotations": {"other": "stays"}}, "spec": {"podCIDR": "x"}}));
    let (writer, _folder) = start(&server);
    writer.set(own(node_wish()));
    let asked = server.wait("the patch", |asked| asked.iter().any(Asked::is_write));
    let annotations =
        json!({"podplane.io/vtep-mac": "0a:00:00:00:00:01", "podplane.io/vtep-addresses": "192.0.2.1,2001:db8::1"});
    let expected = Asked {
        line: format!("PATCH {NODE}?fieldManager=podplane-agent"),
        content_type: "application/merge-patch+json".to_owned(),
        body: json!({"metadata": {"annotations": annotations}}),
    };
    assert_eq!((asked.len(), &asked[0].line, &asked[1]), (2, &format!("GET {NODE}"), &expected));
    assert_eq!(server.object(NODE)["metadata"]["annotations"]["other"], "stays");
    // Another writer that wishes the same finds nothing to do.
    let (second, _folder) = start(&server);
    second.set(own(node_wish()));
    let asked = server.wait("the second look", |asked| about(asked, "GET").len() == 2);
    assert_eq!(asked.iter().filter(|asked| asked.is_write()).count(), 1);
}

#[test]
fn one_that_meets_another_writer_judges_again_by_what_that_one_wrote() {
    let server = Server::start();
    server.put(NODE, json!({"metadata": {"name": "node1"}, "spec": {}}));
    server.interfere(NODE, json!({"metadata": {"labels": {"a": "b"}}}));
    let (writer, _folder) = start(&server);
    let cidrs = Wish::TheseCidrs(vec!["10.244.3.0/24".to_owned()]);
    writer.set(own(Wishes::from([(Target::new(Kind::Node, "", "node1"), cidrs)])));
    let asked = server.wait("two patches", |asked| about(asked, "PATCH").len() == 2);
    let versions: Vec<&Value> =
        about(&asked, "PATCH").iter().map(|asked| &asked.body["metadata"]["resourceVersion"]).collect();
    assert_eq!(versions, ["1", "2"]);
    assert_eq!(about(&asked, &format!("GET {NODE}")).len(), 2, "it is read again");
    server.wait_for_object(NODE, |node| node["spec"]["podCIDR"] == "10.244.3.0/24");
}

#[test]
fn what_is_forbidden_is_asked_once_and_other_things_go_on() {
    let server = Server::start();
    server.put(NODE, json!({"metadata": {"name": "node1"}}));
    server.put(SERVICE, json!({"metadata": {"name": "web"}, "status": {"loadBalancer": {}}}));
    server.set_faults(&[("PATCH /api/v1/nodes", 403)]);
    let (writer, _folder) = start(&server);
    let mut wishes = node_wish();
    wishes.extend(addresses());
    writer.set(own(wishes.clone()));
    server.wait("the Service", |asked| !about(asked, &format!("PATCH {SERVICE}/status")).is_empty());
    // The same wishes with another one are no reason to ask for the forbidden again.
    wishes.insert(Target::new(Kind::Service, "shop", "next"), Wish::Addresses(json!([])));
    writer.set(own(wishes));
    let asked =
        server.wait("the other Service", |asked| !about(asked, "GET /api/v1/namespaces/shop/services/next").is_empty());
    assert_eq!(about(&asked, "PATCH /api/v1/nodes").len(), 1);
}

#[test]
fn what_was_wished_while_the_server_was_gone_is_written_when_it_is_back() {
    let server = Server::start();
    server.put(NODE, json!({"metadata": {"name": "node1"}}));
    server.set_down(true);
    let (writer, _folder) = start(&server);
    writer.set(own(node_wish()));
    server.wait_for_refusal();
    assert!(server.asked().is_empty());
    server.set_faults(&[("GET", 503)]);
    server.set_down(false);
    server.wait("a busy answer", |asked| !asked.is_empty());
    server.set_faults(&[]);
    server.wait("the patch", |asked| !about(asked, "PATCH").is_empty());
}

#[test]
fn only_the_one_that_leads_gives_addresses_and_the_lease_goes_to_the_other_when_it_stops() {
    let server = Server::start();
    let service = json!({"metadata": {"name": "web"}, "status": {"loadBalancer": {}}});
    server.put(SERVICE, service.clone());
    let (first, _folder) = start(&server);
    first.set(led(addresses()));
    let asked = server.wait("the addresses", |asked| !about(asked, &format!("PATCH {SERVICE}/status")).is_empty());
    let patch = about(&asked, "PATCH")[0];
    let ingress = json!({"ingress": [{"ip": "192.0.2.200", "ipMode": "VIP"}]});
    assert_eq!(patch.body, json!({"metadata": {"resourceVersion": "1"}, "status": {"loadBalancer": ingress}}));
    let holder = server.object(LEASE)["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    assert!(holder.starts_with("node1_"), "{holder}");
    // The second one may lead, and does not while the first one does.
    let (second, _folder) = start(&server);
    second.set(led(addresses()));
    let looks = about(&server.asked(), &format!("GET {LEASE}")).len();
    server.wait("looks at the lease", |asked| about(asked, &format!("GET {LEASE}")).len() >= looks + 3);
    assert_eq!(server.object(LEASE)["spec"]["holderIdentity"], *holder);
    server.put(SERVICE, service);
    drop(first);
    server.wait("the other one's addresses", |asked| about(asked, &format!("PATCH {SERVICE}/status")).len() == 2);
    let lease = server.object(LEASE);
    assert_ne!(lease["spec"]["holderIdentity"], *holder);
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[test]
fn who_is_no_candidate_asks_for_no_lease() {
    let server = Server::start();
    server.put(NODE, json!({"metadata": {"name": "node1"}}));
    let (writer, _folder) = start(&server);
    writer.set(Wanted { led: addresses(), ..own(node_wish()) });
    let asked = server.wait("the patch", |asked| !about(asked, "PATCH").is_empty());
    assert!(asked.iter().all(|asked| asked.line.contains("/nodes/")), "{asked:?}");
}

#[test]
fn pod_ranges_that_another_node_has_are_not_written() {
    let server = Server::start();
    server.put(NODE, json!({"metadata": {"name": "node1"}, "spec": {}}));
    server.put("/api/v1/nodes/node2", json!({"metadata": {"name": "node2"}, "spec": {"podCIDRs": ["10.244.3.0/24"]}}));
    let (writer, _folder) = start(&server);
    let cidrs =
        |cidr: &str| Wishes::from([(Target::new(Kind::Node, "", "node1"), Wish::TheseCidrs(vec![cidr.to_owned()]))]);
    writer.set(own(cidrs("10.244.3.0/24")));
    server.wait("the list of nodes", |asked| {
        about(asked, "GET /api/v1/nodes").iter().any(|a| a.line.ends_with("/nodes"))
    });
    writer.set(own(cidrs("10.244.4.0/24")));
    let asked = server.wait("the patch", |asked| !about(asked, "PATCH").is_empty());
    let patch = &about(&asked, "PATCH")[0].body;
    assert_eq!(patch["spec"], json!({"podCIDR": "10.244.4.0/24", "podCIDRs": ["10.244.4.0/24"]}));
    assert_eq!(patch["metadata"], json!({"resourceVersion": "1"}));
}

#[test]
fn a_refused_object_is_told_on_the_object_with_its_uid() {
    let server = Server::start();
    server.put(SERVICE, json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}}));
    let (writer, _folder) = start(&server);
    let problems = vec![refused("first"), refused("second")];
    writer.set(Wanted { own_problems: problems.clone(), ..Wanted::default() });
    let asked = server.wait("the Event", |asked| !about(asked, "POST").is_empty());
    let event = about(&asked, "POST")[0];
    assert_eq!(event.line, "POST /apis/events.k8s.io/v1/namespaces/shop/events?fieldManager=podplane-agent");
    assert_eq!(event.body["regarding"]["uid"], "u-1");
    assert_eq!(event.body["note"], "spec.ports: first; spec.ports: second");
    let typed: Result<k8s_openapi::api::events::v1::Event, _> = serde_json::from_value(event.body.clone());
    assert!(typed.is_ok(), "{typed:?}");
    // The same problems beside a wish: the Event is there already.
    server.put(NODE, json!({"metadata": {"name": "node1"}}));
    writer.set(Wanted { own: node_wish(), own_problems: problems, ..Wanted::default() });
    let asked = server.wait("the patch", |asked| !about(asked, "PATCH").is_empty());
    assert_eq!(about(&asked, "POST").len(), 1);
}

#[test]
fn a_proxy_says_on_ingresses_where_it_is_reached_and_follows_its_service() {
    const INGRESS: &str = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/shop";
    let cluster = |address: &str| {
        let text = format!(
            "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: shop, namespace: shop}}
spec: {{defaultBackend: {{service: {{name: web, port: {{number: 80}}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: door, namespace: podplane-system}}
spec: {{type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{{port: 80}}]}}
status: {{loadBalancer: {{ingress: [{{ip: {address}}}]}}}}
"
        );
        Cluster::from_objects(parse("test", &text).objects).0
    };
    let server = Server::start();
    server.put(INGRESS, json!({"metadata": {"name": "shop"}, "status": {"loadBalancer": {}}}));
    let (access, _folder) = access(&server);
    let lease = LeaseName { namespace: "podplane-system".to_owned(), name: "podplane-ingress".to_owned() };
    let service = ("podplane-system".to_owned(), "door".to_owned());
    let publisher = Publisher::start(access, lease, "pod-1".to_owned(), &service, "podplane.io/gateway").unwrap();
    for address in ["192.0.2.1", "192.0.2.2"] {
        let cluster = cluster(address);
        publisher.publish(&cluster, compile(&cluster, &RouteOptions::default()).statuses, &[]);
        server.wait_for_object(INGRESS, |ingress| {
            ingress["status"]["loadBalancer"] == json!({"ingress": [{"ip": address}]})
        });
    }
    let asked = server.asked();
    let patches = about(&asked, "PATCH");
    assert!(patches.iter().all(|patch| patch.line == format!("PATCH {INGRESS}/status?fieldManager=podplane-ingress")));
    assert_eq!(patches.len(), 2);
}
