//! The status of what the proxy serves: addresses of Ingresses, and what the compiler of routes says of GatewayClasses, Gateways and
//! HTTPRoutes.
//!
//! What others serve is left alone, and so is what others say of a route that podplane serves as well.

use super::{Target, Wish, Wishes};
use k8s_openapi::api::core::v1::Service;
use policy::cluster::{Cluster, Key};
use policy::objects::Kind;
use policy::routes::Statuses;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Where clients reach the proxy: the addresses and names of `service`, as its load balancer has them, or its externalIPs.
pub(super) fn addresses_of(cluster: &Cluster, service: &Key) -> Vec<Value> {
    let Some(service) = cluster.services.get(service).map(|service| &service.object) else { return Vec::new() };
    let of_balancer = of_load_balancer(service);
    if !of_balancer.is_empty() {
        return of_balancer;
    }
    let external = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    external.map(|address| json!({"ip": address})).collect()
}

fn of_load_balancer(service: &Service) -> Vec<Value> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.into_iter().flat_map(|status| status.ingress.iter().flatten());
    let entry = |ip: Option<&str>, hostname: Option<&str>| match (ip, hostname) {
        (Some(ip), _) if ip.parse::<IpAddr>().is_ok() => Some(json!({"ip": ip})),
        (_, Some(hostname)) if !hostname.is_empty() => Some(json!({"hostname": hostname})),
        _ => None,
    };
    ingress.filter_map(|one| entry(one.ip.as_deref(), one.hostname.as_deref())).collect()
}

/// What the objects that `statuses` speaks of should say, if the proxy is reached at `addresses` and is `controller` to Gateways.
pub(super) fn statuses_of_routes(statuses: &Statuses, addresses: &[Value], controller: &str) -> Wishes {
    let target = |kind: Kind, (namespace, name): &Key| Target::new(kind, namespace, name);
    let mut wishes = Wishes::new();
    for key in &statuses.ingresses {
        wishes.insert(target(Kind::Ingress, key), Wish::Addresses(addresses.into()));
    }
    for (key, status) in &statuses.gateway_classes {
        wishes.insert(target(Kind::GatewayClass, key), Wish::Status(json_of(status)));
    }
    for (key, status) in &statuses.gateways {
        let mut status = json_of(status);
        status["addresses"] = addresses.iter().map(gateway_address).collect();
        wishes.insert(target(Kind::Gateway, key), Wish::Status(status));
    }
    for (key, status) in &statuses.http_routes {
        let own = status.parents.iter().filter(|parent| parent.controller_name == controller);
        let wish = Wish::Parents { controller: controller.to_owned(), parents: own.map(json_of).collect() };
        wishes.insert(target(Kind::HTTPRoute, key), wish);
    }
    wishes
}

fn gateway_address(address: &Value) -> Value {
    match address["ip"].as_str() {
        Some(ip) => json!({"type": "IPAddress", "value": ip}),
        None => json!({"type": "Hostname", "value": address["hostname"]}),
    }
}

fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("an API type with string keys is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::objects::parse;
    use policy::routes::{RouteOptions, compile};

    const OBJECTS: &str = "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: podplane}
spec: {controller: podplane.io/ingress}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop}
spec: {ingressClassName: podplane, defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: foreign, namespace: shop}
spec: {ingressClassName: other, defaultBackend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: podplane}
spec: {controllerName: podplane.io/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gate, namespace: shop}
spec: {gatewayClassName: podplane, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop}
spec: {parentRefs: [{name: gate}], rules: [{backendRefs: [{name: web, port: 80}]}]}
status: {parents: [{parentRef: {name: far}, controllerName: example.com/other, conditions: []}]}
---
apiVersion: v1
kind: Service
metadata: {name: door, namespace: shop}
spec: {type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], externalIPs: [192.0.2.7], ports: [{port: 80}]}
status: {loadBalancer: {ingress: INGRESS}}
";

    fn cluster(ingress: &str) -> Cluster {
        let parsed = parse("test", &OBJECTS.replace("INGRESS", ingress));
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        Cluster::from_objects(parsed.objects).0
    }

    fn key(name: &str) -> Key {
        ("shop".into(), name.into())
    }

    #[test]
    fn a_proxy_is_where_its_service_is() {
        let addresses = |ingress: &str, name: &str| addresses_of(&cluster(ingress), &key(name));
        let both = "[{ip: 192.0.2.1, ipMode: VIP}, {hostname: lb.example}]";
        assert_eq!(addresses(both, "door"), [json!({"ip": "192.0.2.1"}), json!({"hostname": "lb.example"})]);
        assert_eq!(addresses("[]", "door"), [json!({"ip": "192.0.2.7"})]);
        assert!(addresses("[]", "missing").is_empty());
    }

    #[test]
    fn what_is_served_says_where_and_what_others_serve_is_left_alone() {
        let compiled = compile(&cluster("[]"), &RouteOptions::default());
        let addresses = [json!({"ip": "192.0.2.1"}), json!({"hostname": "lb.example"})];
        let wishes = statuses_of_routes(&compiled.statuses, &addresses, "podplane.io/gateway");
        let target = |kind: Kind, name: &str| Target::new(kind, "shop", name);
        assert_eq!(wishes[&target(Kind::Ingress, "shop")], Wish::Addresses(addresses.into_iter().collect()));
        assert!(!wishes.contains_key(&target(Kind::Ingress, "foreign")));
        let Wish::Status(gateway) = &wishes[&target(Kind::Gateway, "gate")] else { panic!("a status") };
        let expected =
            json!([{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "Hostname", "value": "lb.example"}]);
        assert_eq!(gateway["addresses"], expected);
        assert_eq!(gateway["listeners"][0]["name"], "http");
        let Wish::Parents { controller, parents } = &wishes[&target(Kind::HTTPRoute, "route")] else {
            panic!("parents")
        };
        assert_eq!((&**controller, parents.len()), ("podplane.io/gateway", 1));
        assert_eq!(parents[0]["parentRef"]["name"], "gate");
        let Wish::Status(class) = &wishes[&Target::new(Kind::GatewayClass, "", "podplane")] else { panic!("a status") };
        assert_eq!(class["conditions"][0]["type"], "Accepted");
    }
}
