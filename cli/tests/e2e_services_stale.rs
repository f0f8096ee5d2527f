//! Endpoints, Services and pods that go away while clients talk: nothing of what was reaches anybody who is not a backend any
//! more (S13, S14, B01, B02).

mod support;

use serde_json::Value;
use std::time::Duration;
use support::services::{Talk, at, cluster, datagrams_in, server, service};
use support::{Lab, labs_can_run, wait_for};

/// Source ports that the clients keep.
const PORT: &str = "4321";

fn cluster_ip(family: usize) -> String {
    at(["10.96.0.70", "fd00:10:96::70"][family], 80)
}

fn source(family: usize) -> String {
    at(["0.0.0.0", "::"][family], PORT.parse().expect("a port"))
}

/// The Service that all of them talk to, for the pods of a selector.
fn web(selector: &str) -> String {
    service("web", "NodePort", 70, selector, "")
}

fn pod(name: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: e2e}}\nspec: {{containers: []}}\n")
}

/// Talks that begin now: UDP and TCP of both families by the ClusterIP, and from outside by a nodePort.
fn talks(lab: &Lab, protocol: &str) -> Vec<Talk> {
    let mut talks: Vec<Talk> = [0, 1]
        .into_iter()
        .map(|family| Talk::start(lab, "e2e/client", protocol, &cluster_ip(family), Some(&source(family)), 20))
        .collect();
    talks.push(Talk::start(lab, "world", protocol, "172.30.0.11:30070", Some(&source(0)), 20));
    talks
}

fn is_refused(event: &Value) -> bool {
    event["event"] == "refused"
}

#[test]
fn udp_follows_the_endpoints_down_to_none_and_up_again() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&web("where: far")), &[]);
    let mut talks = talks(&lab, "UDP");
    talks.iter_mut().for_each(|talk| drop(talk.wait_answer("e2e/far")));
    // 1 -> 0: refused at its next packet, and nothing reaches the old backend.
    lab.apply(&web("app: none"));
    talks.iter_mut().for_each(|talk| drop(talk.wait("a refusal", is_refused)));
    let before = datagrams_in(&lab, "e2e/far");
    for talk in &mut talks {
        for _ in 0..10 {
            talk.wait("a refusal", |event| {
                assert_ne!(event["event"], "answer", "{event}");
                is_refused(event)
            });
        }
    }
    assert_eq!(datagrams_in(&lab, "e2e/far"), before, "datagrams after the scale to zero");
    // 0 -> 1, on another node.
    lab.apply(&web("where: near"));
    talks.iter_mut().for_each(|talk| drop(talk.wait_answer("e2e/near")));
    assert_eq!(datagrams_in(&lab, "e2e/far"), before, "datagrams after another backend came");
    // The first one again: the sockets are the same all along.
    lab.apply(&web("where: far"));
    talks.iter_mut().for_each(|talk| drop(talk.wait_answer("e2e/far")));
}

#[test]
fn tcp_to_an_endpoint_that_goes_away_is_reset_and_a_new_connection_of_the_same_ports_goes_elsewhere() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&web("where: far")), &[]);
    let mut talks = talks(&lab, "TCP");
    talks.iter_mut().for_each(|talk| drop(talk.wait_answer("e2e/far")));
    lab.apply(&web("where: near"));
    for talk in &mut talks {
        talk.wait("a reset", |event| event["event"] == "reset");
    }
    drop(talks);
    // The 5-tuple of a connection that has just ended, used again.
    for family in [0, 1] {
        let mut again = Talk::start(&lab, "e2e/client", "TCP", &cluster_ip(family), Some(&source(family)), 20);
        again.wait_answer("e2e/near");
    }
    let mut again = Talk::start(&lab, "world", "TCP", "172.30.0.11:30070", Some(&source(0)), 20);
    again.wait_answer("e2e/near");
}

