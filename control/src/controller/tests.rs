mod doors;
mod ingress;
mod outside;
mod topology;

use super::*;
use crate::ipam::gateway;
use policy::objects::parse;
use proptest::prelude::*;
use std::net::IpAddr;

/// The objects of `yaml`, which must be without problems.
fn objects(yaml: &str) -> Vec<Sourced<Object>> {
    let parsed = parse("test.yaml", yaml);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    parsed.objects
}

fn run(yaml: &str) -> Filled {
    fill(&objects(yaml), &[], &LabNetwork::default())
}

fn run_after(yaml: &str, previous: &Filled) -> Filled {
    fill(&objects(yaml), &previous.objects, &LabNetwork::default())
}

fn pods(filled: &Filled) -> Vec<&Pod> {
    let pods = filled.objects.iter().filter_map(|sourced| match &sourced.object {
        Object::Pod(pod) => Some(&**pod),
        _ => None,
    });
    pods.collect()
}

fn services(filled: &Filled) -> Vec<&Service> {
    let services = filled.objects.iter().filter_map(|sourced| match &sourced.object {
        Object::Service(service) => Some(&**service),
        _ => None,
    });
    services.collect()
}

fn slices(filled: &Filled) -> Vec<&EndpointSlice> {
    let slices = filled.objects.iter().filter_map(|sourced| match &sourced.object {
        Object::EndpointSlice(slice) => Some(&**slice),
        _ => None,
    });
    slices.collect()
}

fn nodes_of(filled: &Filled) -> Vec<&Node> {
    let nodes = filled.objects.iter().filter_map(|sourced| match &sourced.object {
        Object::Node(node) => Some(&**node),
        _ => None,
    });
    nodes.collect()
}

fn pod_name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap()
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().unwrap().node_name.as_deref().unwrap()
}

fn ips(pod: &Pod) -> Vec<String> {
    placement::given_addresses(pod).into_iter().map(str::to_owned).collect()
}

/// Name, node and addresses of every pod.
fn summary(filled: &Filled) -> Vec<String> {
    pods(filled).iter().map(|pod| format!("{} {} {}", pod_name(pod), node_of(pod), ips(pod).join(" "))).collect()
}

fn problems(filled: &Filled) -> Vec<String> {
    filled.problems.iter().map(ToString::to_string).collect()
}

fn pod(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n\
         spec: {{containers: [{{name: c, image: i}}]{spec}}}\n"
    )
}

fn deployment(name: &str, replicas: u32, image: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: \
         {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}, annotations: {{note: \
         kept}}}}\n    spec: {{containers: [{{name: c, image: {image}, ports: [{{name: http, containerPort: 8080}}]}}]}}\n"
    )
}

fn node(name: &str, cidr: &str) -> String {
    format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{cidr}]}}\n")
}

#[test]
fn pods_go_round_the_nodes_and_count_up_from_the_second_address() {
    let filled = run(&["a", "b", "c"].map(|name| pod(name, "")).concat());
    assert_eq!(
        summary(&filled),
        [
            "a node1 10.244.1.2 fd00:10:244:1::2",
            "b node2 10.244.2.2 fd00:10:244:2::2",
            "c node1 10.244.1.3 fd00:10:244:1::3",
        ]
    );
    assert_eq!(problems(&filled), [""; 0]);
}

#[test]
fn nodes_are_made_with_ranges_and_addresses() {
    let filled = run(&pod("a", ""));
    let nodes = nodes_of(&filled);
    let names: Vec<&str> = nodes.iter().map(|node| nodes::name(node)).collect();
    assert_eq!(names, ["node1", "node2"]);
    assert_eq!(nodes::addresses(nodes[1])[0].to_string(), "172.30.0.12");
    assert_eq!(nodes[1].spec.as_ref().unwrap().pod_cidr.as_deref(), Some("10.244.2.0/24"));
    assert_eq!(gateway(&nodes::pod_cidrs(nodes[1])[1]).to_string(), "fd00:10:244:2::1");
}

#[test]
fn a_node_that_only_a_pod_names_is_made() {
    let filled = run(&[pod("a", ", nodeName: worker"), pod("b", ", nodeName: node2")].concat());
    let names: Vec<&str> = nodes_of(&filled).iter().map(|node| nodes::name(node)).collect();
    assert_eq!(names, ["node2", "worker"]);
    assert_eq!(summary(&filled), ["a worker 10.244.1.2 fd00:10:244:1::2", "b node2 10.244.2.2 fd00:10:244:2::2"]);
}

