use crate::cluster::{Cluster, Definition, Definitions, Delta, FileChange};
use crate::compile::tests::{A, abc, pod, policy};
use crate::compile::{CompileOptions, Compiler, compile_with};
use crate::objects::parse;
use crate::tables::{Direction, Owner, Question, Tables};
use std::net::IpAddr;
use wire::Protocol;

const DNS: &str = "10.96.0.10";

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn options() -> CompileOptions {
    CompileOptions { cluster_dns: vec![addr(DNS), addr("fd00:10:96::a")], ..CompileOptions::default() }
}

/// With the problems that were found, in words.
fn compiled(yaml: &str) -> (Tables, Vec<String>) {
    let (cluster, found) = Cluster::from_objects(parse("test.yaml", yaml).objects);
    assert!(found.is_empty(), "{found:?}");
    let (tables, problems) = compile_with(&cluster, &options(), 1);
    (tables, problems.iter().map(ToString::to_string).collect())
}

fn asks(tables: &Tables, peer: &str, protocol: Protocol, port: u16) -> bool {
    let subject = tables.find_pod("default", "a").expect("a is a pod");
    let direction = Direction::FromPod;
    tables.check(&Question { direction, subject, peer: addr(peer), protocol, port, names: &[] }).allowed
}

/// Whether pod a may ask over UDP, and over TCP, if its egress is only this.
fn may_ask(egress: &str) -> (bool, bool) {
    let (tables, _) =
        compiled(&(abc() + &policy("p", &format!("{{podSelector: {{}}, policyTypes: [Egress], {egress}}}"))));
    let both =
        [DNS, "fd00:10:96::a"].map(|dns| [Protocol::UDP, Protocol::TCP].map(|over| asks(&tables, dns, over, 53)));
    assert_eq!(both[0], both[1], "the families differ");
    (both[0][0], both[0][1])
}

#[test]
fn d20_policies_see_a_pod_of_kube_system_that_is_labelled_as_dns_though_no_object_describes_it() {
    let system = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}";
    let to = |peer: &str| may_ask(&format!("egress: [{{to: [{{{peer}}}]}}]"));
    assert_eq!(to(&format!("{system}, podSelector: {{matchLabels: {{k8s-app: kube-dns}}}}")), (true, true));
    assert_eq!(to(&format!("{system}, podSelector: {{matchLabels: {{k8s-app: other}}}}")), (false, false));
    assert_eq!(to("namespaceSelector: {}"), (true, true));
    assert_eq!(to("podSelector: {matchLabels: {k8s-app: kube-dns}}"), (false, false), "of the policy's own namespace");
    assert_eq!(
        may_ask("egress: [{to: [{ipBlock: {cidr: 10.96.0.10/32}}, {ipBlock: {cidr: 'fd00::/16'}}]}]"),
        (true, true)
    );
    assert_eq!(may_ask("egress: []"), (false, false));
}

#[test]
fn d20_its_ports_have_the_names_that_they_have_in_the_pods_of_coredns() {
    let only = |ports: &str| may_ask(&format!("egress: [{{ports: [{ports}]}}]"));
    assert_eq!(only("{port: dns, protocol: UDP}"), (true, false));
    assert_eq!(only("{port: dns-tcp, protocol: TCP}"), (false, true));
    assert_eq!(only("{port: dns, protocol: TCP}"), (false, false));
    assert_eq!(only("{port: 53, protocol: UDP}, {port: 53, protocol: TCP}"), (true, true));
}

#[test]
fn d20_nobody_finds_it_among_the_pods() {
    let (tables, problems) = compiled(&abc());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((tables.pods().count(), tables.pod_count()), (3, 3));
    assert_eq!(tables.find_pod("kube-system", "cluster-dns"), None);
    assert_eq!(
        tables.owner(addr(DNS)).map(|owner| matches!(owner, Owner::Pod(pod) if Some(pod) == tables.cluster_dns_pod())),
        Some(true)
    );
    assert_eq!(tables.owner(addr(A)), tables.find_pod("default", "a").map(Owner::Pod));
    let (without, _) = compile_with(&Cluster::default(), &CompileOptions::default(), 1);
    assert_eq!((without.cluster_dns_pod(), without.is_cluster_dns(addr(DNS))), (None, false));
}

#[test]
fn d20_a_service_may_have_its_address_and_nobody_elses_pod_can() {
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{namespace: kube-system, name: kube-dns}}\n\
         spec: {{clusterIP: {DNS}, ports: [{{port: 9153}}]}}\n---\n"
    );
    let (tables, problems) = compiled(&(abc() + &service));
    assert!(problems.is_empty(), "{problems:?}");
    assert!(tables.find_service(addr(DNS), Protocol::TCP, 9153).is_some());
    assert!(tables.is_virtual(addr(DNS)) && tables.is_virtual(addr("fd00:10:96::a")));
    let (tables, _) = compiled(&(abc() + &pod("thief", "", "node1", &[DNS])));
    assert_eq!(tables.owner(addr(DNS)), tables.cluster_dns_pod().map(Owner::Pod));
}

#[test]
fn d20_it_stays_whatever_pods_come_and_go() {
    let change = |file: &str, yaml: &str| {
        let parsed = parse(file, yaml);
        FileChange { file: file.into(), objects: parsed.objects.iter().map(Definition::new).collect() }
    };
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::new(options());
    let spec = "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: \
                {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]}]}";
    let system = pod("kube-system/x", "", "node1", &["10.244.1.99"]);
    definitions.apply(vec![change("base", &(abc() + &policy("p", spec)))]);
    let (mut tables, _) = compiler.compile(definitions.cluster(), &Delta::default(), 1);
    for (epoch, yaml) in [(2, system.as_str()), (3, ""), (4, &pod("d", "", "node1", &[DNS])), (5, "")] {
        let delta = definitions.apply(vec![change("more", yaml)]);
        (tables, _) = compiler.compile(definitions.cluster(), &delta, epoch);
        assert!(asks(&tables, DNS, Protocol::UDP, 53), "{yaml}");
        assert_eq!(tables.owner(addr(DNS)), tables.cluster_dns_pod().map(Owner::Pod));
    }
    assert_eq!(tables.pod_count(), 3);
}
