//! What makes a Service reachable from outside: nodePorts and LoadBalancer addresses.

use super::*;

fn typed(name: &str, type_: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: {type_}, selector: {{app: web}}, ports: \
         [{{name: h, port: 80}}, {{name: s, port: 443}}]{more}}}\n"
    )
}

fn annotated(name: &str, annotation: &str, value: &str, more: &str) -> String {
    typed(name, "LoadBalancer", more)
        .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, annotations: {{{annotation}: \"{value}\"}}}}"))
}

fn spec(filled: &Filled, name: &str) -> ServiceSpec {
    let mut all = services(filled).into_iter();
    all.find(|service| service.metadata.name.as_deref() == Some(name)).unwrap().spec.clone().unwrap()
}

fn node_ports(filled: &Filled, name: &str) -> Vec<i32> {
    spec(filled, name).ports.unwrap().iter().map(|port| port.node_port.unwrap_or(0)).collect()
}

fn external(filled: &Filled, name: &str) -> Vec<String> {
    let mut all = services(filled).into_iter();
    let service = all.find(|service| service.metadata.name.as_deref() == Some(name)).unwrap();
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.clone()).unwrap_or_default();
    let ingress = balancer.ingress.unwrap_or_default().into_iter();
    ingress.inspect(|ingress| assert_eq!(ingress.ip_mode.as_deref(), Some("VIP"))).map(|i| i.ip.unwrap()).collect()
}

use k8s_openapi::api::core::v1::ServiceSpec;

#[test]
fn a_node_port_is_in_the_dynamic_part_of_the_range_and_does_not_depend_on_other_services() {
    let alone = run(&typed("web", "NodePort", ""));
    let ports = node_ports(&alone, "web");
    assert!(ports.iter().all(|port| (30_086..=32_767).contains(port)) && ports[0] != ports[1], "{ports:?}");
    let among = run(&["a", "b", "web", "z"].map(|name| typed(name, "NodePort", "")).concat());
    assert_eq!(node_ports(&among, "web"), ports);
    assert_eq!(node_ports(&run(&typed("web", "ClusterIP", "")), "web"), [0, 0]);
}

#[test]
fn a_stated_node_port_is_taken_and_refused_the_second_time() {
    let stated = |name: &str| typed(name, "NodePort", "").replace("port: 80}", "port: 80, nodePort: 30080}");
    let filled = run(&[stated("a"), stated("b")].concat());
    assert_eq!(node_ports(&filled, "a")[0], 30_080);
    assert_eq!(
        problems(&filled),
        [
            "test.yaml: Service default/b: spec.ports[0].nodePort: TCP port 30080 is already a port of Service default/a: \
             state another one, or none"
        ]
    );
    let outside = run(&stated("a").replace("30080", "8080"));
    assert_eq!(node_ports(&outside, "a")[0], 8080);
    assert!(problems(&outside)[0].contains("8080 is outside of 30000-32767"), "{:?}", outside.problems);
}

#[test]
fn a_later_service_that_states_a_number_displaces_one_that_was_given_it() {
    let before = run(&typed("web", "NodePort", ""));
    let number = node_ports(&before, "web")[0];
    let stating = typed("a", "NodePort", "").replace("port: 80}", &format!("port: 80, nodePort: {number}}}"));
    let after = run_after(&[stating, typed("web", "NodePort", "")].concat(), &before);
    assert_eq!(node_ports(&after, "a")[0], number);
    assert_ne!(node_ports(&after, "web")[0], number);
    assert_eq!(node_ports(&after, "web")[1], node_ports(&before, "web")[1]);
}

#[test]
fn one_port_number_of_two_protocols_has_one_node_port() {
    let dns = "apiVersion: v1\nkind: Service\nmetadata: {name: dns}\nspec: {type: NodePort, ports: [{name: u, port: 53, \
               protocol: UDP}, {name: t, port: 53, protocol: TCP}]}\n";
    let ports = node_ports(&run(dns), "dns");
    assert_eq!(ports[0], ports[1]);
}