#[test]
fn nodes_of_the_manifests_are_all_there_are_and_keep_what_they_say() {
    let given = "apiVersion: v1\nkind: Node\nmetadata: {name: big}\nspec: {podCIDRs: [10.1.0.0/20]}\nstatus: {addresses: \
                 [{type: InternalIP, address: 192.168.7.7}]}\n";
    let filled = run(&[given.to_owned(), pod("a", "")].concat());
    assert_eq!(summary(&filled), ["a big 10.1.0.2"]);
    assert_eq!(nodes::addresses(nodes_of(&filled)[0])[0].to_string(), "192.168.7.7");
}

#[test]
fn a_pod_on_an_unknown_node_is_refused_by_name() {
    let filled = run(&[node("n1", "10.0.0.0/24"), pod("a", ", nodeName: n2"), pod("b", "")].concat());
    assert_eq!(problems(&filled), ["test.yaml: Pod default/a: spec.nodeName: there is no Node n2"]);
    assert_eq!(summary(&filled), ["b n1 10.0.0.2"]);
}

#[test]
fn node_selectors_are_followed() {
    let labelled = "apiVersion: v1\nkind: Node\nmetadata: {name: n2, labels: {disk: ssd}}\n";
    let selector = ", nodeSelector: {disk: ssd}";
    let yaml = [node("n1", "10.0.1.0/24"), format!("---\n{labelled}"), pod("a", selector), pod("b", selector)].concat();
    let filled = run(&yaml);
    assert!(pods(&filled).iter().all(|pod| node_of(pod) == "n2"));
    let nowhere = run(&[node("n1", "10.0.1.0/24"), pod("a", selector)].concat());
    assert_eq!(
        problems(&nowhere),
        ["test.yaml: Pod default/a: spec.nodeSelector: no Node that takes pods has these labels"]
    );
}

#[test]
fn a_full_range_names_the_pod_the_node_and_the_range() {
    let tiny = node("n1", "10.0.0.0/29");
    let pinned: String = (0..6).map(|i| pod(&format!("p{i}"), ", nodeName: n1")).collect();
    let filled = run(&[tiny.clone(), pinned].concat());
    assert_eq!(
        problems(&filled),
        ["test.yaml: Pod default/p5: status.podIPs: the pod range 10.0.0.0/29 of Node n1 is full"]
    );
    assert_eq!(pods(&filled).len(), 5);
    let anywhere = run(&[tiny, deployment("web", 6, "i")].concat());
    assert_eq!(anywhere.problems.len(), 1);
    assert!(
        problems(&anywhere)[0].ends_with("the pod range is full on Node n1 (10.0.0.0/29)"),
        "{:?}",
        anywhere.problems
    );
}

#[test]
fn a_full_node_is_passed_over() {
    let yaml = [node("n1", "10.0.0.0/29"), node("n2", "10.0.1.0/24"), deployment("web", 12, "i")].concat();
    let filled = run(&yaml);
    assert_eq!(problems(&filled), [""; 0]);
    assert_eq!(pods(&filled).iter().filter(|pod| node_of(pod) == "n1").count(), 5);
}

#[test]
fn addresses_in_a_manifest_are_kept_and_never_given_to_another_pod() {
    let fixed = format!("{}status: {{podIPs: [{{ip: 10.244.2.2}}]}}\n", pod("z", ""));
    let filled = run(&[pod("a", ", nodeName: node2"), fixed].concat());
    assert_eq!(summary(&filled), ["a node2 10.244.2.3 fd00:10:244:2::2", "z node2 10.244.2.2"]);
}

#[test]
fn the_second_pod_with_an_address_is_refused() {
    let fixed = |name| format!("{}status: {{podIP: 10.244.1.9}}\n", pod(name, ""));
    let filled = run(&[fixed("a"), fixed("b")].concat());
    assert_eq!(
        problems(&filled),
        ["test.yaml: Pod default/b: status.podIPs[0].ip: 10.244.1.9 is already the address of Pod default/a"]
    );
    let gateway = run(&format!("{}status: {{podIP: 10.244.1.1}}\n", pod("a", "")));
    assert_eq!(
        problems(&gateway),
        [
            "test.yaml: Pod default/a: status.podIPs[0].ip: 10.244.1.1 is the network, gateway or broadcast address of Node \
          node1's pod range"
        ]
    );
}

