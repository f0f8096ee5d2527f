//! Conversations that are under way when a policy or a label changes: what it forbids ends at its next packet, within a second of the
//! change, and everything else goes on without losing an echo (N14, N15).

mod support;

use serde_json::json;
use std::time::{Duration, Instant};
use support::policies::cluster_policy;
use support::services::{Talk, at, cluster, outcome, traffic};
use support::{Lab, labs_can_run};

/// What the issue asks for.
const IN_FORCE: Duration = Duration::from_secs(1);

/// Time between two questions of a conversation.
const INTERVAL_MS: u32 = 20;

/// Longer than an answer takes on a busy machine.
const QUIET: Duration = Duration::from_millis(400);

/// `client` is a guest, `friend` a friend, on the servers' two nodes; `v/visitor` is a guest of another namespace.
const GUESTS: &str = "
---
apiVersion: v1
kind: Namespace
metadata: {name: v, labels: {team: red}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e, labels: {app: client, role: guest}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: friend, namespace: e2e, labels: {app: client, role: friend}}
spec: {nodeName: node2, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: visitor, namespace: v, labels: {role: visitor}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
";

fn start() -> Lab {
    let lab = Lab::up(&cluster(""), &[]);
    lab.apply(GUESTS);
    lab
}

/// Ingress of the servers: from pods of their namespace with one of `roles`, and from whatever `more` peers (YAML) say.
fn only(roles: &str, more: &str) -> String {
    format!(
        "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: only, namespace: e2e}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress: [{{from: [{{podSelector: {{matchExpressions: [{{key: role, operator: In, values: [{roles}]}}]}}}}{more}]}}]
"
    )
}

/// Conversations of `place` with both servers: over TCP and UDP, IPv4 and IPv6. They are answered already.
fn talks(lab: &Lab, place: &str) -> Vec<Talk> {
    let mut talks = Vec::new();
    for server in ["e2e/near", "e2e/far"] {
        for (protocol, ipv6) in [("TCP", false), ("TCP", true), ("UDP", false), ("UDP", true)] {
            let target = at(&lab.address(server, ipv6), 8080);
            let mut talk = Talk::start(lab, place, protocol, &target, None, INTERVAL_MS);
            talk.wait_answer(server);
            talks.push(talk);
        }
    }
    talks
}

/// Makes a change and waits until none of `talks` is answered any more. The last answer came within a second of the beginning of the
/// change, and none after it was in force.
fn cut(what: &str, talks: &mut [Talk], change: impl FnOnce()) {
    let before = Instant::now();
    change();
    let last = talks.iter_mut().map(|talk| talk.wait_silence(QUIET)).max().expect("somebody talks");
    let took = last.saturating_duration_since(before);
    eprintln!("{what}: the last answer {took:?} after the change was begun");
    assert!(took < IN_FORCE, "{what}: the last answer {took:?} after the change was begun");
}

/// What was cut is still silent.
fn still_silent(what: &str, talks: &mut [Talk]) {
    for event in talks.iter_mut().flat_map(Talk::rest) {
        assert_ne!(event["event"], "answer", "{what}: {event}");
    }
}

/// Every conversation goes on, and nothing but answers has ever come of it.
fn goes_on(what: &str, talks: &mut [Talk]) {
    for talk in talks {
        talk.rest();
        talk.wait(what, |event| event["event"] == "answer");
        let strange = talk.seen.iter().find(|event| event["event"] != "open" && event["event"] != "answer");
        assert_eq!(strange, None, "{what}");
    }
}

/// Datagrams of `place` to both servers, each of which must be answered; until the changes are over.
struct Echoes<'a> {
    lab: &'a Lab,
    place: &'static str,
}

impl Echoes<'_> {
    /// Runs `changes` while echoes go to and fro; none may be lost.
    fn during(&self, changes: impl FnOnce()) {
        let Echoes { lab, place } = self;
        let targets = [("e2e/near", true), ("e2e/far", false)];
        let targets = targets.map(|(server, ipv6)| at(&lab.address(server, ipv6), 8080));
        std::thread::scope(|scope| {
            let threads = targets.map(|target| {
                let pairs =
                    json!({"kind": "pairs", "target": target, "count": u64::MAX, "limit_ms": 5000, "window": 1});
                scope.spawn(move || traffic(lab, place, &pairs))
            });
            changes();
            for report in threads.map(|thread| thread.join().expect("a thread that panics has said why")) {
                eprintln!("echoes of a bystander: {report}");
                assert_eq!([&report["lost"], &report["strange"]], [&json!(0), &json!(0)], "{report}");
                assert!(report["answered"].as_u64() > Some(100), "{report}");
            }
        });
    }
}

