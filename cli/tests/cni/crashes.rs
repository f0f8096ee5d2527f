//! Addresses over crashes: none is lost, none has two holders (B11), and sandboxes end while nobody is there (B12).

use crate::plugin::{add, address, ask, configuration, del};
use crate::{Node, SMALL, namespace, sandboxes, wait_for};
use std::collections::BTreeSet;
use std::fs;

/// Files of records, by sandbox.
fn records() -> BTreeSet<String> {
    let names = fs::read_dir("/run/state/sandboxes").unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn b11_a_killed_node_process_loses_and_doubles_no_address() {
    namespace::run(|| {
        let node = Node::start(SMALL);
        let names: Vec<String> = (0..26).map(|number| format!("c{number}")).collect();
        sandboxes(&names);
        let first: BTreeSet<String> = names[..13].iter().map(|name| address(&add(name).ok())).collect();
        assert_eq!(first.len(), 13);
        node.kill();
        let node = Node::again();
        let (code, details) = add("c13").error();
        assert_eq!(code, 11, "the sandboxes are still there: {details}");
        node.kill();
        // Their sandboxes end while no node process is there, and no runtime says so.
        namespace::sh("for n in $(seq 0 12); do ip netns del c$n; done");
        let _node = Node::again();
        let again: BTreeSet<String> = names[13..].iter().map(|name| address(&add(name).ok())).collect();
        assert_eq!(again, first, "the range can be filled again");
        assert_eq!(ask("STATUS", &configuration()).error().0, 50);
    });
}

#[test]
fn b12_what_is_deleted_without_a_node_process_is_free_when_one_is_there() {
    namespace::run(|| {
        let node = Node::start(SMALL);
        sandboxes(&["a", "b", "c"]);
        let a = address(&add("a").ok());
        add("b").ok();
        node.kill();
        del("a").ok();
        namespace::sh("! ip -n a link show eth0 2>/dev/null");
        assert_eq!(records().len(), 2, "the plugin does not know where records are");
        let _node = Node::again();
        wait_for("the record to be gone", || records() == BTreeSet::from(["b@eth0.json".to_owned()]));
        assert!(fs::exists(format!("/run/state/resting/{a}")).unwrap());
        wait_for("the note to be gone", || !fs::exists("/run/node.sock.deleted/a@eth0").unwrap());
        // The same sandbox comes again.
        add("a").ok();
        del("a").ok();
        del("b").ok();
        assert!(records().is_empty());
    });
}

#[test]
fn a_record_that_is_broken_is_set_aside_and_the_node_starts() {
    namespace::run(|| {
        let node = Node::start(SMALL);
        sandboxes(&["a", "b"]);
        add("a").ok();
        node.kill();
        fs::write("/run/state/sandboxes/a@eth0.json", "{").unwrap();
        let _node = Node::again();
        assert_eq!(records(), BTreeSet::from(["a@eth0.json.broken".to_owned()]));
        add("b").ok();
        del("a").ok();
    });
}

#[test]
fn sandboxes_that_vanish_without_a_del_make_room_when_there_is_none() {
    namespace::run(|| {
        let _node = Node::start(SMALL);
        let names: Vec<String> = (0..15).map(|number| format!("c{number}")).collect();
        sandboxes(&names);
        names[..13].iter().for_each(|name| drop(add(name).ok()));
        namespace::sh("ip netns del c4 && ip netns del c7");
        ask("STATUS", &configuration()).ok();
        names[13..].iter().for_each(|name| drop(add(name).ok()));
        assert_eq!(ask("STATUS", &configuration()).error().0, 50);
    });
}