#[test]
fn a_renamed_port_keeps_its_number_and_an_edited_one_too() {
    let before = run(&typed("web", "NodePort", ""));
    let renamed = run_after(&typed("web", "NodePort", "").replace("name: h", "name: http"), &before);
    let moved = run_after(&typed("web", "NodePort", "").replace("port: 80", "port: 8080"), &before);
    for after in [renamed, moved] {
        assert_eq!(node_ports(&after, "web"), node_ports(&before, "web"));
    }
}

#[test]
fn only_a_local_load_balancer_has_a_health_check_port() {
    let local = run(&typed("web", "LoadBalancer", ", externalTrafficPolicy: Local"));
    let port = spec(&local, "web").health_check_node_port.unwrap();
    assert!((30_000..=32_767).contains(&port) && !node_ports(&local, "web").contains(&port));
    let again = run_after(&typed("web", "LoadBalancer", ", externalTrafficPolicy: Local"), &local);
    assert_eq!(spec(&again, "web").health_check_node_port, Some(port));
    for other in [typed("web", "LoadBalancer", ""), typed("web", "NodePort", ", externalTrafficPolicy: Local")] {
        assert_eq!(spec(&run(&other), "web").health_check_node_port, None);
    }
}

#[test]
fn a_load_balancer_may_do_without_node_ports() {
    let filled = run(&typed("web", "LoadBalancer", ", allocateLoadBalancerNodePorts: false"));
    assert_eq!(node_ports(&filled, "web"), [0, 0]);
    assert_eq!(external(&filled, "web"), ["172.30.0.200"]);
}

#[test]
fn a_load_balancer_has_an_address_of_each_of_its_families_and_keeps_them() {
    let before = run(&typed("web", "LoadBalancer", ", ipFamilyPolicy: PreferDualStack"));
    assert_eq!(external(&before, "web"), ["172.30.0.200", "fd00:172:30::200"]);
    assert_eq!(problems(&before), [""; 0]);
    let both = [typed("a", "LoadBalancer", ""), typed("web", "LoadBalancer", ", ipFamilyPolicy: PreferDualStack")];
    let after = run_after(&both.concat(), &before);
    assert_eq!(external(&after, "web"), external(&before, "web"));
    assert_eq!(external(&after, "a"), ["172.30.0.201"]);
}

#[test]
fn the_address_of_a_deleted_service_rests() {
    let before = run(&[typed("a", "LoadBalancer", ""), typed("b", "LoadBalancer", "")].concat());
    let after = run_after(&[typed("b", "LoadBalancer", ""), typed("c", "LoadBalancer", "")].concat(), &before);
    assert_eq!(external(&after, "c"), ["172.30.0.202"]);
}

#[test]
fn addresses_that_are_asked_for_are_given_or_the_reason_is_told() {
    for annotation in ["podplane.io/load-balancer-ips", "metallb.io/loadBalancerIPs"] {
        let filled =
            run(&annotated("web", annotation, "fd00:172:30::222, 172.30.0.222", ", ipFamilyPolicy: RequireDualStack"));
        assert_eq!(external(&filled, "web"), ["fd00:172:30::222", "172.30.0.222"]);
    }
    let asks = |name: &str, address: &str| typed(name, "LoadBalancer", &format!(", loadBalancerIP: {address}"));
    let filled = run(&[
        asks("a", "172.30.0.230"),
        asks("b", "172.30.0.230"),
        asks("c", "10.9.9.9"),
        asks("d", "fd00:172:30::230"),
    ]
    .concat());
    assert_eq!(external(&filled, "a"), ["172.30.0.230"]);
    for name in ["b", "c", "d"] {
        assert_eq!(external(&filled, name), [""; 0]);
    }
    let field = |name: &str| format!("test.yaml: Service default/{name}: spec.loadBalancerIP: ");
    assert_eq!(
        problems(&filled),
        [
            format!(
                "{}172.30.0.230 is already an address of Service default/a: ask for another one, or let the Services share it \
                 with the annotation podplane.io/allow-shared-ip",
                field("b")
            ),
            format!(
                "{}10.9.9.9 is in no address pool: ask for an address of a pool, or add this one to an IPAddressPool (pools: \
                 of the lab (172.30.0.200-172.30.0.250, fd00:172:30::200-fd00:172:30::250))",
                field("c")
            ),
            format!("{}fd00:172:30::230 cannot be given: IPv6 is not among the Service's spec.ipFamilies", field("d")),
        ]
    );
    assert!(filled.problems.iter().all(|problem| problem.severity == Severity::Warning), "the rest of each works");
}

