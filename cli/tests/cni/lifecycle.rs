//! What runtimes do all day: ADD, CHECK, DEL, GC, plugins before and behind.

use crate::plugin::{add, address, ask, begin_for, call, configuration, del, with};
use crate::{LARGE, Node, namespace, node_process, pings, sandboxes, wait_for};
use namespace::sh;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// Where Debian has the reference plugins.
const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

#[test]
fn p05_an_added_sandbox_has_what_the_result_says_and_talks() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        sandboxes(&["a", "b"]);
        let result = add("a").ok();
        let mac = result["interfaces"][0]["mac"].as_str().unwrap();
        let expected = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": mac, "mtu": 1450, "sandbox": "/run/netns/a"}],
            "ips": [
                {"address": "10.244.1.2/32", "gateway": "10.244.1.1", "interface": 0},
                {"address": "fd00:10:244:1::2/128", "gateway": "fd00:10:244:1::1", "interface": 0},
            ],
            "routes": [
                {"dst": "0.0.0.0/0", "gw": "10.244.1.1", "mtu": 1450},
                {"dst": "::/0", "gw": "fd00:10:244:1::1", "mtu": 1450},
            ],
            "dns": {
                "nameservers": ["10.96.0.10"],
                "search": ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"],
                "options": ["ndots:5"],
            },
        });
        assert_eq!(result, expected);
        sh(&format!("ip -n a link show eth0 | grep -q {mac} && ip -n a route show default | grep -q 'via 10.244.1.1'"));
        add("b").ok();
        for to in ["10.244.1.2", "fd00:10:244:1::2"] {
            assert!(pings("b", to), "{to}");
        }
        let record: Value = serde_json::from_slice(&fs::read("/run/state/sandboxes/a@eth0.json").unwrap()).unwrap();
        assert_eq!((&record["mac"], &record["network"]), (&mac.into(), &"podplane".into()));
        del("a").ok();
        sh("! ip -n a link show eth0 2>/dev/null");
        assert!(!fs::exists("/run/state/sandboxes/a@eth0.json").unwrap());
        assert!(fs::exists("/run/state/resting/10.244.1.2").unwrap());
        del("a").ok();
        assert_eq!(address(&add("a").ok()), "10.244.1.4", "the freed address rests");
    });
}

#[test]
fn b10_a_late_del_of_an_old_sandbox_leaves_the_pods_next_one_alone() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        sandboxes(&["old", "next", "client"]);
        let of_pod =
            |id: &str| begin_for("ADD", id, "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web", &configuration()).finish();
        of_pod("old").ok();
        let next = address(&of_pod("next").ok());
        add("client").ok();
        del("old").ok();
        assert!(pings("client", &next));
        call("DEL", "old", &configuration()).ok();
        let ports = node_process::podplane(&["ports", "-o", "json", "--socket", "/run/node.sock"]);
        let ports: Value = serde_json::from_slice(&ports.stdout).unwrap();
        let web = ports.as_array().unwrap().iter().find(|port| port["name"] == "web").expect("the pod's port");
        assert_eq!((&web["namespace"], &web["container_id"]), (&"shop".into(), &"next".into()));
    });
}

#[test]
fn p10_check_sees_whatever_is_not_as_it_was_added() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        sandboxes(&["a"]);
        let result = add("a").ok();
        let check = || call("CHECK", "a", &with(json!({"prevResult": result})));
        check().ok();
        let gone = call("CHECK", "never", &with(json!({"prevResult": result}))).error();
        assert_eq!(gone.0, 3, "{gone:?}");
        let mac = result["interfaces"][0]["mac"].as_str().unwrap();
        for (harm, repair, part) in [
            (
                "ip -n a link set eth0 address 02:00:00:00:00:01",
                format!("ip -n a link set eth0 address {mac}"),
                "its MAC is",
            ),
            ("ip -n a link set eth0 mtu 1400", "ip -n a link set eth0 mtu 1450".into(), "its MTU is 1400 and not 1450"),
            (
                "ip -n a -6 address del fd00:10:244:1::2/128 dev eth0",
                "ip -n a address add fd00:10:244:1::2/128 dev eth0 nodad".into(),
                "address fd00:10:244:1::2 is not on the interface",
            ),
            (
                "ip -n a route del default",
                "ip -n a route add default via 10.244.1.1 dev eth0 onlink proto 112".into(),
                "the default route through 10.244.1.1 is gone",
            ),
        ] {
            sh(harm);
            let (code, details) = check().error();
            assert!(code == 101 && details.contains(part), "{harm}: {code} {details}");
            sh(&repair);
            check().ok();
        }
        let mut other = result.clone();
        other["ips"][0]["address"] = "10.244.1.9/32".into();
        let (code, details) = call("CHECK", "a", &with(json!({"prevResult": other}))).error();
        assert!(code == 101 && details.contains("address 10.244.1.2 is not in prevResult"), "{code} {details}");
        sh("ip -n a link del eth0");
        assert!(check().error().1.contains("eth0 of container a"));
    });
}

