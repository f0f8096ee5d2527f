//! What the store makes of objects, and the room that they take.

use super::*;
use crate::kubernetes::PROXY_KINDS;
use crate::kubernetes::answer::{read_event, read_page};
use crate::kubernetes::secrets::named_by;
use policy::cluster::Definitions;
use policy::compile::{CompileOptions, Compiler};
use proptest::prelude::*;
use serde_json::json;

fn policy(name: &str, selector: Value) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"podSelector": selector}})
}

fn texts(store: &Store) -> Vec<String> {
    store.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn changes_are_kept_by_object_until_they_are_taken() {
    let mut store = Store::new(true);
    for label in ["a", "b", "c"] {
        let pod = json!({"metadata": {"name": "web", "labels": {"app": label}}});
        assert_eq!(store.put(Kind::Pod, pod.clone()), Outcome::Changed);
        assert_eq!(store.put(Kind::Pod, pod), Outcome::Same);
    }
    assert_eq!((store.pending(), store.count(Kind::Pod), store.has(Kind::Pod, "default/web")), (1, 1, true));
    let (files, _, digest) = store.take();
    assert_eq!((files.len(), files[0].objects.len(), store.has_news()), (1, 1, false));
    let [((Kind::Pod, key), Some(text))] = &store.take_lines()[..] else { panic!("one line for the cache") };
    assert!(&**key == "default/web" && text.contains("\"c\""), "{key} {text}");
    assert!(store.remove_key(Kind::Pod, "default/web") && !store.remove_key(Kind::Pod, "default/web"));
    let (files, _, empty) = store.take();
    assert!(files[0].objects.is_empty() && empty == Digest::default() && digest != empty);
}

#[test]
fn a_refused_object_leaves_what_was_handed_out_and_what_waits_to_be() {
    let mut store = Store::new(false);
    assert_eq!(store.put(Kind::NetworkPolicy, policy("p", json!({}))), Outcome::Changed);
    assert_eq!(store.put(Kind::NetworkPolicy, policy("p", json!([]))), Outcome::Refused);
    let (files, _, _) = store.take();
    assert_eq!(files[0].objects.len(), 1, "the good form was not taken so far");
    assert!(texts(&store)[0].ends_with("; its last good form stays in force"), "{:?}", texts(&store));
    assert_eq!(store.put(Kind::NetworkPolicy, policy("p", json!([1]))), Outcome::Refused);
    assert!(store.take().0.is_empty() && texts(&store).len() == 1);
    assert_eq!(store.put(Kind::NetworkPolicy, policy("p", json!({}))), Outcome::Changed);
    assert_eq!((store.take().0.len(), texts(&store)), (1, Vec::new()));
    assert_eq!(store.put(Kind::NetworkPolicy, policy("q", json!([]))), Outcome::Refused);
    assert!(texts(&store)[0].contains("pods that only it isolates are open"), "{:?}", texts(&store));
}

#[test]
fn a_list_takes_away_what_it_does_not_show() {
    let mut store = Store::new(false);
    let service = |name: &str| json!({"metadata": {"namespace": "shop", "name": name}});
    for name in ["one", "two"] {
        store.put(Kind::Service, service(name));
    }
    let list = store.begin_list();
    store.put(Kind::Service, service("two"));
    store.put(Kind::Service, service("three"));
    assert_eq!(store.end_list(Kind::Service, None, list), ["shop/one".into()]);
    let list = store.begin_list();
    assert_eq!(store.end_list(Kind::Service, Some("shop/two"), list), ["shop/two".into()]);
    assert_eq!(store.count(Kind::Service), 1);
}

#[test]
fn problems_are_told_up_to_a_number() {
    let mut store = Store::new(false);
    for number in 0..PROBLEMS_MAX + 5 {
        store.put(Kind::NetworkPolicy, policy(&format!("p{number}"), json!([])));
    }
    let texts = texts(&store);
    assert_eq!(texts.len(), PROBLEMS_MAX + 1);
    assert!(texts[PROBLEMS_MAX].contains("there are more than 1000 problems"), "{}", texts[PROBLEMS_MAX]);
}

/// Any JSON, more often than not with the fields that objects have.
fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &[
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "status",
        "podIPs",
        "podCIDRs",
        "addresses",
        "ports",
        "endpoints",
        "tls",
        "rules",
        "listeners",
        "conditions",
        "data",
        "kind",
        "type",
        "object",
        "items",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./:-]{0,12}".prop_map(Value::from),
        prop_oneof![Just("Pod"), Just("ADDED"), Just("DELETED"), Just("BOOKMARK"), Just("ERROR"), Just("PodList")]
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(proptest::sample::select(NAMES), inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_server_says_is_judged_and_nothing_breaks(value in any_json(), name in "[a-z]{0,3}") {
        let mut store = Store::new(true);
        let mut named = value.clone();
        if let Value::Object(fields) = &mut named {
            fields.insert("metadata".to_owned(), json!({"name": name, "namespace": "shop", "labels": value}));
        }
        for kind in [PROXY_KINDS, &[Kind::Pod, Kind::NetworkPolicy, Kind::ClusterNetworkPolicy]].concat() {
            for value in [&value, &named] {
                named_by(kind, value);
                let outcome = store.put(kind, value.clone());
                let is_held = key_of(kind, value).is_some_and(|key| store.has(kind, &key));
                prop_assert_eq!(matches!(outcome, Outcome::Nameless | Outcome::Stranger), !is_held);
            }
        }
        Definitions::default().apply(store.take().0);
        let text = value.to_string();
        for cut in 0..=text.len() {
            let _ = read_event(&text.as_bytes()[..cut], Kind::Pod);
        }
        let _ = read_page(text.as_bytes(), Kind::Pod, &mut |_| {});
    }
}

/// Bytes that stay allocated for `objects` of a kind: in the store, as definitions and in tables.
fn bytes_each(kind: Kind, count: u64, object: impl Fn(u64) -> Value) -> u64 {
    let (mut store, mut definitions) = (Store::new(true), Definitions::default());
    let mut compiler = Compiler::new(CompileOptions::default());
    let mut tables = None;
    let counted = allocation_counter::measure(|| {
        for number in 0..count {
            assert_eq!(store.put(kind, object(number)), Outcome::Changed);
        }
        // The cache has them, and so has whoever compiles.
        drop(store.take_lines());
        let delta = definitions.apply(store.take().0);
        tables = Some(compiler.compile(definitions.cluster(), &delta, 1));
    });
    counted.bytes_current as u64 / count
}

/// Bytes of a pod and a node as a real server sends them are several kilobytes each, most of it bookkeeping.
#[test]
fn a_pod_takes_under_two_kilobytes_and_a_node_under_six() {
    let filler = "x".repeat(3000);
    let pod = bytes_each(Kind::Pod, 10_000, |number| {
        json!({
            "metadata": {
                "namespace": format!("ns-{}", number % 50), "name": format!("backend-7c5ddbdf54-{number:05}"),
                "uid": "7c7afd5c-46bc-425d-8c1d-a25ffcb7cea7", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"app": format!("app-{}", number % 500), "pod-template-hash": format!("7c5ddbdf{}", number % 500)},
                "managedFields": [{"fieldsV1": filler}],
            },
            "spec": {
                "nodeName": format!("node-{}", number % 1000),
                "containers": [{"name": "c", "env": [{"name": "A", "value": filler}], "ports": [{"containerPort": 8080, "name": "http"}]}],
            },
            "status": {"phase": "Running", "podIPs": [
                {"ip": format!("10.{}.{}.{}", 128 + number / 65536, number / 256 % 256, number % 256)},
                {"ip": format!("fd00::{number:x}")},
            ]},
        })
    });
    let node = bytes_each(Kind::Node, 1000, |number| {
        let labels =
            ["kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/zone", "kubernetes.io/hostname"];
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|label| ((*label).to_owned(), format!("value-{}", number % 3).into())).collect();
        json!({
            "metadata": {"name": format!("node-{number}"), "uid": "7c7afd5c-46bc-425d-8c1d-a25ffcb7cea7", "labels": labels, "managedFields": [filler]},
            "spec": {"podCIDRs": [format!("10.{}.{}.0/24", 128 + number / 256, number % 256)]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": format!("172.16.{}.{}", number / 256, number % 256)}],
                "conditions": [{"type": "Ready", "status": "True", "message": filler}], "images": [filler],
            },
        })
    });
    println!("bytes for a pod: {pod}, for a node: {node}");
    assert!(pod < 2048 && node < 6144, "{pod} bytes for a pod, {node} for a node");
}
