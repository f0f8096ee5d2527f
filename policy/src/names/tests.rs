//! What names stand for, who has an address, and what a change shares.

use super::*;
use crate::cluster::Cluster;
use crate::compile::compile;
use crate::objects::parse;
use crate::tables::Tables;

fn tables(yaml: &str) -> Tables {
    let parsed = parse("test.yaml", yaml);
    assert_eq!(parsed.problems, []);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert_eq!(problems, []);
    compile(&cluster, 1).0
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes())).collect()
}

const WEB: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], hostname: pet}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-2, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8081}]
endpoints: [{addresses: [10.0.0.2], hostname: pet}, {addresses: [10.0.0.3]}, {addresses: [10.0.0.4], conditions: {ready: false}}]
";

#[test]
fn an_endpoint_in_two_slices_counts_once_and_keeps_the_port_of_each() {
    let tables = tables(WEB);
    let web = tables.names.service(&wire("web.default")).expect("a Service");
    assert_eq!(
        web.endpoints.addresses().map(|addr| addr.to_string()).collect::<Vec<_>>(),
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    );
    let Stands::Headless { ports } = &web.stands else { panic!("{web:?}") };
    let dashed = |text: &str| Host::Dashed(text.parse().expect("an address"));
    let pet = || Host::Named("pet".into());
    let found: Vec<(u16, Vec<Host>)> = ports.iter().map(|ports| (ports.port.number, ports.hosts.to_vec())).collect();
    assert_eq!(found, [(8080, vec![pet(), dashed("10.0.0.1")]), (8081, vec![pet(), dashed("10.0.0.3")])]);
}

#[test]
fn a_name_is_found_whole_and_nothing_else_is() {
    let tables = tables(WEB);
    let names = &tables.names;
    assert!(names.service_of("default", "web").is_some());
    for absent in ["web", "default", "default.web", "web.default.svc", "we.default", ""] {
        assert!(names.service(&wire(absent)).is_none(), "{absent}");
    }
    let pets = |label: &str| {
        names.service_of("default", "web").expect("a Service").endpoints.find(label.as_bytes()).iter().count()
    };
    assert_eq!((pets("pet"), pets("pe"), pets("10-0-0-1"), pets("10-0-0-2"), pets("10-0-0-4")), (1, 0, 1, 0, 0));
}

#[test]
fn bytes_that_are_no_labels_are_no_name() {
    let tables = tables(WEB);
    for bytes in [&b"\x03svc\x05ab"[..], b"\x00", b"\x03we", b"\xff", b"\x01a\x01b\x01c\x01d\x01e\x03svc"] {
        assert_eq!(find(&tables, bytes, PodRecords::Verified), Found::Nothing(Missing::Form), "{bytes:?}");
    }
}