#[test]
fn p12_gc_ends_what_is_not_listed_of_its_own_network_only() {
    namespace::run(|| {
        let _node = Node::start(LARGE);
        sandboxes(&["a", "b", "c", "other"]);
        ["a", "b", "c"].iter().for_each(|id| drop(add(id).ok()));
        call("ADD", "other", &with(json!({"name": "second"}))).ok();
        // The namespace of a stale sandbox is gone, and so is its interface.
        sh("ip netns del b");
        let valid = json!({"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]});
        ask("GC", &with(valid)).ok();
        let mut left: Vec<String> = fs::read_dir("/run/state/sandboxes")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a@eth0.json", "other@eth0.json"]);
        sh("! ip -n c link show eth0 2>/dev/null");
        // libcni's older name of the same field.
        ask("GC", &with(json!({"cni.dev/attachments": []}))).ok();
        assert_eq!(fs::read_dir("/run/state/sandboxes").unwrap().count(), 1);
    });
}

#[test]
fn p06_plugins_before_and_behind_keep_their_part_of_the_result() {
    if !fs::exists(format!("{REFERENCE_PLUGINS}/tuning")).unwrap() {
        assert!(std::env::var_os("CI").is_none(), "containernetworking-plugins is not installed");
        return;
    }
    namespace::run(|| {
        let _node = Node::start(LARGE);
        sandboxes(&["a"]);
        let result = add("a").ok();
        let tuning = |command: &str, previous: &Value| {
            let configuration = json!({
                "cniVersion": "1.0.0", "name": "podplane", "type": "tuning", "prevResult": previous,
                "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"},
            });
            let mut child = Command::new(format!("{REFERENCE_PLUGINS}/tuning"))
                .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "a"), ("CNI_NETNS", "/run/netns/a")])
                .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", REFERENCE_PLUGINS)])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(configuration.to_string().as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            output.stdout
        };
        let mut older = result.clone();
        older["cniVersion"] = "1.0.0".into();
        let behind: Value = serde_json::from_slice(&tuning("ADD", &older)).unwrap();
        assert_eq!(behind["ips"][0]["address"], result["ips"][0]["address"]);
        sh("ip netns exec a sysctl -n net.ipv4.conf.eth0.arp_notify | grep -q 1");
        let chained = with(json!({"cniVersion": "1.0.0", "prevResult": behind}));
        call("CHECK", "a", &chained).ok();
        tuning("DEL", &behind);
        call("DEL", "a", &chained).ok();

        // Behind a plugin that made an interface of its own.
        sh("ip -n a link add net0 type veth peer name peer0");
        let before = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net0", "sandbox": "/run/netns/a"}],
            "ips": [{"address": "192.168.7.2/24", "interface": 0}],
        });
        let merged = call("ADD", "a", &with(json!({"prevResult": before}))).ok();
        let names: Vec<&Value> = merged["interfaces"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["net0", "eth0"]);
        assert_eq!((&merged["ips"][0], &merged["ips"][1]["interface"]), (&before["ips"][0], &1.into()));
        call("CHECK", "a", &with(json!({"prevResult": merged}))).ok();
        call("DEL", "a", &with(json!({"prevResult": merged}))).ok();
        // A result that is none leaves no interface behind.
        let (code, details) = call("ADD", "a", &with(json!({"prevResult": {"ips": 7}}))).error();
        assert!(code == 6 && details.contains("prevResult.ips"), "{code} {details}");
        sh("! ip -n a link show eth0 2>/dev/null");
        assert_eq!(fs::read_dir("/run/state/sandboxes").unwrap().count(), 0);
    });
}

