//! Connections that break, histories that are forgotten, servers that are busy or away.

use crate::followed::{Followed, Wishes, timing};
use crate::server::{Answer, ApiServer, recording};
use control::api::KubernetesResource;
use control::kubernetes::Timing;
use serde_json::json;
use std::time::Duration;

fn pod(name: &str, ip: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    })
}

fn synced(server: &ApiServer) -> Followed {
    let mut followed = Followed::new(server);
    followed.until_synced();
    followed
}

#[test]
fn a_connection_that_breaks_within_a_line_costs_no_list() {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    let line = recording("pods.watch.jsonl");
    server.say("pods", &line.as_bytes()[..700]);
    server.end_watches("pods", false);
    // What is said before would be the rest of the line.
    followed.until("another watch", |followed| followed.resource("pods").watches >= 2);
    server.play_lines("pods", 2);
    followed.until("the pod", |followed| followed.has_pod("shop", "backend-1"));
    assert_eq!(followed.resource("pods").lists, 1);
    assert!(server.count(&["pods", "watch=1", "resourceVersion=288"]) >= 2, "{:?}", server.requests());
}

#[test]
fn a_history_that_is_forgotten_is_made_up_for_by_a_list_that_takes_away_what_is_gone() {
    let server = ApiServer::recorded();
    server.put("pods", pod("stays", "10.9.0.1"));
    server.put("pods", pod("goes", "10.9.0.2"));
    let mut followed = synced(&server);
    // As an event in the watch.
    server.go_away();
    server.delete_silently("pods", "shop/goes");
    server.put("pods", pod("comes", "10.9.0.3"));
    server.compact("pods");
    server.come_back();
    followed.until("the list", |followed| followed.has_pod("shop", "comes") && !followed.has_pod("shop", "goes"));
    assert!(followed.has_pod("shop", "stays"));
    assert_eq!(followed.resource("pods").lists, 2);
    // As the status of the answer.
    server.answer("pods?watch=1", 1, Answer::new(410, r#"{"kind":"Status","code":410,"message":"too old"}"#));
    server.delete_silently("pods", "shop/stays");
    server.end_watches("pods", true);
    followed.until("another list", |followed| !followed.has_pod("shop", "stays"));
    assert_eq!((followed.resource("pods").lists, followed.problems.len()), (3, 0));
    followed.until_synced();
    followed.until_as_the_server(&server);
}

#[test]
fn a_server_that_was_restored_from_a_backup_is_listed_again() {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    server.answer("pods?watch=1", 3, Answer::new(504, recording("future.json")));
    server.delete_silently("pods", "base/p1");
    server.end_watches("pods", true);
    followed.until("another list", |followed| !followed.has_pod("base", "p1"));
    assert_eq!(followed.resource("pods").failures, 3);
}

#[test]
fn a_server_that_goes_away_leaves_all_in_force_and_is_followed_again_when_it_comes_back() {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    let before = followed.tables();
    server.go_away();
    followed.until("everything is lost", |followed| followed.status().lost_ms.is_some());
    let status = followed.status();
    let is_told = |resource: &KubernetesResource| resource.state == "failing" && resource.error.is_some();
    // What is not installed is only looked for now and then.
    let mut followed_ones = status.resources.iter().filter(|resource| resource.resource != "clusternetworkpolicies");
    assert!(followed_ones.all(is_told), "{status:#?}");
    assert_eq!((followed.look(), followed.tables()), (false, before));
    server.put("pods", pod("meanwhile", "10.9.0.1"));
    server.come_back();
    followed.until("the pod", |followed| followed.has_pod("shop", "meanwhile"));
    followed.until("all is followed", |followed| {
        let status = followed.status();
        status.lost_ms.is_none() && status.resources.iter().all(|resource| resource.error.is_none())
    });
    assert_eq!(followed.resource("pods").lists, 1, "the watch goes on where it was");
}

#[test]
fn a_busy_server_is_given_the_time_that_it_names() {
    let server = ApiServer::recorded();
    server.answer("/pods?limit", 1, Answer::new(429, "slow down").header("Retry-After: 1"));
    let began = std::time::Instant::now();
    let mut followed = synced(&server);
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!((followed.resource("pods").failures, server.count(&["/pods?limit"])), (1, 2));
    assert!(!followed.look());
}

#[test]
fn credentials_that_are_refused_are_told_and_tried_again() {
    let server = ApiServer::recorded();
    server.answer("/pods?limit", usize::MAX, Answer::new(401, recording("unauthorized.json")));
    let mut followed = Followed::new(&server);
    followed.until("the refusal", |followed| {
        followed.monitor().waiting_for().is_some_and(|why| why.contains("401: Unauthorized"))
    });
    server.answer_rightly();
    followed.until_synced();
}

#[test]
fn a_list_that_is_cut_is_asked_for_again() {
    let server = ApiServer::recorded();
    server.answer("/pods?limit", 2, Answer::new(200, recording("pods.list.json")).cut_after(9000));
    let mut followed = synced(&server);
    assert_eq!(followed.resource("pods").failures, 2);
    followed.look();
    followed.until_as_the_server(&server);
}

#[test]
fn a_connection_on_which_nothing_is_heard_is_given_up() {
    let server = ApiServer::recorded();
    let timing = Timing { silence: Duration::from_millis(200), ..timing() };
    let mut followed = Followed::with(&server, Wishes { timing, ..Wishes::default() });
    followed.until_synced();
    followed.until("another watch", |followed| followed.resource("pods").watches >= 3);
    let pods = followed.resource("pods");
    assert_eq!((pods.lists, pods.failures), (1, 0), "silence is no failure: quiet clusters are silent");
}

#[test]
fn a_change_is_told_within_a_moment_and_a_burst_is_told_at_once() {
    let server = ApiServer::recorded();
    let mut followed = synced(&server);
    let before = followed.generations;
    let names: Vec<String> = (0..20).map(|number| format!("burst-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        server.put("pods", pod(name, &format!("10.9.1.{number}")));
    }
    while !names.iter().all(|name| followed.has_pod("shop", name)) {
        followed.wait();
        followed.look();
    }
    let generations = followed.generations - before;
    assert!(generations < 20, "twenty changes made {generations} generations");
}
