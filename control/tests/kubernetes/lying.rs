//! A server that says what makes no sense: each thing is named, counted and survived, and what it hid is found by a list.

use crate::followed::Followed;
use crate::server::{Answer, ApiServer, recording};
use serde_json::{Value, json};

fn synced(server: &ApiServer) -> Followed {
    let mut followed = Followed::new(server);
    followed.until_synced();
    followed
}

/// Says `lie` in the watch of pods while a pod vanishes without an event: a list is needed to know.
fn survives(lie: &[u8], told: &str) {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    server.delete_silently("pods", "base/p1");
    server.say("pods", lie);
    followed.until(told, |followed| !followed.has_pod("base", "p1"));
    followed.until(told, |followed| followed.tells(told));
    let pods = followed.resource("pods");
    assert_eq!((pods.not_understood, pods.lists), (1, 2), "{told}: {pods:?}");
    // What was wrong is told until something right has come.
    server.play();
    followed.until("something right", |followed| !followed.tells(told) && followed.has_pod("shop", "db-0"));
    followed.until_synced();
    followed.until_as_the_server(&server);
}

#[test]
fn truncated_json_is_named_counted_and_survived() {
    survives(b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"\n", "pods: EOF while parsing");
}

#[test]
fn an_event_without_an_object_is_named_counted_and_survived() {
    survives(b"{\"type\":\"ADDED\"}\n", "pods: an event of type ADDED without object");
}

#[test]
fn an_event_about_another_kind_is_named_counted_and_survived() {
    let line = recording("services.watch.jsonl");
    let line = format!("{}\n", line.lines().next().expect("a line"));
    survives(line.as_bytes(), "pods: Pod is watched, an event about \"Service\" came");
}

#[test]
fn an_unknown_event_is_named_counted_and_survived() {
    survives(b"{\"type\":\"RENAMED\",\"object\":{\"kind\":\"Pod\"}}\n", "pods: an event of the unknown type RENAMED");
}

#[test]
fn a_resource_version_that_goes_back_is_named_counted_and_survived() {
    let lie = json!({"type": "MODIFIED", "object": {"kind": "Pod", "metadata": {"name": "x", "resourceVersion": "5"}}});
    survives(format!("{lie}\n").as_bytes(), "pods: the resourceVersion goes back from 288 to 5");
    let lie = json!({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "6"}}});
    survives(format!("{lie}\n").as_bytes(), "pods: the resourceVersion goes back from 288 to 6");
}

#[test]
fn a_line_without_end_is_named_counted_and_survived() {
    survives(&vec![b'{'; (8 << 20) + 1], "pods: a line that is too long for an object");
}

