//! The bundled demo, as a person meets it: pods that reach each other as its policies say, and who is seen by whom.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use support::{Lab, labs_can_run, podplane, stdout};

/// A lab with the demo, and its pods.
struct Demo {
    lab: Lab,
    pods: Vec<Value>,
}

impl Demo {
    fn up() -> Demo {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Lab { name: format!("demo-{}-{number}", std::process::id()) };
        stdout(podplane(&["lab", "up", "--name", &lab.name]));
        let status = lab.json("status", &[]);
        assert_eq!(status["state"], "ready", "{status:#}");
        let pods = status["pods"].as_array().expect("pods").clone();
        Demo { lab, pods }
    }

    /// The pod of an app on a node.
    fn pod(&self, app: &str, node: &str) -> String {
        let pod = self.pods.iter().find(|pod| pod["labels"]["app"] == app && pod["node"] == node);
        let pod = pod.unwrap_or_else(|| panic!("no {app} on {node}: {:#?}", self.pods));
        format!("{}/{}", pod["namespace"].as_str().unwrap(), pod["name"].as_str().unwrap())
    }
}

#[test]
fn connections_are_as_the_policies_say_and_servers_see_the_pod_address_of_the_client() {
    if !labs_can_run() {
        return;
    }
    let demo = Demo::up();
    let frontend = demo.pod("frontend", "node1");
    let client_ip = demo.lab.address(&frontend, false);
    for (what, to) in [
        ("same node", format!("{}:8080", demo.pod("backend", "node1"))),
        ("other node", format!("{}:8080", demo.pod("backend", "node2"))),
        ("Service", "backend.shop.svc.cluster.local:80".to_owned()),
    ] {
        let report = demo.lab.probe(&frontend, &to);
        assert_eq!(report["outcome"], "connected", "{what}: {report:#}");
        assert_eq!(report["client_ip"], client_ip.as_str(), "{what}: {report:#}");
        assert!(report["server"].as_str().unwrap().starts_with("shop/backend-"), "{what}: {report:#}");
    }
    let to = format!("[{}]:8080", demo.lab.address(&demo.pod("backend", "node2"), true));
    let report = demo.lab.probe(&frontend, &to);
    assert_eq!(report["client_ip"], demo.lab.address(&frontend, true).as_str(), "{report:#}");
    let forbidden = demo.lab.json("probe", &["--from", &frontend, "--to", "db:5432", "--timeout", "500"]);
    assert_eq!(forbidden["outcome"], "timeout", "{forbidden:#}");
}

#[test]
fn the_matrix_of_real_connections_is_the_matrix_of_the_tables() {
    if !labs_can_run() {
        return;
    }
    let demo = Demo::up();
    let ports = ["--port", "TCP/8080", "--port", "TCP/5432"];
    let real = demo.lab.json("matrix", &ports);
    let run_dir = demo.lab.json("status", &[])["run_dir"].as_str().unwrap().to_owned();
    let cluster = Path::new(&run_dir).join("cluster");
    let args = [&["policy", "matrix", "-o", "json", "-f", cluster.to_str().unwrap()], &ports[..]].concat();
    let compiled: Value = serde_json::from_str(&stdout(podplane(&args))).expect("JSON");
    assert_eq!(real["pods"], compiled["pods"]);
    let key = |cell: &Value| ["from", "to", "protocol", "port"].map(|field| cell[field].to_string());
    let allowed: BTreeMap<_, _> = cells(&compiled).map(|cell| (key(cell), cell["outcome"] == "allow")).collect();
    assert_eq!(allowed.len(), cells(&real).count());
    for cell in cells(&real) {
        // A port that nobody listens on is refused by the pod itself: the network let the client through.
        let passed = cell["outcome"] == "connected" || cell["outcome"] == "refused";
        assert_eq!(passed, allowed[&key(cell)], "{cell:#}");
    }
}

