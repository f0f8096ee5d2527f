//! A node's process ends, in order or by force, and starts again: what goes on between pods, from outside and to the outside does
//! not notice (R01, R02, W08), and what policies deny stays denied from the first packet.

mod support;

use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use support::services::{NODES, Talk, WORLD, at, cluster, service};
use support::{Background, Folder, Lab, has_program, labs_can_run, podplane, stdout, wait_for};

/// Addresses of the Service `web`, which leads to the pod `far`, and its nodePort.
const WEB: [&str; 2] = ["10.96.0.40", "fd00:10:96::40"];
const NODE_PORT: u16 = 30_040;

/// Address of the Service `move`, whose port 81 has a sender behind it and port 82 a receiver.
const MOVE: &str = "10.96.0.41";

/// `far` takes connections of `client` and of the outside and opens none; `client` opens them to `far` and to the outside and
/// takes none. So nothing goes on by chance: whoever speaks first after a restart is allowed to by what was before. `stranger` may
/// do nothing.
const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: move, namespace: e2e}
spec:
  clusterIP: 10.96.0.41
  clusterIPs: [10.96.0.41]
  selector: {where: far}
  ports: [{name: down, port: 81, targetPort: 8081}, {name: up, port: 82, targetPort: 8082}]
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: e2e, labels: {app: stranger}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: far, namespace: e2e}
spec:
  podSelector: {matchLabels: {where: far}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: client}}
    - ipBlock: {cidr: 172.30.0.0/24}
    - ipBlock: {cidr: 'fd00:172:30::/64'}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client, namespace: e2e}
spec:
  podSelector: {matchLabels: {app: client}}
  policyTypes: [Ingress, Egress]
  egress:
  - to:
    - podSelector: {matchLabels: {where: far}}
    - ipBlock: {cidr: 172.30.0.0/24}
    - ipBlock: {cidr: 'fd00:172:30::/64'}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: stranger, namespace: e2e}
spec: {podSelector: {matchLabels: {app: stranger}}, policyTypes: [Egress]}
";

/// A transfer is of so many blocks of a MiB, one every 50 ms, so that it goes on while both nodes restart.
const BLOCKS: u32 = 80;

/// Pause between two questions whose answers tell how long nothing was forwarded.
const INTERVAL_MS: u32 = 2;

/// How long nothing may be forwarded; far above what a restart takes where nothing else runs.
const SILENCE_MAX_MS: u64 = 10_000;

fn lab() -> Lab {
    Lab::up(&cluster(&format!("{}{OBJECTS}", service("web", "NodePort", 40, "where: far", ""))), &[])
}

/// Ends the process of a node and starts it again.
fn restart(lab: &Lab, node: &str, how: &[&str]) {
    stdout(lab.run("restart", &[&[node], how].concat()));
}

/// TCP resets that the kernel of `place` has sent, and connections that were reset there.
fn resets(lab: &Lab, place: &str) -> [u64; 2] {
    let text = lab.exec_ok(place, &["cat", "/proc/net/snmp"]);
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split_whitespace().collect()).collect();
    ["OutRsts", "EstabResets"].map(|wanted| {
        let position = lines[0].iter().position(|name| *name == wanted).expect("a counter");
        lines[1][position].parse().expect("a number")
    })
}

/// What a pod has of its interface, addresses and routes; whether there is a carrier does not count.
fn network(lab: &Lab, place: &str) -> String {
    lab.sh(
        place,
        "ip -o link show eth0 | grep -o 'link/.*'; ip -o address show dev eth0 scope global; ip route; ip -6 route",
    )
}

/// A file of random bytes, and the SHA-256 of all that is sent of it.
fn block(folder: &Folder) -> (String, String) {
    let path = folder.path().join("block").to_str().expect("a UTF-8 path").to_owned();
    let script =
        format!("head -c 1048576 /dev/urandom > {path}; for i in $(seq {BLOCKS}); do cat {path}; done | sha256sum");
    let output = Command::new("sh").args(["-ec", &script]).output().expect("sh runs");
    (path, stdout(output))
}

/// A transfer through the Service that runs beside the test; the receiver tells the sum of what came.
struct Transfer {
    sender: Background,
    receiver: Background,
}

impl Transfer {
    fn start(lab: &Lab, block: &str, to_client: bool) -> Transfer {
        let port = if to_client { 81 } else { 82 };
        let (listen, connect) = (format!("TCP4-LISTEN:80{port},reuseaddr"), format!("TCP4:{MOVE}:{port}"));
        let send =
            |to: &str| format!("for i in $(seq {BLOCKS}); do cat {block}; sleep 0.05; done | socat -u STDIN {to}");
        let receive = |from: &str| format!("socat -u {from} STDOUT | sha256sum");
        let at = |place: &str, script: String| lab.spawn(place, &["sh", "-ec", &script]);
        let server = at("e2e/far", if to_client { send(&listen) } else { receive(&listen) });
        wait_for("the server listens", Duration::from_secs(20), || {
            lab.exec_ok("e2e/far", &["ss", "-Htln", &format!("sport = :80{port}")]).contains(':').then_some(())
        });
        let client = at("e2e/client", if to_client { receive(&connect) } else { send(&connect) });
        let (sender, receiver) = if to_client { (server, client) } else { (client, server) };
        Transfer { sender, receiver }
    }