#[test]
fn w11_a_container_with_a_pod_object_of_its_name_has_its_labels_and_addresses() {
    namespace::run(|| {
        let cluster = format!(
            "{LARGE}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec: {{containers: [{{name: c, image: i}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: friend, labels: {{role: friend}}}}
spec: {{nodeName: node1, containers: [{{name: c, image: i}}]}}
status: {{podIPs: [{{ip: 10.244.1.200}}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web}}
spec: {{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{role: friend}}}}}}]}}]}}
"
        );
        let _node = Node::start(&cluster);
        sandboxes(&["a", "b", "c", "d"]);
        let named = |id: &str, name: &str, more| {
            begin_for("ADD", id, &format!("K8S_POD_NAME={name}"), &with(more)).finish().ok()
        };
        let web = address(&named("a", "web", json!({})));
        assert_eq!(web, "10.244.1.2");
        assert_eq!(address(&named("b", "friend", json!({}))), "10.244.1.200", "the object's own address");
        named("c", "stranger", json!({}));
        assert!(pings("b", &web));
        assert!(!pings("c", &web), "no object, no labels");
        // Labels by the convention, for a pod that nobody describes.
        named("d", "labelled", json!({"args": {"cni": {"labels": [{"key": "role", "value": "friend"}]}}}));
        assert!(pings("d", &web));
        // The object goes: the container stays as what the runtime said that it is.
        fs::write("/run/cluster/cluster.yaml", LARGE).unwrap();
        wait_for("the policy to be gone", || pings("c", &web));
    });
}

#[test]
fn p04_a_mapped_port_leads_into_the_sandbox_and_one_that_is_taken_is_refused() {
    namespace::run(|| {
        // Ports of the node are held for the outside, so there has to be one.
        let run = node_process::private_run();
        sh("ip address del 172.30.0.11/24 dev lo && ip link add under0 type veth peer name wire0");
        sh("ip link set wire0 up && ip link set under0 up && ip address add 172.30.0.11/24 dev under0");
        fs::write(run.join("cluster/cluster.yaml"), LARGE).unwrap();
        let _node = Node::again();
        sandboxes(&["web", "other", "third"]);
        let mapped = |id: &str, port: u16| {
            let mapping = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
            call("ADD", id, &with(json!({"runtimeConfig": {"portMappings": [mapping]}})))
        };
        mapped("web", 18080).ok();
        let mut server = Command::new("ip");
        server.args(["netns", "exec", "web", "socat", "TCP-LISTEN:80,reuseaddr,fork", "SYSTEM:echo hello"]);
        let _server = Node(server.stdout(Stdio::null()).spawn().unwrap());
        let asks = || {
            let asked =
                Command::new("socat").args(["-t", "2", "-u", "TCP:127.0.0.1:18080,connect-timeout=2", "-"]).output();
            String::from_utf8_lossy(&asked.unwrap().stdout).contains("hello")
        };
        wait_for("the mapped port", asks);
        let (code, details) = mapped("other", 18080).error();
        assert!(code == 7 && details.contains("18080"), "{code} {details}");
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (code, details) = mapped("third", port).error();
        assert!(code == 7 && details.contains(&format!("{port}")), "{code} {details}");
        assert!(!fs::exists("/run/state/sandboxes/third@eth0.json").unwrap());
        del("web").ok();
        wait_for("the mapped port to be gone", || !asks());
    });
}

#[test]
fn b13_a_sandbox_is_judged_from_its_first_packet() {
    namespace::run(|| {
        let cluster = format!(
            "{LARGE}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: mute}}
spec: {{podSelector: {{matchLabels: {{role: mute}}}}, policyTypes: [Egress]}}
"
        );
        let _node = Node::start(&cluster);
        sandboxes(&["server", "mute", "free"]);
        let server = address(&add("server").ok());
        let knock = |id: &str, patience_s: u32| {
            // Sends as soon as there is an address to send from.
            let script = format!(
                "until ip route get {server} >/dev/null 2>&1; do :; done; \
                 for i in 1 2 3 4 5; do ping -c 1 -W {patience_s} {server} >/dev/null && echo answered; done; true"
            );
            let mut command = Command::new("ip");
            command.args(["netns", "exec", id, "sh", "-c", &script]).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        for (id, label, answered) in [("mute", "mute", 0), ("free", "free", 5)] {
            let knocker = knock(id, if answered == 0 { 1 } else { 10 });
            let labels = json!({"args": {"cni": {"labels": [{"key": "role", "value": label}]}}});
            call("ADD", id, &with(labels)).ok();
            let output = knocker.wait_with_output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), answered, "{id}");
        }
    });
}
