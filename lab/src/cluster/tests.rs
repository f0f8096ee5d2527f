use super::*;
use crate::settings::{NodeOptions, TapMode};
use crate::underlay::UnderlayKind;

fn manifest(text: &str) -> Vec<Manifest> {
    vec![Manifest { name: "test.yaml".into(), text: text.into() }]
}

fn settings() -> Settings {
    Settings {
        nodes: 2,
        tap_mode: TapMode::Auto,
        underlay: UnderlayKind::Auto,
        node_options: NodeOptions::default(),
        member: None,
        underlay_ranges: Vec::new(),
    }
}

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\n\
                   spec: {containers: [{name: c, image: x, ports: [{containerPort: 80}]}]}\n";

#[test]
fn the_demo_is_complete_and_says_nothing() {
    let (given, warnings) = parse(&demo()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    let plan = plan(merge(Vec::new(), given), &[], &settings()).unwrap();
    assert_eq!(plan.warnings, Vec::<String>::new());
    let pods = plan.filled.iter().filter(|sourced| sourced.object.kind().as_str() == "Pod").count();
    assert_eq!(pods, 5);
}

#[test]
fn bad_input_names_file_object_and_field() {
    let broken = parse(&manifest("apiVersion: v1\nkind: [")).unwrap_err();
    assert!(matches!(&broken, LabError::BadInput(text) if text.contains("test.yaml")), "{broken}");
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\n\
                  spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/99}}]}]}\n";
    let refused = parse(&manifest(policy)).unwrap_err();
    assert!(
        matches!(&refused, LabError::BadInput(text) if text.contains("NetworkPolicy shop/p") && text.contains("cidr")),
        "{refused}"
    );
}

#[test]
fn a_kind_that_is_not_known_is_a_warning() {
    let text = format!("{NAMESPACE}---\napiVersion: example.com/v1\nkind: Gadget\nmetadata: {{name: g}}\n");
    let (given, warnings) = parse(&manifest(&text)).unwrap();
    assert_eq!(given.len(), 1);
    assert!(warnings.len() == 1 && warnings[0].contains("Gadget"), "{warnings:?}");
}

#[test]
fn applying_again_replaces_and_deleting_a_namespace_takes_what_is_in_it() {
    let (given, _) = parse(&manifest(&format!("{NAMESPACE}---\n{POD}"))).unwrap();
    let merged = merge(merge(Vec::new(), given.clone()), given);
    assert_eq!(merged.len(), 2);
    let names = parse_names(&manifest(NAMESPACE)).unwrap();
    let (rest, removed) = without(merged, &names);
    assert_eq!((rest.len(), removed), (0, 2));
}

#[test]
fn what_is_written_is_read_again() {
    let dir = std::env::temp_dir().join(format!("podplane-cluster-{}", std::process::id()));
    let (given, _) = parse(&manifest(&format!("{NAMESPACE}---\n{POD}"))).unwrap();
    plan(given, &[], &settings()).unwrap().write(&dir).unwrap();
    let snapshot = Snapshot::read(&dir, &settings()).unwrap();
    assert_eq!(snapshot.nodes.len(), 2);
    let pod = snapshot.pod("shop", "a").unwrap();
    assert!(snapshot.runs(pod));
    assert!(snapshot.nodes.iter().all(|node| snapshot.runs_here(node)));
    for (member, here) in [(Member::Node("node2".into()), ["node2"].as_slice()), (Member::World, &[])] {
        let snapshot = Snapshot::read(&dir, &Settings { member: Some(member), ..settings() }).unwrap();
        let nodes: Vec<&str> = snapshot.nodes.iter().filter(|node| snapshot.runs_here(node)).map(node_name).collect();
        assert_eq!(nodes, here);
    }
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!(read(&desired_dir(&dir)).unwrap().len(), 2);
    fs::remove_dir_all(&dir).unwrap();
}
