//! The proxy that the controller adds, and the status of what it serves.

use super::*;
use crate::controller::publish;
use k8s_openapi::jiff::Timestamp;

const WEB: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

fn ingress(name: &str, class: &str) -> String {
    let class = if class.is_empty() { String::new() } else { format!("ingressClassName: {class}, ") };
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{class}rules: \
         [{{host: {name}.example, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: \
         80}}}}}}}}]}}}}]}}\n"
    )
}

const FOREIGN_CLASS: &str = "
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
";

const GATEWAY: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: door, namespace: shop}
spec: {gatewayClassName: podplane, listeners: [{name: http, port: 80, protocol: HTTP}, {name: other, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{name: door}], rules: [{backendRefs: [{name: web, port: 80}]}]}
";

/// What the controller and the proxy that it adds make of it.
fn published(yaml: &str, previous: &[Sourced<Object>], second: i64) -> Filled {
    let mut filled = fill(&objects(yaml), previous, &LabNetwork::default());
    let now = Timestamp::from_second(second).unwrap();
    let problems = publish(&mut filled.objects, previous, &|_| Ok(()), now);
    filled.problems.extend(problems);
    filled
}

fn proxies(filled: &Filled) -> Vec<(&str, &str)> {
    let all = pods(filled).into_iter();
    let ours = all.filter(|pod| pod.metadata.namespace.as_deref() == Some(PROXY_NAMESPACE));
    ours.map(|pod| (pod.spec.as_ref().unwrap().node_name.as_deref().unwrap(), pod_name(pod))).collect()
}

/// Addresses in the status of an Ingress.
fn addresses(filled: &Filled, name: &str) -> Vec<String> {
    let ingress = filled.objects.iter().find_map(|sourced| match &sourced.object {
        Object::Ingress(ingress) if ingress.metadata.name.as_deref() == Some(name) => Some(ingress.clone()),
        _ => None,
    });
    let status = ingress.expect("the Ingress").status.clone().unwrap_or_default().load_balancer.unwrap_or_default();
    status.ingress.into_iter().flatten().filter_map(|entry| entry.ip).collect()
}

fn service_ports(filled: &Filled) -> Vec<i32> {
    let proxy = services(filled).into_iter().find(|service| service.metadata.name.as_deref() == Some(PROXY_NAME));
    proxy.expect("the proxy's Service").spec.clone().unwrap().ports.unwrap().iter().map(|port| port.port).collect()
}

#[test]
fn an_ingress_brings_a_proxy_to_every_node_a_load_balancer_and_a_class() {
    let filled = published(&[WEB, &ingress("web", "")].concat(), &[], 1);
    assert_eq!(filled.problems, []);
    let on: Vec<&str> = proxies(&filled).iter().map(|(node, _)| *node).collect();
    assert_eq!(BTreeSet::from_iter(on), BTreeSet::from(["node1", "node2"]));
    assert_eq!(service_ports(&filled), [80, 443]);
    let found = addresses(&filled, "web");
    assert_eq!(found.len(), 2, "an address of each family: {found:?}");
    let class = filled.objects.iter().find(|sourced| sourced.object.reference().to_string() == "IngressClass podplane");
    assert!(class.is_some());
    // Its own output changes nothing.
    let again = published(&[WEB, &ingress("web", "")].concat(), &filled.objects, 2);
    assert_eq!(again.objects, filled.objects);
    // Without an Ingress there is none of it.
    let without = run_after(WEB, &again);
    let of_proxy = |sourced: &&Sourced<Object>| {
        let reference = sourced.object.reference();
        reference.name.contains("podplane") || reference.namespace.contains("podplane")
    };
    assert_eq!(without.objects.iter().filter(of_proxy).count(), 0);
}

#[test]
fn i06_a_foreign_ingress_brings_nothing_and_its_status_stays_empty() {
    let yaml = [WEB, FOREIGN_CLASS, &ingress("web", "nginx")].concat();
    let filled = published(&yaml, &[], 1);
    assert_eq!(proxies(&filled), []);
    assert_eq!(addresses(&filled, "web"), [""; 0]);
    // Beside one of ours it is left alone all the same.
    let both = published(&[&yaml, &*ingress("ours", "podplane")].concat(), &[], 1);
    assert_eq!((proxies(&both).len(), addresses(&both, "web"), addresses(&both, "ours").len()), (2, Vec::new(), 2));
    // Nobody is the default, so one without a class is nobody's.
    let none = published(&[WEB, FOREIGN_CLASS, &ingress("web", "")].concat(), &[], 1);
    assert_eq!(proxies(&none), []);
    assert_eq!(none.problems.len(), 1, "{:?}", none.problems);
}

#[test]
fn what_the_manifests_bring_themselves_stays_as_it_is() {
    let own = "
---
apiVersion: v1
kind: Service
metadata: {name: podplane-ingress, namespace: podplane-system}
spec: {type: LoadBalancer, selector: {app: mine}, ports: [{port: 8443}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: podplane-ingress, namespace: podplane-system}
spec: {replicas: 1, selector: {matchLabels: {app: mine}}, template: {metadata: {labels: {app: mine}}, spec: {containers: [{name: c, image: i}]}}}
";
    let filled = published(&[WEB, own, &ingress("web", "")].concat(), &[], 1);
    assert_eq!(service_ports(&filled), [8443]);
    assert_eq!(proxies(&filled).len(), 1);
}

#[test]
fn a_gateway_has_its_ports_at_the_load_balancer_and_its_status() {
    let filled = published(&[WEB, GATEWAY].concat(), &[], 1_000);
    assert_eq!(service_ports(&filled), [80, 443, 8080]);
    let gateway = |filled: &Filled| {
        let mut all = filled.objects.iter();
        all.find_map(|sourced| match &sourced.object {
            Object::Gateway(gateway) => gateway.status.clone(),
            _ => None,
        })
    };
    let status = gateway(&filled).expect("a status");
    assert_eq!(status.addresses.as_ref().map(Vec::len), Some(2));
    let conditions = status.conditions.clone().unwrap();
    assert!(conditions.iter().any(|own| own.type_ == "Programmed" && own.status == "True"), "{conditions:?}");
    assert_eq!(conditions[0].last_transition_time.0.as_second(), 1_000);
    let attached: Vec<i32> = status.listeners.iter().flatten().map(|listener| listener.attached_routes).collect();
    assert_eq!(attached, [1, 1]);
    // What stays true keeps its time.
    let again = published(&[WEB, GATEWAY].concat(), &filled.objects, 2_000);
    assert_eq!(gateway(&again), Some(status));
}

#[test]
fn what_is_wrong_with_a_route_is_told_by_field() {
    let filled = published(&ingress("web", ""), &[], 1);
    let told: Vec<String> = filled.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("Ingress shop/web: spec.rules[0].http.paths[0].backend.service.name: "), "{told:?}");
    assert_eq!(filled.problems[0].severity, Severity::Warning);
}
