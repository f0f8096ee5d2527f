//! Addresses of LoadBalancer Services from the pools of the command line: the rules are those of the lab's controller.
//!
//! What was given is remembered until it shows in the objects: between a write and its return by the watch another Service must not
//! get the same address.

use super::{Target, Wish, Wishes};
use crate::controller::{ServiceKey, give_load_balancer_addresses};
use crate::pools::AddressPool;
use k8s_openapi::api::core::v1::Service;
use policy::cluster::Cluster;
use policy::objects::{Kind, Problem};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who has which address, as this process gave them.
#[derive(Debug, Default)]
pub struct Balancers {
    pools: Vec<AddressPool>,
    given: BTreeMap<ServiceKey, Service>,
}

impl Balancers {
    /// Gives addresses of `pools`, those of the first pool first.
    pub fn new(pools: Vec<AddressPool>) -> Balancers {
        Balancers { pools, given: BTreeMap::new() }
    }

    /// What the Services of `cluster` that have no address should have, and why some get none.
    pub fn wishes(&mut self, cluster: &Cluster) -> (Wishes, Vec<Problem>) {
        if self.pools.is_empty() {
            return Default::default();
        }
        let is_balancer =
            |service: &Service| service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
        let balancers = cluster.services.iter().filter(|(_, service)| is_balancer(&service.object));
        let mut services: BTreeMap<ServiceKey, Service> = balancers
            .map(|((namespace, name), service)| ((namespace.to_string(), name.to_string()), (*service.object).clone()))
            .collect();
        let without: Vec<ServiceKey> =
            services.iter().filter(|(_, service)| addresses(service).is_none()).map(|(key, _)| key.clone()).collect();
        let problems = give_load_balancer_addresses(&mut services, &self.given, self.pools.clone(), in_use(cluster));
        let wish = |key: &ServiceKey| {
            let ingress = addresses(&services[key])?;
            let ingress = serde_json::to_value(ingress).expect("an API type with string keys is JSON");
            Some((Target::new(Kind::Service, &key.0, &key.1), Wish::GivenAddresses(ingress)))
        };
        let wishes = without.iter().filter_map(wish).collect();
        self.given = services;
        (wishes, problems)
    }
}

/// status.loadBalancer.ingress, if there is something.
fn addresses(service: &Service) -> Option<&Vec<k8s_openapi::api::core::v1::LoadBalancerIngress>> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    (!ingress.is_empty()).then_some(ingress)
}

/// Addresses of nodes: no Service gets one of these by chance.
fn in_use(cluster: &Cluster) -> Vec<(IpAddr, String)> {
    let nodes = cluster.nodes.iter().flat_map(|((_, name), node)| {
        let status = node.object.status.as_ref();
        let listed = status.into_iter().flat_map(|status| status.addresses.iter().flatten());
        listed.filter_map(move |address| Some((address.address.parse().ok()?, format!("Node {name}"))))
    });
    nodes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::objects::parse;
    use serde_json::json;

    fn cluster(services: &[(&str, &str)]) -> Cluster {
        let node = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
";
        let service = |(index, (name, status)): (usize, &(&str, &str))| {
            let address = format!("10.96.0.{}", index + 1);
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{type: LoadBalancer, \
                 clusterIP: {address}, clusterIPs: [{address}], ipFamilies: [IPv4], ports: [{{port: 80}}]}}\nstatus: \
                 {{loadBalancer: {status}}}\n"
            )
        };
        let text: String = std::iter::once(node.to_owned()).chain(services.iter().enumerate().map(service)).collect();
        let parsed = parse("test", &text);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        Cluster::from_objects(parsed.objects).0
    }

    fn balancers(first: &str, last: &str) -> Balancers {
        let ranges = vec![(first.parse().unwrap(), last.parse().unwrap())];
        let pool =
            AddressPool { name: "a".to_owned(), ranges, auto_assign: true, avoid_buggy_ips: false, only_for: None };
        Balancers::new(vec![pool])
    }

    fn target(name: &str) -> Target {
        Target::new(Kind::Service, "shop", name)
    }

    fn given(address: &str) -> Wish {
        Wish::GivenAddresses(json!([{"ip": address, "ipMode": "VIP"}]))
    }

    #[test]
    fn a_service_without_an_address_is_given_one_that_nobody_has() {
        let mut balancers = balancers("192.0.2.1", "192.0.2.4");
        let has = "{ingress: [{ip: 192.0.2.2}]}";
        let (wishes, problems) = balancers.wishes(&cluster(&[("a", "{}"), ("b", has)]));
        assert_eq!((wishes, problems), (Wishes::from([(target("a"), given("192.0.2.3"))]), Vec::new()));
    }

    #[test]
    fn an_address_that_does_not_show_yet_is_given_to_nobody_else() {
        let mut balancers = balancers("192.0.2.2", "192.0.2.9");
        let (first, _) = balancers.wishes(&cluster(&[("z", "{}")]));
        assert_eq!(first[&target("z")], given("192.0.2.2"));
        let (both, _) = balancers.wishes(&cluster(&[("a", "{}"), ("z", "{}")]));
        assert_eq!(both, Wishes::from([(target("a"), given("192.0.2.3")), (target("z"), given("192.0.2.2"))]));
    }

    #[test]
    fn who_gets_none_is_told_why_and_without_pools_nothing_is_said() {
        let services = cluster(&[("a", "{}"), ("b", "{}")]);
        let (wishes, problems) = balancers("192.0.2.2", "192.0.2.2").wishes(&services);
        assert_eq!(wishes.len(), 1);
        assert!(problems[0].to_string().contains("Service shop/b"), "{}", problems[0]);
        assert_eq!(Balancers::default().wishes(&services), Default::default());
    }
}