#[test]
fn a_list_of_another_kind_is_named_counted_and_survived() {
    let server = ApiServer::recorded();
    server.answer("/pods?limit", 1, Answer::new(200, recording("services.list.json")));
    server.answer("/services?limit", 1, Answer::new(200, "[]"));
    server.answer("/nodes?limit", 1, Answer::new(200, r#"{"kind":"NodeList","metadata":{},"items":[]}"#));
    let mut followed = synced(&server);
    followed.look();
    for resource in ["pods", "services", "nodes"] {
        let resource = followed.resource(resource);
        assert_eq!((resource.not_understood, resource.lists), (1, 1), "{resource:?}");
    }
    followed.until_as_the_server(&server);
}

#[test]
fn objects_with_wrong_types_are_refused_by_name_and_their_last_good_form_stays() {
    let server = ApiServer::recorded();
    server.play();
    let mut followed = synced(&server);
    followed.until("the policy", |followed| !followed.cluster().network_policies.is_empty());
    let good = followed.tables();
    let mut bad: Value = json!({
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {"namespace": "shop", "name": "backend-from-front"},
        "spec": {"podSelector": [], "policyTypes": ["Ingress"]},
    });
    server.put("networkpolicies", bad.clone());
    let told = "Kubernetes API: NetworkPolicy shop/backend-from-front: spec.podSelector: ";
    followed.until("the refusal", |followed| followed.tells(told));
    assert!(followed.tells("its last good form stays in force"), "{:?}", followed.problems);
    assert_eq!(followed.tables(), good);
    // One that never was good is missed, and said to be.
    bad["metadata"]["name"] = "other".into();
    server.put("networkpolicies", bad);
    followed.until("the absence", |followed| {
        followed.tells("NetworkPolicy shop/other: ") && followed.tells("pods that only it isolates are open")
    });
    assert_eq!(followed.tables(), good);
    // The last good form outlives a list, and goes with the object.
    server.say("networkpolicies", "no JSON\n");
    followed.until("a list", |followed| followed.resource("networkpolicies").lists == 2);
    assert_eq!(followed.tables(), good);
    server.delete("networkpolicies", "shop/backend-from-front");
    server.delete("networkpolicies", "shop/other");
    followed
        .until("it is gone", |followed| followed.cluster().network_policies.is_empty() && !followed.tells(" shop/"));
}

#[test]
fn unknown_fields_are_no_reason_to_refuse_and_close_the_rule_of_a_policy() {
    let server = ApiServer::recorded();
    server.put(
        "services",
        json!({
            "apiVersion": "v1", "metadata": {"namespace": "shop", "name": "later"},
            "spec": {"clusterIP": "10.96.77.1", "ports": [{"port": 80, "protocol": "TCP"}], "quantum": true},
        }),
    );
    server.put("pods", json!({
        "apiVersion": "v1", "metadata": {"namespace": "shop", "name": "later"}, "spec": {"nodeName": "n1", "containers": [], "quantum": 1},
        "status": {"podIPs": [{"ip": "10.9.0.1", "quantum": 1}]},
    }));
    server.put(
        "networkpolicies",
        json!({
            "apiVersion": "networking.k8s.io/v1", "metadata": {"namespace": "shop", "name": "later"},
            "spec": {"podSelector": {}, "ingress": [{"quantum": true}]},
        }),
    );
    let mut followed = synced(&server);
    followed.until("all problems", |followed| followed.problems.len() == 2);
    assert!(followed.tells("Service shop/later: spec.quantum: unknown field, ignored"), "{:?}", followed.problems);
    assert!(followed.tells("spec.ingress[0] matches nothing"), "{:?}", followed.problems);
    assert!(followed.has_pod("shop", "later"), "whoever adds fields to pods does not fill logs with every pod");
}

#[test]
fn what_is_said_twice_or_of_nobody_changes_nothing() {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    followed.look();
    let before = (followed.tables(), followed.generations);
    let list: Value = serde_json::from_str(&recording("pods.list.json")).expect("a list");
    let mut pod = list["items"][0].clone();
    pod["kind"] = "Pod".into();
    pod["metadata"]["resourceVersion"] = "289".into();
    server.say("pods", format!("{}\n", json!({"type": "ADDED", "object": pod})));
    pod["metadata"]["resourceVersion"] = "290".into();
    server.say("pods", format!("{}\n", json!({"type": "ADDED", "object": pod})));
    pod["metadata"]["name"] = "nobody".into();
    pod["metadata"]["resourceVersion"] = "291".into();
    server.say("pods", format!("{}\n", json!({"type": "DELETED", "object": pod})));
    followed.until("three events", |followed| followed.resource("pods").events == 3);
    followed.look();
    assert_eq!((followed.tables(), followed.generations), before);
    let pods = followed.resource("pods");
    assert_eq!((pods.unchanged, pods.not_understood, pods.lists), (3, 0, 1));
}

#[test]
fn objects_without_a_name_or_of_another_kind_are_left_out_and_told() {
    let server = ApiServer::recorded();
    let mut list: Value = serde_json::from_str(&recording("pods.list.json")).expect("a list");
    let items = list["items"].as_array_mut().expect("items");
    items.push(json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "stranger"}}));
    items.push(json!({"spec": {}}));
    items.push(json!(7));
    server.answer("/pods?limit", 1, Answer::new(200, list.to_string()));
    let mut followed = synced(&server);
    followed.until("it is told", |followed| followed.tells("pods: an object without a name is left out"));
    assert_eq!((followed.cluster().pods.len(), followed.resource("pods").not_understood), (5, 3));
}
