//! Many sandboxes at once (P14).

use crate::plugin::{address, begin_for, configuration};
use crate::{LARGE, Node, namespace, node_process, sandboxes};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Instant;

/// What a kubelet starts at once on a node.
const CROWD: usize = 100;

#[test]
fn p14_a_hundred_adds_at_once_get_a_hundred_addresses_and_all_are_ready() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        let names: Vec<String> = (0..CROWD).map(|number| format!("c{number}")).collect();
        sandboxes(&names);
        let configuration = configuration();
        let began = Instant::now();
        let adds: Vec<_> = names
            .iter()
            .map(|name| {
                let (name, configuration) = (name.clone(), configuration.clone());
                std::thread::spawn(move || {
                    let began = Instant::now();
                    let result = begin_for("ADD", &name, "", &configuration).finish().ok();
                    (address(&result), began.elapsed())
                })
            })
            .collect();
        let done: Vec<_> = adds.into_iter().map(|add| add.join().unwrap()).collect();
        let all = began.elapsed();
        let addresses: BTreeSet<&String> = done.iter().map(|(address, _)| address).collect();
        assert_eq!(addresses.len(), CROWD);
        let mut times: Vec<_> = done.iter().map(|(_, time)| *time).collect();
        times.sort();
        // A figure of a test build on a busy machine: told, not judged.
        eprintln!("{CROWD} adds in {all:?}: p50 {:?}, p99 {:?}", times[CROWD / 2], times[CROWD * 99 / 100]);
        let ports = node_process::podplane(&["ports", "-o", "json", "--socket", "/run/node.sock"]);
        let ports: Value = serde_json::from_slice(&ports.stdout).unwrap();
        let pods = ports.as_array().unwrap().iter().filter(|port| port["kind"] == "pod").count();
        assert_eq!(pods, CROWD);
        let status = node_process::podplane(&["status", "-o", "json", "--socket", "/run/node.sock"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(status["config"]["pods"], CROWD, "policies know all of them");
        let dels: Vec<_> = names.iter().map(|name| begin_for("DEL", name, "", &configuration)).collect();
        dels.into_iter().for_each(|del| drop(del.finish().ok()));
    });
}
