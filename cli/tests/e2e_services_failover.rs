//! LoadBalancer addresses move to another node within two seconds when the node that announces them dies.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use support::services::{Talk, at, cluster, curl, load_balancer_ips, service};
use support::{Lab, has_program, labs_can_run, wait_for};

/// What the issue asks for.
const MOVED: Duration = Duration::from_secs(2);

/// Pause between two questions of the client in milliseconds: how exactly the gap is measured.
const INTERVAL_MS: u32 = 20;

/// Services in front of a pod of each node, so that some address is announced by the other node than that of its backend.
fn services() -> String {
    let near = (40..44).map(|number| service(&format!("lb{number}"), "LoadBalancer", number, "where: near", ""));
    let far = (44..48).map(|number| service(&format!("lb{number}"), "LoadBalancer", number, "where: far", ""));
    near.chain(far).collect()
}

/// The MAC address of a node on the underlay.
fn mac(lab: &Lab, node: &str) -> String {
    let link = lab.exec_ok(&format!("node:{node}"), &["ip", "-o", "link", "show", "eth0"]);
    link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("an Ethernet address").to_owned()
}

/// Who announces `address`, as `world` has learned it.
fn announcer(lab: &Lab, address: &str) -> String {
    // The neighbor entry is made by asking.
    let to = at(address, 80);
    wait_for("the address answers", Duration::from_secs(5), || curl(lab, "world", &to, &[]).ok());
    let neighbor = lab.exec_ok("world", &["ip", "neigh", "show", address]);
    let node = ["node1", "node2"].into_iter().find(|node| neighbor.contains(&mac(lab, node)));
    node.unwrap_or_else(|| panic!("nobody's MAC address: {neighbor}")).to_owned()
}

/// Process id of the node's process inside of the lab.
fn pid(lab: &Lab, node: &str) -> String {
    let status = lab.json("status", &[]);
    let file = Path::new(status["run_dir"].as_str().expect("the run directory")).join(format!("nodes/{node}.pid"));
    let process: Value = serde_json::from_slice(&fs::read(file).expect("the file")).expect("JSON");
    process["pid"].to_string()
}

/// Addresses of both families that are announced by another node than that of their backend: the node, and the addresses.
fn foreign_address(lab: &Lab, family: usize) -> (String, String, &'static str) {
    for number in 40..48 {
        let (server, other) = if number < 44 { ("e2e/near", "node2") } else { ("e2e/far", "node1") };
        let address = load_balancer_ips(lab, &format!("lb{number}"))[family].clone();
        if announcer(lab, &address) == other {
            return (address, other.to_owned(), server);
        }
    }
    panic!("every address is announced by the node of its backend");
}

fn moves_in_time(family: usize, kill: impl Fn(&Lab, &str)) {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(&services()), &[]);
    let (address, node, server) = foreign_address(&lab, family);
    let to = at(&address, 80);
    let mut talk = Talk::start(&lab, "world", "UDP", &to, None, INTERVAL_MS);
    talk.wait_answer(server);
    let start = Instant::now();
    kill(&lab, &node);
    // A new connection; then the silence of the one that was there.
    wait_for("another node serves the address", Duration::from_secs(10), || {
        curl(&lab, "world", &to, &["--connect-timeout", "0.2"]).ok()
    });
    let connected = start.elapsed();
    assert!(connected < MOVED, "a new connection only after {connected:?}");
    // Answers of before the end may still wait to be looked at; the next one comes by the other node.
    talk.rest();
    talk.wait_answer(server);
    let answers: Vec<u64> = talk
        .seen
        .iter()
        .filter(|event| event["event"] == "answer")
        .map(|event| event["at_ms"].as_u64().expect("a time"))
        .collect();
    let gap = answers.windows(2).map(|pair| pair[1] - pair[0]).max().expect("more than one answer");
    assert!(u128::from(gap) < MOVED.as_millis(), "{gap} ms of silence");
    eprintln!("{address} moved away from {node}: connected after {connected:?}, {gap} ms of silence");
}

#[test]
fn an_address_moves_when_the_process_of_its_node_is_killed() {
    moves_in_time(0, |lab, node| drop(lab.exec_ok("underlay", &["kill", "-9", &pid(lab, node)])));
}

#[test]
fn an_address_moves_when_its_node_vanishes_from_the_network() {
    moves_in_time(1, |lab, node| {
        // No goodbye: the wire first.
        lab.exec_ok(&format!("node:{node}"), &["ip", "link", "set", "eth0", "down"]);
        lab.exec_ok("underlay", &["kill", "-9", &pid(lab, node)]);
    });
}