#[test]
fn a_deployment_becomes_pods_as_a_replica_set_makes_them() {
    let filled = run(&deployment("web", 3, "i"));
    let pods = pods(&filled);
    assert_eq!(pods.len(), 3);
    let labels = pods[0].metadata.labels.as_ref().unwrap();
    let hash = &labels["pod-template-hash"];
    assert!(pods.iter().all(|pod| pod_name(pod).strip_prefix(&format!("web-{hash}-")).is_some_and(|s| s.len() == 5)));
    assert_eq!(labels["app"], "web");
    assert_eq!(pods[0].metadata.annotations.as_ref().unwrap()["note"], "kept");
    let owner = &pods[0].metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("ReplicaSet", format!("web-{hash}").as_str()));
    let on_node1 = pods.iter().filter(|pod| node_of(pod) == "node1").count();
    assert!((1..=2).contains(&on_node1), "replicas are spread");
}

#[test]
fn scaling_up_and_down_leaves_the_other_pods_alone() {
    let three = run(&deployment("web", 3, "i"));
    let five = run_after(&deployment("web", 5, "i"), &three);
    assert_eq!(pods(&five).len(), 5);
    assert!(summary(&three).iter().all(|pod| summary(&five).contains(pod)));
    let two = run_after(&deployment("web", 2, "i"), &five);
    assert_eq!(pods(&two).len(), 2);
    assert!(summary(&two).iter().all(|pod| summary(&three).contains(pod)));
}

#[test]
fn an_edited_template_gives_other_pods_with_other_addresses() {
    let before = run(&deployment("web", 2, "one"));
    let after = run_after(&deployment("web", 2, "two"), &before);
    for pod in pods(&after) {
        assert!(pods(&before).iter().all(|old| pod_name(old) != pod_name(pod) && ips(old) != ips(pod)));
    }
}

#[test]
fn an_edited_pod_keeps_its_place_and_gets_another_uid() {
    let before = run(&pod("a", ""));
    let after = run_after(&pod("a", ", hostname: h"), &before);
    assert_eq!(summary(&before), summary(&after));
    assert_ne!(pods(&before)[0].metadata.uid, pods(&after)[0].metadata.uid);
}

#[test]
fn pods_that_come_with_their_deployment_are_its_replicas() {
    let filled = run(&deployment("web", 3, "i"));
    let mut dump = objects(&deployment("web", 3, "i"));
    dump.extend(filled.objects.iter().filter(|sourced| matches!(sourced.object, Object::Pod(_))).take(2).cloned());
    let again = fill(&dump, &[], &LabNetwork::default());
    assert_eq!(summary(&again), summary(&filled));
}

#[test]
fn a_stateful_set_has_stable_names_and_dns_names() {
    let yaml = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  replicas: 2\n  \
                selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    spec: {containers: \
                [{name: c, image: i}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, \
                selector: {app: db}, ports: [{port: 5432}]}\n";
    let filled = run(yaml);
    let names: Vec<&str> = pods(&filled).iter().map(|pod| pod_name(pod)).collect();
    assert_eq!(names, ["db-0", "db-1"]);
    let spec = pods(&filled)[1].spec.as_ref().unwrap();
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("db-1"), Some("db")));
    let slice = slices(&filled)[0];
    assert_eq!(slice.endpoints.as_ref().unwrap()[1].hostname.as_deref(), Some("db-1"));
    assert_eq!(slice.metadata.labels.as_ref().unwrap()["service.kubernetes.io/headless"], "");
    assert_eq!(services(&filled)[0].spec.as_ref().unwrap().cluster_ips, Some(vec!["None".to_owned()]));
}

#[test]
fn a_daemon_set_has_one_pod_on_every_node() {
    let yaml = "apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: log}\nspec:\n  selector: {matchLabels: {app: log}}\n  \
                template:\n    metadata: {labels: {app: log}}\n    spec: {hostNetwork: true, containers: [{name: c, image: \
                i}]}\n";
    let filled = run(yaml);
    let mut nodes: Vec<&str> = pods(&filled).iter().map(|pod| node_of(pod)).collect();
    nodes.sort();
    assert_eq!(nodes, ["node1", "node2"]);
    assert!(pods(&filled).iter().all(|pod| ips(pod)[0].starts_with("172.30.0.1")));
}

#[test]
fn a_typing_error_in_replicas_does_not_make_a_million_pods() {
    let many = run(&deployment("web", 1_000_000, "i"));
    assert_eq!(
        problems(&many),
        ["test.yaml: Deployment default/web: spec.replicas: 1000000 is not between 0 and 10000"]
    );
    assert!(pods(&many).is_empty());
}