#[test]
fn services_that_agree_share_an_address_unless_their_ports_clash() {
    let shared = |name: &str, port: u16| {
        annotated(name, "metallb.io/allow-shared-ip", "dns", ", loadBalancerIP: 172.30.0.210")
            .replace("port: 80}, {name: s, port: 443}", &format!("port: {port}}}"))
    };
    let filled = run(&[shared("a", 53), shared("b", 853), shared("c", 53)].concat());
    assert_eq!(external(&filled, "a"), external(&filled, "b"));
    assert_eq!(external(&filled, "c"), [""; 0]);
    assert_eq!(filled.problems.len(), 1);
    let again = run_after(&[shared("a", 53), shared("b", 853), shared("c", 53)].concat(), &filled);
    assert_eq!(again.objects, filled.objects);
}

#[test]
fn a_status_of_the_manifests_is_honoured_and_its_address_given_to_nobody_else() {
    let given = format!(
        "{}status: {{loadBalancer: {{ingress: [{{ip: 172.30.0.200, ipMode: VIP}}]}}}}\n",
        typed("z", "LoadBalancer", "")
    );
    let filled = run(&[typed("a", "LoadBalancer", ""), given].concat());
    assert_eq!(external(&filled, "z"), ["172.30.0.200"]);
    assert_eq!(external(&filled, "a"), ["172.30.0.201"]);
}

#[test]
fn a_load_balancer_of_another_class_is_left_to_it() {
    let filled = run(&typed("web", "LoadBalancer", ", loadBalancerClass: example.com/cloud"));
    assert_eq!(external(&filled, "web"), [""; 0]);
    assert_eq!(problems(&filled), [""; 0]);
    let ours = run(&typed("web", "LoadBalancer", ", loadBalancerClass: podplane.io/l2"));
    assert_eq!(external(&ours, "web").len(), 1);
}

#[test]
fn an_empty_pool_is_told_on_the_service_with_what_to_do() {
    let network = LabNetwork { load_balancers: Vec::new(), ..LabNetwork::default() };
    let filled = fill(&objects(&typed("web", "LoadBalancer", "")), &[], &network);
    assert_eq!(
        problems(&filled),
        [
            "test.yaml: Service default/web: status.loadBalancer: no IPAddressPool has IPv4 addresses to give (pools: of the lab \
             (empty)): add a range to one, or create one; until then the Service has no IPv4 address for the outside"
        ]
    );
    assert_eq!(node_ports(&filled, "web").len(), 2, "the rest works");
    let one = vec![("172.30.0.200".parse().unwrap(), "172.30.0.200".parse().unwrap())];
    let network = LabNetwork { load_balancers: one, ..LabNetwork::default() };
    let both =
        [typed("a", "LoadBalancer", ""), typed("b", "LoadBalancer", ", ipFamilyPolicy: PreferDualStack")].concat();
    let filled = fill(&objects(&both), &[], &network);
    assert_eq!(filled.problems.len(), 2, "{:?}", problems(&filled));
    assert!(
        problems(&filled)[0].contains("every IPv4 address is taken (pools: of the lab (172.30.0.200-172.30.0.200))")
    );
}

fn address_pool(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}, namespace: x}}\nspec: {{{more}}}\n"
    )
}