#[test]
fn a_connection_keeps_its_backend_through_changes_that_do_not_concern_it() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&web("app: web")), &[]);
    let mut talks = talks(&lab, "TCP");
    let servers: Vec<String> = talks
        .iter_mut()
        .map(|talk| {
            talk.wait("an answer", |event| event["event"] == "answer")["server"].as_str().expect("a name").to_owned()
        })
        .collect();
    for number in 1..=3 {
        lab.apply(&server(&format!("more{number}"), "node2", "app: web"));
        lab.apply(&service(
            "other",
            "NodePort",
            71,
            "app: web",
            &format!("sessionAffinity: {}", ["None", "ClientIP"][number % 2]),
        ));
        lab.delete(&pod(&format!("more{number}")));
    }
    for (talk, server) in talks.iter_mut().zip(&servers) {
        talk.rest();
        for _ in 0..3 {
            talk.wait_answer(server);
        }
        let strangers: Vec<&Value> =
            talk.seen.iter().filter(|event| event["event"] != "open" && event["server"] != server.as_str()).collect();
        assert!(strangers.is_empty(), "{strangers:#?}");
    }
}

#[test]
fn a_deleted_service_leaks_nothing_to_whoever_gets_its_backend_s_address() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&web("where: far")), &[]);
    let far = [lab.address("e2e/far", false), lab.address("e2e/far", true)];
    let mut talks = talks(&lab, "UDP");
    talks.iter_mut().for_each(|talk| drop(talk.wait_answer("e2e/far")));
    lab.delete(&(web("where: far") + &pod("far")));
    // Somebody else, who listens on the same port, has the address.
    let heir = server("heir", "node2", "app: heir").trim_end_matches("---\n").to_owned()
        + &format!("status: {{podIPs: [{{ip: '{}'}}, {{ip: '{}'}}]}}\n", far[0], far[1]);
    lab.apply(&heir);
    assert_eq!(lab.address("e2e/heir", false), far[0]);
    // The clients go on, for as long as they would have needed to reach it twenty times over.
    for talk in &mut talks {
        talk.rest();
        std::thread::sleep(Duration::from_millis(150));
        for event in talk.rest() {
            assert_ne!(event["event"], "answer", "{event}");
        }
    }
    assert_eq!(datagrams_in(&lab, "e2e/heir"), 0, "datagrams that were meant for somebody else");
}

#[test]
fn an_address_that_another_pod_gets_while_the_service_stays_is_not_served_by_it() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&web("app: web")), &[]);
    let mut talks: Vec<Talk> = ["e2e/client", "world"]
        .into_iter()
        .flat_map(|place| {
            let to = if place == "world" { "172.30.0.11:30070".to_owned() } else { cluster_ip(0) };
            // Enough of them that some have each backend.
            (0..6).map(move |_| (place, to.clone()))
        })
        .map(|(place, to)| Talk::start(&lab, place, "UDP", &to, None, 20))
        .collect();
    let mut served = Vec::new();
    for talk in &mut talks {
        let answer = talk.wait("an answer", |event| event["event"] == "answer");
        served.push(answer["server"].as_str().expect("a name").to_owned());
    }
    let far = lab.address("e2e/far", false);
    lab.delete(&pod("far"));
    lab.apply(
        &(server("heir", "node2", "app: heir").trim_end_matches("---\n").to_owned()
            + &format!("status: {{podIPs: [{{ip: '{far}'}}]}}\n")),
    );
    for talk in &mut talks {
        talk.rest();
        talk.wait_answer("e2e/near");
        assert!(talk.seen.iter().all(|event| event["server"] != "e2e/heir"), "{:#?}", talk.seen);
    }
    wait_for("every conversation goes on with the one backend that is left", Duration::from_secs(5), || {
        talks.iter_mut().all(|talk| talk.rest().iter().all(|event| event["server"] == "e2e/near")).then_some(())
    });
    assert_eq!(
        datagrams_in(&lab, "e2e/heir"),
        0,
        "datagrams that were meant for somebody else; served before: {served:?}"
    );
}