fn service(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: web}}, ports: [{{name: h, \
         port: 80, targetPort: http}}]{more}}}\n"
    )
}

fn cluster_ips(filled: &Filled, index: usize) -> Vec<String> {
    services(filled)[index].spec.as_ref().unwrap().cluster_ips.clone().unwrap()
}

#[test]
fn services_get_addresses_above_the_static_band() {
    let filled = run(&[service("one", ""), service("two", ", ipFamilyPolicy: PreferDualStack")].concat());
    assert_eq!(cluster_ips(&filled, 0), ["10.96.1.1"]);
    assert_eq!(cluster_ips(&filled, 1), ["10.96.1.2", "fd00:10:96::101"]);
    let spec = services(&filled)[1].spec.as_ref().unwrap();
    assert_eq!(spec.ip_families, Some(vec!["IPv4".to_owned(), "IPv6".to_owned()]));
}

#[test]
fn a_service_keeps_its_address_when_another_one_comes_before_it() {
    let before = run(&service("two", ""));
    let after = run_after(&[service("one", ""), service("two", "")].concat(), &before);
    assert_eq!(cluster_ips(&after, 1), cluster_ips(&before, 0));
    assert_ne!(cluster_ips(&after, 0), cluster_ips(&after, 1));
}

#[test]
fn a_stated_cluster_ip_is_taken_and_refused_the_second_time() {
    let dns = service("dns", ", clusterIP: 10.96.0.10");
    let filled = run(&[dns, service("other", ", clusterIP: 10.96.0.10"), service("third", "")].concat());
    assert_eq!(
        problems(&filled),
        [
            "test.yaml: Service default/other: spec.clusterIPs[0]: 10.96.0.10 is already the address of Service default/dns"
        ]
    );
    assert_eq!(cluster_ips(&filled, 0), ["10.96.0.10"]);
}

#[test]
fn ipv6_services_have_ipv6_endpoints() {
    let filled = run(&[deployment("web", 1, "i"), service("s", ", ipFamilies: [IPv6]")].concat());
    assert_eq!(cluster_ips(&filled, 0), ["fd00:10:96::101"]);
    assert_eq!(slices(&filled).len(), 1);
    assert_eq!(slices(&filled)[0].address_type, "IPv6");
    assert!(slices(&filled)[0].endpoints.as_ref().unwrap()[0].addresses[0].starts_with("fd00:10:244:"));
}

#[test]
fn endpoints_resolve_named_ports_and_follow_readiness() {
    let not_ready = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: slow, labels: {app: web}}\nspec: {containers: [{name: c, \
                     image: i, ports: [{name: http, containerPort: 9090}]}]}\nstatus: {conditions: [{type: Ready, status: \
                     'False'}]}\n";
    let filled = run(&[deployment("web", 1, "i"), not_ready.to_owned(), service("s", "")].concat());
    let mut found: Vec<(i32, bool)> = slices(&filled)
        .iter()
        .map(|slice| {
            let port = slice.ports.as_ref().unwrap()[0].port.unwrap();
            (port, slice.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready.unwrap())
        })
        .collect();
    found.sort();
    assert_eq!(found, [(8080, true), (9090, false)]);
}

#[test]
fn a_terminating_pod_is_serving_and_not_ready() {
    let leaving = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: old, labels: {app: web}, deletionTimestamp: \
                   '2026-01-01T00:00:00Z'}\nspec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: \
                   8080}]}]}\n";
    let filled = run(&[leaving.to_owned(), service("s", "")].concat());
    let conditions = slices(&filled)[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
    assert_eq!((conditions.ready, conditions.serving, conditions.terminating), (Some(false), Some(true), Some(true)));
}

#[test]
fn slices_in_the_manifests_are_kept_and_nothing_is_added_to_them() {
    let own = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-1, labels: \
               {kubernetes.io/service-name: s}}\naddressType: IPv4\nendpoints: [{addresses: [10.244.1.77]}]\nports: [{port: \
               1}]\n";
    let filled = run(&[deployment("web", 1, "i"), service("s", ""), own.to_owned()].concat());
    assert_eq!(slices(&filled).len(), 1);
    assert_eq!(slices(&filled)[0].metadata.name.as_deref(), Some("s-1"));
}