    fn finish(self, sum: &str) {
        assert_eq!(stdout(self.receiver.finish()), sum, "what arrived is not what was sent");
        stdout(self.sender.finish());
    }
}

/// The longest time between two answers.
fn silence_ms(talk: &Talk) -> u64 {
    let answers: Vec<u64> = talk
        .seen
        .iter()
        .filter(|event| event["event"] == "answer")
        .map(|event| event["at_ms"].as_u64().expect("a time"))
        .collect();
    answers.windows(2).map(|pair| pair[1] - pair[0]).max().expect("more than one answer")
}

/// Nothing happened but answers, all of one server that always saw the same client.
fn check_undisturbed(what: &str, talk: &Talk) {
    let events: Vec<&Value> = talk.seen.iter().filter(|event| event["event"] != "open").collect();
    let first = events[0];
    for event in &events {
        assert_eq!(event["event"], "answer", "{what}: {event}");
        assert_eq!((&event["server"], &event["client"]), (&first["server"], &first["client"]), "{what}");
    }
}

fn conversations_go_on(how: &[&str]) {
    if !labs_can_run() || !has_program("socat") {
        return;
    }
    let lab = lab();
    let folder = Folder::new();
    let (block, sum) = block(&folder);
    let places = ["e2e/client", "e2e/far", "e2e/stranger"];
    let before = places.map(|place| network(&lab, place));
    let mut transfers: Vec<Transfer> = [true, false].map(|to_client| Transfer::start(&lab, &block, to_client)).into();
    let talk =
        |from: &str, protocol: &str, to: &str, interval_ms| Talk::start(&lab, from, protocol, to, None, interval_ms);
    let (far, stranger_asks) = (lab.address("e2e/far", false), at(WEB[0], 80));
    let mut talks = vec![
        ("a client of the Service", talk("e2e/client", "TCP", &at(WEB[0], 80), 20)),
        ("one over IPv6", talk("e2e/client", "TCP", &at(WEB[1], 80), 20)),
        // Idle whenever something happens, like a WebSocket.
        ("one that is mostly idle", talk("e2e/client", "TCP", &at(WEB[0], 80), 1_500)),
        ("a client of the pod", talk("e2e/client", "TCP", &at(&far, 8080), 20)),
        ("a client of the node", talk("node:node1", "TCP", &at(WEB[0], 80), 20)),
        ("a client outside", talk("world", "TCP", &at(NODES[0][0], NODE_PORT), 20)),
        ("one outside over IPv6", talk("world", "TCP", &at(NODES[1][1], NODE_PORT), 20)),
        ("a client of the outside", talk("e2e/client", "TCP", &at(WORLD[0], 80), 20)),
    ];
    let mut pace = talk("e2e/client", "UDP", &at(WEB[0], 80), INTERVAL_MS);
    let mut denied = talk("e2e/stranger", "UDP", &stranger_asks, INTERVAL_MS);
    talks.iter_mut().for_each(|(_, talk)| drop(talk.wait("an answer", |event| event["event"] == "answer")));
    pace.wait_answer("e2e/far");

    for node in ["node1", "node2"] {
        restart(&lab, node, how);
        assert_eq!(places.map(|place| network(&lab, place)), before, "after {node}");
        // Whatever was said before the restart has been looked at: what comes now has come after it.
        pace.rest();
        pace.wait_answer("e2e/far");
        for (_, talk) in &mut talks {
            talk.rest();
            talk.wait("an answer after the restart", |event| event["event"] == "answer");
        }
    }
    for (what, talk) in &mut talks {
        talk.rest();
        check_undisturbed(what, talk);
    }
    transfers.drain(..).for_each(|transfer| transfer.finish(&sum));
    // The nodes' own kernels count what they would have sent.
    for place in ["e2e/client", "e2e/far", "world"] {
        assert_eq!(resets(&lab, place), [0, 0], "{place}");
    }
    denied.rest();
    assert!(denied.seen.iter().all(|event| event["event"] == "open"), "{:?}", denied.seen.last());
    let silence = silence_ms(&pace);
    assert!(silence < SILENCE_MAX_MS, "{silence} ms of silence");
    eprintln!("restarted {}: {silence} ms of silence at most", if how.is_empty() { "in order" } else { "by force" });
    let ports = stdout(podplane(&["ports", "--lab", &lab.name, "--node", "node1", "-o", "json"]));
    assert!(["client", "near", "stranger"].iter().all(|pod| ports.contains(&format!("\"{pod}\""))), "{ports}");
    // Somebody who comes after it finds everything as it was.
    for from in ["e2e/client", "node:node1"] {
        assert_eq!(lab.outcome(from, &at(WEB[0], 80)), "connected", "{from}");
    }
    assert_eq!(lab.outcome("e2e/stranger", &stranger_asks), "timeout");
}

#[test]
fn w08_conversations_go_on_when_nodes_are_restarted_in_order() {
    conversations_go_on(&[]);
}

#[test]
fn w08_conversations_go_on_when_nodes_are_killed_and_started_again() {
    conversations_go_on(&["--kill"]);
}
