use super::*;
use crate::cluster::{Definition, Definitions, FileChange, Key};
use crate::objects::{Kind, Object, Sourced, parse};
use std::collections::BTreeMap;
use wire::Protocol;

fn key(name: &str) -> Key {
    ("default".into(), name.into())
}

fn file(name: &str, text: &str) -> FileChange {
    let parsed = parse(name, text);
    assert_eq!(parsed.problems, [], "{text}");
    let objects: &[Sourced<Object>] = &parsed.objects;
    FileChange { file: name.into(), objects: objects.iter().map(Definition::new).collect() }
}

fn pod(name: &str, uid: &str, address: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, uid: {uid}, labels: {{app: {name}}}}}\nspec: {{nodeName: n1, \
         containers: [{{name: c, image: i}}]}}\nstatus: {{podIP: '{address}'}}\n"
    )
}

fn attachment(uid: Option<&str>, address: &str) -> Attachment {
    Attachment {
        uid: uid.map(Arc::from),
        addresses: [address.parse().unwrap()].into(),
        host_ports: Box::default(),
        stand_in: None,
    }
}

fn stand_in(address: &str) -> Attachment {
    let labels = Labels::from(&BTreeMap::from([("app".to_owned(), "stand-in".to_owned())]));
    Attachment { stand_in: Some(StandIn { node: "n1".into(), labels }), ..attachment(None, address) }
}

/// Label `app` and the first address of a pod in force.
fn in_force(definitions: &Definitions, name: &str) -> Option<(String, String)> {
    let pod = &definitions.cluster().pods.get(&key(name))?.object;
    let address = pod.addresses.first().map(ToString::to_string).unwrap_or_default();
    Some((pod.labels.get("app").unwrap_or_default().to_owned(), address))
}

fn some(app: &str, address: &str) -> Option<(String, String)> {
    Some((app.to_owned(), address.to_owned()))
}

#[test]
fn the_nodes_own_addresses_hold_while_the_pod_is_attached_whatever_its_object_says() {
    let mut definitions = Definitions::default();
    let delta = definitions.attach([(key("a"), Some(attachment(Some("u1"), "10.0.0.9")))]);
    assert!(delta.is_empty(), "there is no such pod yet: {delta:?}");
    definitions.apply([file("f", &pod("a", "u1", ""))]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.9"));
    definitions.apply([file("f", &pod("a", "u1", "10.0.0.7"))]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.9"));
    let delta = definitions.attach([(key("a"), None)]);
    assert!(delta.touches(Kind::Pod));
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.7"));
}

#[test]
fn a_pod_that_is_made_again_under_its_name_is_another_one() {
    let mut definitions = Definitions::default();
    definitions.attach([(key("a"), Some(attachment(Some("u1"), "10.0.0.9")))]);
    definitions.apply([file("f", &pod("a", "u2", "10.0.0.7"))]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.7"));
    definitions.attach([(key("a"), Some(attachment(Some("u2"), "10.0.0.8")))]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.8"));
}

#[test]
fn what_no_object_describes_is_a_pod_until_one_does_and_nothing_is_wrong_with_that() {
    let mut definitions = Definitions::default();
    let delta = definitions.attach([(key("a"), Some(stand_in("10.0.0.9")))]);
    assert_eq!(delta.of(Kind::Pod).count(), 1);
    assert_eq!(in_force(&definitions, "a"), some("stand-in", "10.0.0.9"));
    definitions.apply([file("f", &pod("a", "u1", ""))]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.9"), "the object's labels, the node's address");
    assert_eq!(definitions.problems(), []);
    definitions.apply([FileChange { file: "f".into(), objects: Vec::new() }]);
    assert_eq!(in_force(&definitions, "a"), some("stand-in", "10.0.0.9"));
    definitions.attach([(key("a"), None)]);
    assert_eq!(in_force(&definitions, "a"), None);
}

#[test]
fn a_broken_file_keeps_the_pod_as_it_was_written_and_as_it_is_attached() {
    let mut definitions = Definitions::default();
    definitions.attach([(key("a"), Some(attachment(None, "10.0.0.9")))]);
    definitions.apply([file("f", &pod("a", "u1", "10.0.0.7"))]);
    let reference = file("f", &pod("a", "u1", "")).objects[0].reference();
    definitions.apply([FileChange { file: "f".into(), objects: Definition::kept(&reference).into_iter().collect() }]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.9"));
    definitions.attach([(key("a"), None)]);
    assert_eq!(in_force(&definitions, "a"), some("a", "10.0.0.7"));
}

#[test]
fn an_address_that_another_pod_has_is_refused_and_comes_back_when_that_goes() {
    let mut definitions = Definitions::default();
    definitions.apply([file("f", &pod("other", "u9", "10.0.0.9"))]);
    definitions.attach([(key("a"), Some(stand_in("10.0.0.9")))]);
    assert_eq!(in_force(&definitions, "a"), None);
    let [problem] = &definitions.problems()[..] else { panic!("{:?}", definitions.problems()) };
    assert!(problem.to_string().contains("10.0.0.9 is already used by Pod default/other"), "{problem}");
    definitions.apply([FileChange { file: "f".into(), objects: Vec::new() }]);
    assert_eq!(in_force(&definitions, "a"), some("stand-in", "10.0.0.9"));
    assert_eq!(definitions.problems(), []);
}

#[test]
fn p04_ports_of_the_node_are_added_to_those_of_the_object_and_none_twice() {
    let mut definitions = Definitions::default();
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {nodeName: n1, containers: [{name: c, image: i, ports: \
                [{containerPort: 80, hostPort: 8080}]}]}\n";
    definitions.apply([file("f", text)]);
    let port =
        |port, target| HostPort { field: "portMappings".into(), host_ip: None, protocol: Protocol::TCP, port, target };
    let asked = Attachment { host_ports: [port(8080, 80), port(9090, 90)].into(), ..attachment(None, "10.0.0.9") };
    definitions.attach([(key("a"), Some(asked))]);
    let ports = &definitions.cluster().pods[&key("a")].object.host_ports;
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [8080, 9090]);
}
