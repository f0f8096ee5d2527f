//! Bad input: every command's answer has the specification's code, and says what is wrong and what to do.

use crate::plugin::{add, ask, begin, begin_for, call, configuration, del, with};
use crate::{LARGE, Node, SMALL, namespace, node_process, sandboxes};
use serde_json::json;
use std::fs;

/// Variables of an ADD, one of them otherwise.
fn variables<'a>(name: &str, value: &'a str) -> Vec<(&'static str, &'a str)> {
    let all = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", ""),
    ];
    all.map(|(key, plain)| (key, if key == name { value } else { plain })).to_vec()
}

#[test]
fn p13_version_is_answered_without_anything_else() {
    let said = begin(&[("CNI_COMMAND", "VERSION")], r#"{"cniVersion": "1.0.0"}"#).finish().ok();
    assert_eq!(said, json!({"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"]}));
    assert_eq!(begin(&[("CNI_COMMAND", "VERSION")], "").finish().ok()["supportedVersions"], said["supportedVersions"]);
    assert_eq!(begin(&[("CNI_COMMAND", "VERSION")], "{").finish().error().0, 6);
}

#[test]
fn variables_that_are_missing_or_wrong_are_code_4_and_named() {
    let configuration = configuration().to_string();
    for (name, value, part) in [
        ("CNI_COMMAND", "", "CNI_COMMAND is not set"),
        ("CNI_COMMAND", "RUN", "CNI_COMMAND is \"RUN\""),
        ("CNI_CONTAINERID", "", "CNI_CONTAINERID must be set"),
        ("CNI_CONTAINERID", "../../../tmp/x", "CNI_CONTAINERID \"../../../tmp/x\""),
        ("CNI_NETNS", "", "CNI_NETNS must be set"),
        ("CNI_NETNS", "relative", "CNI_NETNS \"relative\" is not an absolute path"),
        ("CNI_NETNS", "/proc/self/ns/net", "is the network namespace that the plugin runs in"),
        ("CNI_IFNAME", "", "CNI_IFNAME must be set"),
        ("CNI_IFNAME", "a/b", "CNI_IFNAME \"a/b\""),
        ("CNI_IFNAME", "sixteen-bytes-xx", "CNI_IFNAME \"sixteen-bytes-xx\""),
        ("CNI_ARGS", "IP", "CNI_ARGS: \"IP\" is not KEY=VALUE"),
    ] {
        let (code, details) = begin(&variables(name, value), &configuration).finish().error();
        assert!(code == 4 && details.contains(part), "{name}={value}: {code} {details}");
    }
}

#[test]
fn configurations_that_are_wrong_have_their_codes() {
    let add = |text: &str| begin(&variables("", ""), text).finish().error();
    for (text, code, part) in [
        (String::new(), 6, "standard input is empty"),
        ("no json".to_owned(), 6, "line 1"),
        (json!({"name": "n", "type": "podplane-cni"}).to_string(), 1, "set one of these"),
        (with(json!({"cniVersion": "7.0.0"})).to_string(), 1, "7.0.0"),
        (with(json!({"name": null})).to_string(), 7, "name is missing"),
        (with(json!({"name": "a/b"})).to_string(), 7, "a/b"),
        (with(json!({"ipam": {"type": "host-local"}})).to_string(), 2, "ipam {\"type\":\"host-local\"}"),
        (with(json!({"socket": "node.sock"})).to_string(), 7, "not an absolute path"),
        (with(json!({"runtimeConfig": {"ips": ["10.0.0.0.1"]}})).to_string(), 7, "10.0.0.0.1"),
    ] {
        let (found, details) = add(&text);
        assert!(found == code && details.contains(part), "{text}: {found} {details}");
    }
    let older = with(json!({"cniVersion": "1.0.0"}));
    for command in ["STATUS", "GC"] {
        assert_eq!(ask(command, &older).error().0, 1, "{command} came with 1.1.0");
    }
    let failed = call("CHECK", "c1", &with(json!({"cniVersion": "0.3.1"})));
    assert_eq!((&failed.said["cniVersion"], failed.clone().error().0), (&"0.3.1".into(), 1));
}

#[test]
fn b12_without_a_node_process_all_but_del_say_so_and_del_succeeds() {
    namespace::run(|| {
        node_process::private_run();
        sandboxes(&["c1"]);
        let (code, details) = add("c1").error();
        assert_eq!(code, 11, "{details}");
        assert!(details.contains("no podplane node process answers on /run/node.sock"), "{details}");
        assert!(details.contains("start it (podplane agent or podplane node --socket"), "{details}");
        assert_eq!(ask("STATUS", &configuration()).error().0, 51, "what is attached is cut off too");
        assert_eq!(ask("GC", &with(json!({"cni.dev/valid-attachments": []}))).error().0, 11);
        del("c1").ok();
        del("c1").ok();
        assert!(fs::exists("/run/node.sock.deleted/c1@eth0").unwrap(), "the next node process hears of it");
        // Not even the folder of the socket: nothing was ever attached.
        call("DEL", "c1", &with(json!({"socket": "/run/nothing/node.sock"}))).ok();
        // The sandbox is gone, and the runtime does not know where it was.
        begin(
            &[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "gone"), ("CNI_IFNAME", "eth0")],
            &configuration().to_string(),
        )
        .finish()
        .ok();
    });
}