#[test]
fn a_service_without_pods_has_an_empty_slice_and_one_with_many_has_several() {
    let empty = run(&service("s", ""));
    assert_eq!(slices(&empty)[0].endpoints.as_ref().map(Vec::len), Some(0));
    let many = run(&[deployment("web", 250, "i"), service("s", "")].concat());
    let sizes: Vec<usize> = slices(&many).iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 250);
    assert!(sizes.iter().all(|size| *size <= 100));
    let names: BTreeSet<_> = slices(&many).iter().map(|slice| slice.metadata.name.clone()).collect();
    assert_eq!(names.len(), sizes.len());
}

#[test]
fn namespaces_that_are_used_exist_with_their_name_as_label() {
    let yaml =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec: {containers: [{name: c, image: i}]}\n";
    let filled = run(yaml);
    let Object::Namespace(namespace) = &filled.objects[0].object else { panic!("{:?}", filled.objects[0]) };
    assert_eq!(namespace.metadata.labels.as_ref().unwrap()["kubernetes.io/metadata.name"], "shop");
}

#[test]
fn a_pod_that_has_ended_has_no_address_and_is_no_endpoint() {
    let done = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: job, labels: {app: web}}\nspec: {containers: [{name: c, image: \
                i}]}\nstatus: {phase: Succeeded, podIP: 10.244.1.2}\n";
    let filled = run(&[done.to_owned(), service("s", ""), pod("a", "")].concat());
    assert_eq!(slices(&filled)[0].endpoints.as_ref().map(Vec::len), Some(0));
    assert_eq!(problems(&filled), [""; 0]);
    let a = pods(&filled).into_iter().find(|pod| pod_name(pod) == "a").unwrap();
    assert_eq!(ips(a)[0], "10.244.1.2");
}

/// What a person may ask for: workloads with their replicas, pods with and without a node.
#[derive(Clone, Debug)]
struct Wish {
    replicas: Vec<(usize, u32, u8)>,
    bare: Vec<(usize, Option<u8>)>,
}

impl Wish {
    fn yaml(&self) -> String {
        let mut yaml = service("s", "");
        let mut names = BTreeSet::new();
        for (name, replicas, image) in &self.replicas {
            if names.insert(format!("w{name}")) {
                yaml += &deployment(&format!("w{name}"), *replicas, &format!("i{image}"));
            }
        }
        for (name, node) in &self.bare {
            if names.insert(format!("p{name}")) {
                yaml +=
                    &pod(&format!("p{name}"), &node.map_or(String::new(), |node| format!(", nodeName: node{node}")));
            }
        }
        yaml
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let replicas = prop::collection::vec((0usize..4, 0u32..6, 0u8..2), 0..4);
    let bare = prop::collection::vec((0usize..6, prop::option::of(1u8..3)), 0..6);
    (replicas, bare).prop_map(|(replicas, bare)| Wish { replicas, bare })
}

fn check_invariants(filled: &Filled) {
    for object in filled.objects.iter().map(|sourced| &sourced.object) {
        let read = objects(&serde_json::to_string(object).unwrap());
        assert_eq!(&read[0].object, object, "a node reads what was made");
    }
    let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
    for pod in pods(filled) {
        let node =
            nodes_of(filled).into_iter().find(|node| nodes::name(node) == node_of(pod)).expect("its node exists");
        for (text, range) in ips(pod).iter().zip(nodes::pod_cidrs(node)) {
            let address: IpAddr = text.parse().unwrap();
            assert!(range.contains(&address) && address != gateway(&range), "{text} in {range}");
            assert!(seen.insert(address), "{text} is given twice");
        }
        assert_eq!(ips(pod).len(), 2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_history_of_wishes_keeps_what_stays_and_never_doubles_an_address(wishes in prop::collection::vec(wish(), 1..5)) {
        let mut last = Filled::default();
        for wish in wishes {
            let filled = run_after(&wish.yaml(), &last);
            prop_assert_eq!(&filled.problems, &Vec::new());
            check_invariants(&filled);
            let again = run_after(&wish.yaml(), &filled);
            prop_assert_eq!(&again.objects, &filled.objects, "its own output changes nothing");
            let pinned = |name: &str| wish.bare.iter().any(|(bare, node)| name == format!("p{bare}") && node.is_some());
            for pod in pods(&filled) {
                let before = pods(&last).into_iter().find(|old| pod_name(old) == pod_name(pod));
                if let Some(before) = before && !pinned(pod_name(pod)) {
                    prop_assert_eq!((node_of(before), ips(before)), (node_of(pod), ips(pod)));
                }
            }
            last = filled;
        }
    }
}