#[test]
fn d10_a_pod_of_the_host_network_has_its_nodes_address_as_a_name() {
    let tables = tables(
        "
{apiVersion: v1, kind: Node, metadata: {name: node1}, status: {addresses: [{type: InternalIP, address: 172.30.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: proxy, namespace: kube-system}, spec: {nodeName: node1, hostNetwork: true, containers: []}, status: {podIP: 172.30.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {nodeName: node1, containers: []}, status: {podIP: 10.0.0.1}}
",
    );
    let found = |name: &str| matches!(find(&tables, &wire(name), PodRecords::Verified), Found::Pod(_));
    assert!(found("172-30-0-1.kube-system.pod") && found("10-0-0-1.default.pod"));
    assert!(!found("172-30-0-1.default.pod") && !found("10-0-0-1.kube-system.pod"));
}

#[test]
fn what_a_service_held_is_free_when_it_goes() {
    let mut names = Names::default();
    let key = |name: &str| -> Key { ("default".into(), name.into()) };
    let endpoints = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Endpoints::new(addresses, Vec::new())
    };
    let headless = || Stands::Headless { ports: Box::default() };
    let holders = |names: &Names, addr: &str| -> Vec<String> {
        names.holders(addr.parse().expect("an address")).map(|service| service.key.name.to_string()).collect()
    };
    names.replace(&key("b"), Some((headless(), endpoints(&["10.0.0.1", "fd00::1"]))));
    names.replace(&key("a"), Some((headless(), endpoints(&["10.0.0.1"]))));
    assert_eq!(
        (holders(&names, "10.0.0.1"), holders(&names, "fd00::1")),
        (vec!["a".into(), "b".into()], vec!["b".into()])
    );
    names.replace(&key("b"), Some((headless(), endpoints(&["10.0.0.2"]))));
    assert_eq!((holders(&names, "10.0.0.1"), holders(&names, "10.0.0.2")), (vec!["a".into()], vec!["b".into()]));
    assert!(holders(&names, "fd00::1").is_empty());
    names.replace(&key("a"), None);
    assert!(names.has_services("default"));
    names.replace(&key("b"), None);
    assert!(!names.has_services("default") && names.content().is_empty());
}

#[test]
fn the_same_again_is_no_change() {
    let mut names = Names::default();
    let key: Key = ("default".into(), "web".into());
    let web =
        || Some((Stands::Headless { ports: Box::default() }, Endpoints::new(vec![[10, 0, 0, 1].into()], Vec::new())));
    names.replace(&key, web());
    let before = names.clone();
    names.replace(&key, web());
    assert_eq!(names.unshared(&before), 0);
}

#[test]
fn a_name_is_explained_by_what_gave_its_addresses_or_by_what_is_missing() {
    let alias = |name: &str, target: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: ExternalName, externalName: {target}}}}}\n"
        )
    };
    let more = "---\n{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}]}}\n---\n{apiVersion: v1, kind: \
                Service, metadata: {name: idle}, spec: {clusterIP: None}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}, status: \
                {podIP: 10.0.0.9}}\n";
    let yaml = [
        WEB.to_owned(),
        more.to_owned(),
        alias("out", "www.example.com"),
        alias("in", "api.default.svc.cluster.local"),
        alias("round", "round.default.svc.cluster.local"),
    ];
    let tables = tables(&yaml.concat());
    let explained =
        |name: &str| explain(&tables, &format!("{name}cluster.local"), "cluster.local.", PodRecords::Verified);
    let found = |addresses: &[&str], why: &str| {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        Explained::Addresses(addresses, why.to_owned())
    };
    assert_eq!(explained("Api.default.svc."), found(&["10.96.0.1"], "Service default/api"));
    assert_eq!(
        explained("web.default.svc."),
        found(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], "the ready endpoints of the headless Service default/web")
    );
    assert_eq!(explained("pet.web.default.svc."), found(&["10.0.0.2"], "endpoint pet of Service default/web"));
    assert_eq!(explained("10-0-0-9.default.pod."), found(&["10.0.0.9"], "the address of Pod default/p"));
    assert_eq!(
        explained("in.default.svc."),
        found(
            &["10.96.0.1"],
            "Service default/in is an ExternalName for api.default.svc.cluster.local; Service default/api"
        )
    );
    let elsewhere = Explained::Elsewhere(
        "www.example.com".into(),
        "Service default/out is an ExternalName for www.example.com; ".into(),
    );
    assert_eq!(explained("out.default.svc."), elsewhere);
    assert_eq!(
        explain(&tables, "notcluster.local", "cluster.local", PodRecords::Verified),
        Explained::Elsewhere("notcluster.local".into(), String::new())
    );
    let no_name = |why: &str| Explained::NoName(why.to_owned());
    assert_eq!(
        explained("gone.default.svc."),
        no_name("there is no Service default/gone; namespace default has api, idle, in, out, round, web")
    );
    assert_eq!(explained("api.gone.svc."), no_name("there is no namespace gone"));
    assert_eq!(explained("idle.default.svc."), no_name("the headless Service default/idle has no ready endpoint"));
    assert_eq!(explained("x.web.default.svc."), no_name("Service default/web has no ready endpoint called x"));
    assert_eq!(
        explained("10-0-0-8.default.pod."),
        no_name("no pod of namespace default has the address that 10-0-0-8 spells")
    );
    let no_address = |name: &str| matches!(explained(name), Explained::NoAddress(_));
    assert!(
        no_address("")
            && no_address("default.svc.")
            && no_address("_http._tcp.api.default.svc.")
            && no_address("round.default.svc.")
    );
}