#[test]
fn a_sandbox_that_is_gone_and_an_interface_that_is_there_are_told() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        let (code, details) = add("gone").error();
        assert!(code == 3 && details.contains("CNI_NETNS /run/netns/gone"), "{code} {details}");
        sandboxes(&["c1", "taken"]);
        namespace::sh("ip -n taken link add eth0 type veth peer name peer0");
        let (code, details) = add("taken").error();
        assert!(code == 4 && details.contains("eth0"), "{code} {details}");
        add("c1").ok();
        let (code, details) = add("c1").error();
        assert!(
            code == 4 && details.contains("interface eth0 of container c1 is attached already"),
            "{code} {details}"
        );
        del("taken").ok();
        namespace::sh("ip -n taken link show eth0 >/dev/null");
        let missing = call("CHECK", "c1", &configuration()).error();
        assert!(missing.0 == 7 && missing.1.contains("prevResult is missing"), "{missing:?}");
        let unknown = ask("GC", &configuration()).error();
        assert!(unknown.0 == 7 && unknown.1.contains("cni.dev/valid-attachments is missing"), "{unknown:?}");
    });
}

#[test]
fn p17_fixed_addresses_are_given_or_refused_with_the_reason() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        sandboxes(&["a", "b", "c", "d"]);
        let of = |id: &str, args: &str, more| begin_for("ADD", id, args, &with(more)).finish();
        let fixed = of("a", "", json!({"runtimeConfig": {"ips": ["10.244.1.77/24", "fd00:10:244:1::77"]}})).ok();
        let ips: Vec<_> = fixed["ips"].as_array().unwrap().iter().map(|ip| ip["address"].clone()).collect();
        assert_eq!(ips, ["10.244.1.77/32", "fd00:10:244:1::77/128"]);
        assert_eq!(of("b", "IP=10.244.1.99;IgnoreUnknown=1", json!({})).ok()["ips"][0]["address"], "10.244.1.99/32");
        for (asked, part) in [
            ("10.244.1.77", "is in use by interface eth0 of container a"),
            ("10.244.1.1", "is not one of a pod on this node"),
            ("10.9.9.9", "its ranges are 10.244.1.0/24, fd00:10:244:1::/64"),
        ] {
            let (code, details) = of("c", &format!("IP={asked}"), json!({})).error();
            assert!(code == 7 && details.contains(part), "{asked}: {code} {details}");
        }
        let mac = of("c", "", json!({"runtimeConfig": {"mac": "02:00:00:00:00:07"}})).ok();
        assert_eq!(mac["interfaces"][0]["mac"], "02:00:00:00:00:07");
        let (code, details) = of("d", "", json!({"runtimeConfig": {"mac": "01:00:00:00:00:07"}})).error();
        assert!(code == 7 && details.contains("01:00:00:00:00:07"), "{code} {details}");
    });
}

#[test]
fn p11_an_exhausted_range_is_told_by_add_and_by_status() {
    namespace::run(|| {
        let _node = Node::start(SMALL);
        let names: Vec<String> = (0..14).map(|number| format!("c{number}")).collect();
        sandboxes(&names);
        ask("STATUS", &configuration()).ok();
        names[..13].iter().for_each(|name| drop(add(name).ok()));
        let (code, details) = add("c13").error();
        assert_eq!(code, 11, "{details}");
        assert!(details.contains("all addresses of the node's pod ranges 10.244.1.0/28 are in use"), "{details}");
        let (code, details) = ask("STATUS", &configuration()).error();
        assert!(code == 50 && details.contains("10.244.1.0/28"), "{code} {details}");
        // Nothing is left of the failed one (P07), and one that goes makes room.
        assert!(!fs::exists("/run/state/sandboxes/c13@eth0.json").unwrap());
        del("c13").ok();
        del("c3").ok();
        ask("STATUS", &configuration()).ok();
        add("c13").ok();
    });
}

#[test]
fn a_full_disk_fails_add_with_code_5_and_leaves_nothing_and_del_works_all_the_same() {
    namespace::run(|| {
        let run = node_process::private_run();
        fs::write(run.join("cluster/cluster.yaml"), LARGE).unwrap();
        fs::create_dir("/run/state").unwrap();
        namespace::sh("mount -t tmpfs -o size=256k,nr_inodes=100 tmpfs /run/state");
        let _node = Node::again();
        sandboxes(&["a", "b"]);
        add("a").ok();
        namespace::sh("dd if=/dev/zero of=/run/state/full bs=1k 2>/dev/null || true");
        let (code, details) = add("b").error();
        assert!(code == 5 && details.contains("/run/state"), "{code} {details}");
        namespace::sh("! ip -n b link show eth0 2>/dev/null");
        del("b").ok();
        del("a").ok();
        assert!(!fs::exists("/run/state/sandboxes/a@eth0.json").unwrap());
        namespace::sh("rm /run/state/full");
        add("b").ok();
    });
}