#[test]
fn a_change_cuts_what_it_forbids_within_a_second_and_nothing_else() {
    if !labs_can_run() {
        return;
    }
    let lab = start();
    let mut friends = talks(&lab, "e2e/friend");
    let (mut guests, mut visitors) = (talks(&lab, "e2e/client"), talks(&lab, "v/visitor"));
    let visitors_too = ", {namespaceSelector: {matchLabels: {team: red}}}";
    Echoes { lab: &lab, place: "e2e/friend" }.during(|| {
        cut("a policy that forbids guests", &mut guests, || lab.apply(&only("friend", visitors_too)));
        goes_on("visitors are allowed", &mut visitors);
        cut("a namespace's label", &mut visitors, || lab.apply(&GUESTS.replace("team: red", "team: blue")));
        goes_on("friends are allowed", &mut friends);
        still_silent("guests and visitors", &mut guests);
        still_silent("guests and visitors", &mut visitors);
        // They come again; what was cut over UDP goes on by itself.
        lab.apply(&(GUESTS.to_owned() + &only("friend, guest", visitors_too)));
        for talk in guests.iter_mut().chain(&mut visitors) {
            talk.rest();
        }
        (guests, visitors) = (talks(&lab, "e2e/client"), talks(&lab, "v/visitor"));
        cut("a pod's label", &mut guests, || lab.apply(&GUESTS.replace("role: guest", "role: nobody")));
        goes_on("visitors have nothing to do with it", &mut visitors);
        goes_on("nor have friends", &mut friends);
    });
    goes_on("friends talk to the end", &mut friends);
}

#[test]
fn egress_and_the_other_tiers_cut_too() {
    if !labs_can_run() {
        return;
    }
    let lab = start();
    let mut friends = talks(&lab, "e2e/friend");
    let mut guests = talks(&lab, "e2e/client");
    let subject = "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {role: guest}}}}";
    for (what, manifests) in [
        (
            "egress of guests",
            support::policies::policy("e2e/mute", "{podSelector: {matchLabels: {role: guest}}, policyTypes: [Egress]}"),
        ),
        (
            "the Admin tier",
            cluster_policy(
                "admin",
                &format!(
                    "{{tier: Admin, priority: 1, subject: {subject}, egress: [{{action: Deny, to: [{{namespaces: {{}}}}]}}]}}"
                ),
            ),
        ),
        (
            "the Baseline tier",
            cluster_policy(
                "baseline",
                "{tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{pods: \
                  {namespaceSelector: {}, podSelector: {matchLabels: {role: guest}}}}]}]}",
            ),
        ),
    ] {
        cut(what, &mut guests, || lab.apply(&manifests));
        goes_on("friends", &mut friends);
        still_silent(what, &mut guests);
        lab.delete(&manifests);
        guests = talks(&lab, "e2e/client");
    }
}

#[test]
fn established_keep_spares_what_talks_already() {
    if !labs_can_run() {
        return;
    }
    let lab = start();
    let (mut guests, mut friends) = (talks(&lab, "e2e/client"), talks(&lab, "e2e/friend"));
    let to_near = at(&lab.address("e2e/near", false), 8080);
    let keeps = only("friend", "").replace("name: only,", "name: only, annotations: {podplane.io/established: keep},");
    lab.apply(&keeps);
    assert_eq!(outcome(&lab, "e2e/client", &to_near, "tcp", 300), "timeout", "nothing new");
    assert_eq!(outcome(&lab, "e2e/client", &to_near, "udp", 300), "timeout", "nothing new");
    assert_eq!(outcome(&lab, "e2e/friend", &to_near, "tcp", 3000), "connected");
    goes_on("what talked before", &mut guests);
    // Another change, and they are still spared.
    lab.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: v, labels: {team: green}}\n");
    goes_on("what talked before, judged once more", &mut guests);
    cut("the annotation is gone", &mut guests, || lab.apply(&only("friend", "")));
    goes_on("friends", &mut friends);
}