#[test]
fn pools_of_the_manifests_replace_that_of_the_lab_and_are_used_by_priority() {
    let first = address_pool("z", "addresses: [192.0.2.7/32], serviceAllocation: {priority: 1}");
    let second = address_pool("a", "addresses: [192.0.2.254-192.0.3.1], avoidBuggyIPs: true");
    let named = ["a", "b", "c", "d"].map(|name| typed(name, "LoadBalancer", ""));
    let filled = run(&[first, second, named.concat()].concat());
    let given: Vec<String> = ["a", "b", "c"].iter().flat_map(|name| external(&filled, name)).collect();
    assert_eq!(given, ["192.0.2.7", "192.0.2.254", "192.0.3.1"]);
    assert_eq!(
        problems(&filled),
        [
            "test.yaml: Service default/d: status.loadBalancer: every IPv4 address is taken (pools: z (192.0.2.7-192.0.2.7), a \
             (192.0.2.254-192.0.3.1)): add a range to an IPAddressPool, or delete a Service of type LoadBalancer; until then \
             the Service has no IPv4 address for the outside"
        ]
    );
}

#[test]
fn a_pool_is_used_by_those_that_it_is_for_and_by_those_that_name_it() {
    let team = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: red}}\n";
    let red = address_pool(
        "red",
        "addresses: [192.0.2.1/32], serviceAllocation: {namespaceSelectors: [{matchLabels: {team: red}}]}",
    );
    let blue = address_pool("blue", "addresses: [192.0.2.2/32], serviceAllocation: {namespaces: [blue]}");
    let quiet = address_pool("quiet", "addresses: [192.0.2.3/32], autoAssign: false");
    let services = [
        typed("a", "LoadBalancer", ""),
        typed("b", "LoadBalancer", ""),
        annotated("c", "metallb.io/address-pool", "quiet", ""),
        annotated("d", "podplane.io/address-pool", "none", ""),
    ];
    let filled = run(&[team.to_owned(), red, blue, quiet, services.concat()].concat());
    let given: Vec<String> = ["a", "b", "c", "d"].iter().flat_map(|name| external(&filled, name)).collect();
    assert_eq!(given, ["192.0.2.1", "192.0.2.3"]);
    assert_eq!(filled.problems.len(), 2);
    let nowhere = &problems(&filled)[1];
    assert!(
        nowhere.contains("metadata.annotations[podplane.io/address-pool]: there is no IPAddressPool called none"),
        "{nowhere}"
    );
}

/// Pods with these names and nodes that all ask for port 80 of their node.
fn doors(pods: &[(&str, &str)]) -> String {
    let pod = |(name, node): &(&str, &str)| {
        let node = if node.is_empty() { String::new() } else { format!("nodeName: {node}, ") };
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{node}containers: [{{name: c, ports: \
             [{{containerPort: 8080, hostPort: 80}}]}}]}}\n"
        )
    };
    pods.iter().map(pod).collect()
}

fn places(filled: &Filled) -> Vec<(&str, &str)> {
    let node = |pod: &'_ &Pod| pod.spec.as_ref().unwrap().node_name.as_deref().unwrap().to_owned();
    pods(filled).into_iter().map(|pod| (pod_name(pod), &*node(&pod).leak())).collect()
}

#[test]
fn p04_pods_with_one_host_port_go_to_different_nodes_and_one_too_many_is_refused() {
    let filled = run(&doors(&[("a", ""), ("b", "")]));
    assert_eq!(places(&filled), [("a", "node1"), ("b", "node2")]);
    // Whoever says its node has it; the other one goes elsewhere, and stays there.
    let filled = run(&doors(&[("a", ""), ("z", "node1")]));
    assert_eq!(places(&filled), [("a", "node2"), ("z", "node1")]);
    let filled = run_after(&doors(&[("a", "")]), &filled);
    assert_eq!(places(&filled), [("a", "node2")]);
    let filled = run(&doors(&[("a", ""), ("b", ""), ("c", "")]));
    assert_eq!(places(&filled), [("a", "node1"), ("b", "node2")]);
    let told: Vec<String> = filled.problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].ends_with(
            "Pod default/c: spec.containers[0].ports[0].hostPort: TCP 80 is another pod's on every Node that takes this one \
             (node1, node2)"
        ),
        "{told:?}"
    );
}