fn cells(matrix: &Value) -> impl Iterator<Item = &Value> {
    matrix["results"].as_array().expect("results").iter()
}

#[test]
fn a_pod_has_the_files_and_the_interface_that_a_kubelet_gives() {
    if !labs_can_run() {
        return;
    }
    let demo = Demo::up();
    let sees = |script: &str| demo.lab.sh("shop/db-0", script);
    assert_eq!(sees("hostname"), "db-0\n");
    assert!(
        sees("cat /etc/resolv.conf").starts_with("search shop.svc.cluster.local svc.cluster.local cluster.local\n")
    );
    let address = demo.lab.address("shop/db-0", false);
    assert!(sees("cat /etc/hosts").contains(&format!("{address}\tdb-0\n")));
    assert!(sees("cat /proc/net/dev").contains("eth0:"));
    assert_eq!(demo.lab.exec("shop/db-0", &["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(demo.lab.exec("shop/db-0", &["no-such-command"]).status.code(), Some(2));
    assert!(stdout(demo.lab.run("logs", &["node1"])).contains("attached"));
}

#[test]
fn places_are_found_by_name_and_by_address() {
    if !labs_can_run() {
        return;
    }
    let demo = Demo::up();
    let db = demo.lab.address("shop/db-0", false);
    assert_eq!(demo.lab.exec_ok(&db, &["hostname"]), "db-0\n");
    let backend = demo.pod("backend", "node1");
    assert_eq!(demo.lab.outcome(&demo.lab.address(&backend, false), "shop/db-0:5432"), "connected");
    let ping = |from: &str, to: &str| {
        demo.lab.json("probe", &["--from", from, "--to", to, "--protocol", "icmp", "--timeout", "5000"])
    };
    assert_eq!(ping("world", "node:node1")["outcome"], "connected");
    assert_eq!(ping("world:203.0.113.7", "172.30.0.12")["outcome"], "connected");
    assert_eq!(ping("node:node1", "node:node2")["outcome"], "connected");
    for place in ["shop/nobody", "node:node9", "nowhere", "10.244.1.250"] {
        let output = demo.lab.run("exec", &[place, "--", "true"]);
        assert_eq!(output.status.code(), Some(2), "{place}: {}", support::text(&output.stderr));
    }
}

#[test]
fn every_protocol_keeps_the_pod_address_of_the_client() {
    if !labs_can_run() {
        return;
    }
    let pod = |name: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  nodeName: {node}\n  containers:\n  - name: c\n    \
             image: none\n    ports:\n    - {{containerPort: 7000}}\n    - {{containerPort: 7000, protocol: UDP}}\n    \
             - {{containerPort: 7000, protocol: SCTP}}\n---\n"
        )
    };
    let lab = Lab::up(&(pod("client", "node1") + &pod("near", "node1") + &pod("far", "node2")), &[]);
    for server in ["default/near", "default/far"] {
        for ipv6 in [false, true] {
            let address = lab.address(server, ipv6);
            let host = if ipv6 { format!("[{address}]") } else { address.clone() };
            for protocol in ["tcp", "udp", "sctp"] {
                let to = format!("{host}:7000");
                let report = lab.json("probe", &["--from", "default/client", "--to", &to, "--protocol", protocol]);
                assert_eq!(report["outcome"], "connected", "{report:#}");
                assert_eq!(report["server"], server, "{report:#}");
                assert_eq!(report["client_ip"], lab.address("default/client", ipv6).as_str(), "{report:#}");
                let closed = format!("{host}:7001");
                let report = lab.json("probe", &["--from", "default/client", "--to", &closed, "--protocol", protocol]);
                assert_eq!(report["outcome"], "refused", "{report:#}");
            }
            let echo = lab.json("probe", &["--from", "default/client", "--to", &address, "--protocol", "icmp"]);
            assert_eq!(echo["outcome"], "connected", "{echo:#}");
        }
    }
}
