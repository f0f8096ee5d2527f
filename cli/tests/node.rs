//! `podplane node` and the commands that ask it, with the real binary in namespaces of the test's own.

use control::api::{AttachRequest, Client};
use namespace::sh;
use node_process::{CLUSTER, podplane, private_run, start, status_when, terminate, text};
use std::fs;
use std::path::Path;
use std::process::Command;

#[path = "../../dataplane/node/tests/common/namespace.rs"]
mod namespace;
#[path = "support/node_process.rs"]
mod node_process;

#[test]
fn a_node_waits_for_its_node_object_serves_and_leaves_nothing_behind() {
    namespace::run(|| {
        let run = private_run();
        let node = start(&run);
        let waiting =
            status_when(&run, |status| status["ready"] == false && status["config"]["problems"][0].is_object());
        assert!(waiting["waiting_for"].as_str().unwrap().contains("there is no Node node1"), "{waiting}");
        fs::write(run.join("cluster/node.yaml"), CLUSTER).unwrap();
        let ready = status_when(&run, |status| status["ready"] == true);
        assert_eq!(ready["dataplane"]["gateways"][0], "10.244.1.1");
        sh("ip link show podplane0 >/dev/null");
        let table = podplane(&["ports", "--socket", "/run/node.sock"]);
        assert!(text(&table.stdout).contains("podplane0"), "{}", text(&table.stdout));
        fs::write(run.join("cluster/broken.yaml"), "kind: [").unwrap();
        let broken = status_when(&run, |status| status["config"]["problems"][0].is_object());
        assert_eq!(
            (&broken["ready"], &broken["config"]["problems"][0]["severity"]),
            (&true.into(), &"unreadable".into())
        );
        assert_eq!(terminate(node), Some(0));
        assert!(!run.join("node.sock").exists());
        sh("ip link show podplane0 >/dev/null");
        let cleaned = podplane(&["cleanup", "--state-dir", "/run/state"]);
        assert!(text(&cleaned.stdout).contains("removed: interface podplane0"), "{}", text(&cleaned.stdout));
        sh("! ip link show podplane0 2>/dev/null");
        assert!(!run.join("state").exists());
        assert_eq!(text(&podplane(&["cleanup", "--state-dir", "/run/state"]).stdout), "nothing was left\n");
    });
}

/// Two pods on node1, whose network namespaces are made, attached to the running node.
fn attach_pods(run: &Path) {
    let client = Client::new(run.join("node.sock"));
    for name in ["a", "b"] {
        sh(&format!("ip netns add {name}; ip -n {name} link set lo up"));
        let request = AttachRequest {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            container_id: format!("id-of-{name}"),
            netns: format!("/run/netns/{name}").into(),
            ifname: "eth0".to_owned(),
            addresses: None,
        };
        client.attach(&request).unwrap();
    }
}

/// node1 with the pods a and b.
fn cluster_with_pods() -> String {
    let pod = |name: &str, host: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\n\
             spec: {{nodeName: node1, containers: [{{name: c}}]}}\nstatus: {{podIPs: [{{ip: 10.244.1.{host}}}]}}\n"
        )
    };
    format!("{CLUSTER}{}{}", pod("a", 2), pod("b", 3))
}

/// Everything that a node process may leave in the kernel, in the namespaces of the node and of a pod.
fn kernel_state() -> String {
    let show = "for where in '' '-n a'; do
          ip $where -o link; ip $where -o address; ip $where route show table all; ip $where -6 route show table all
          ip $where rule; ip $where -6 rule
        done; ss -Htuwnpl0; ss -Htn";
    let output = Command::new("sh").args(["-c", show]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn r06_a_cleanup_leaves_the_node_as_it_was() {
    namespace::run(|| {
        let run = private_run();
        fs::write(run.join("cluster/all.yaml"), cluster_with_pods()).unwrap();
        sh("ip netns add a; ip -n a link set lo up");
        let before = kernel_state();
        sh("ip netns delete a");
        let node = start(&run);
        status_when(&run, |status| status["ready"] == true);
        attach_pods(&run);
        assert_ne!(kernel_state(), before);
        let refused = podplane(&["cleanup", "--state-dir", "/run/state"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("a node process runs here"), "{}", text(&refused.stderr));
        sh("ip netns exec a ping -q -n -c 1 -W 5 10.244.1.3 >/dev/null");
        assert_eq!(terminate(node), Some(0));
        let cleaned = podplane(&["cleanup", "--state-dir", "/run/state", "-o", "json"]);
        assert_eq!(cleaned.status.code(), Some(0), "{}", text(&cleaned.stderr));
        assert!(!run.join("state").exists(), "{}", text(&cleaned.stdout));
        assert_eq!(kernel_state(), before);
    });
}

#[test]
fn r04_a_node_that_is_started_without_its_source_forwards_nothing_until_it_is_back() {
    namespace::run(|| {
        let run = private_run();
        let objects = run.join("cluster/all.yaml");
        fs::write(&objects, cluster_with_pods()).unwrap();
        let mut node = start(&run);
        status_when(&run, |status| status["ready"] == true);
        attach_pods(&run);
        let ping = |wait: u8| format!("ip netns exec a ping -q -n -c 1 -W {wait} 10.244.1.3 >/dev/null");
        sh(&ping(5));
        node.kill().unwrap();
        node.wait().unwrap();
        fs::remove_file(&objects).unwrap();
        let again = start(&run);
        status_when(&run, |status| status["ready"] == false && status["pid"] == again.id());
        sh(&format!("! {}", ping(1)));
        fs::write(&objects, cluster_with_pods()).unwrap();
        status_when(&run, |status| status["ready"] == true);
        sh(&ping(5));
        let ports = text(&podplane(&["ports", "--socket", "/run/node.sock", "-o", "json"]).stdout);
        assert!(ports.contains("id-of-a") && ports.contains("id-of-b"), "{ports}");
        assert_eq!(terminate(again), Some(0));
    });
}

#[test]
fn what_a_node_reads_can_be_explained() {
    namespace::run(|| {
        let run = private_run();
        let pod = |name: &str, host: u8| {
            format!(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: node1, containers: [{{name: c}}]}}\n\
                 status: {{podIPs: [{{ip: 10.244.1.{host}}}]}}\n"
            )
        };
        let policy = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: closed}\nspec: {podSelector: {}}\n";
        fs::write(run.join("cluster/all.yaml"), format!("{CLUSTER}{}{}", pod("client", 2), pod("web", 3))).unwrap();
        fs::write(run.join("cluster/.draft.yaml"), policy).unwrap();
        let node = start(&run);
        status_when(&run, |status| status["ready"] == true);
        let explain = |to: &str| {
            let question =
                ["explain", "--socket", "/run/node.sock", "--from", "default/client", "--to", to, "-o", "json"];
            let output = podplane(&question);
            let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            (told["outcome"].as_str().unwrap_or_default().to_owned(), output.status.code(), text(&output.stderr))
        };
        assert_eq!(
            explain("default/web:80"),
            ("delivered".into(), Some(0), String::new()),
            "hidden files do not count"
        );
        fs::write(run.join("cluster/policy.yaml"), policy).unwrap();
        assert_eq!(explain("10.244.1.3:80").0, "denied");
        fs::write(run.join("cluster/broken.yaml"), "kind: [").unwrap();
        let (outcome, code, warnings) = explain("default/web:80");
        assert_eq!((outcome.as_str(), code), ("denied", Some(1)));
        assert!(warnings.contains("broken.yaml"), "{warnings}");
        assert_eq!(terminate(node), Some(0));
    });
}

#[test]
fn a_node_that_was_killed_is_started_again_on_the_same_socket() {
    namespace::run(|| {
        let run = private_run();
        fs::write(run.join("cluster/node.yaml"), CLUSTER).unwrap();
        let mut first = start(&run);
        status_when(&run, |status| status["ready"] == true);
        let second =
            podplane(&["node", "--node-name", "node1", "--cluster-dir", "/run/cluster", "--socket", "/run/node.sock"]);
        assert_eq!(second.status.code(), Some(2));
        assert!(text(&second.stderr).contains("another process serves it"), "{}", text(&second.stderr));
        first.kill().unwrap();
        first.wait().unwrap();
        let again = start(&run);
        status_when(&run, |status| status["ready"] == true && status["pid"] == again.id());
        assert_eq!(terminate(again), Some(0));
    });
}

#[test]
fn asking_where_no_node_is_fails_with_one_and_says_what_to_check() {
    for command in ["status", "ports", "flows", "drops"] {
        let output = podplane(&[command, "--socket", "/nonexistent/node.sock"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains("no node process answers on /nonexistent/node.sock"));
    }
    let both = podplane(&["status", "--socket", "x", "--node", "node1"]);
    assert_eq!(both.status.code(), Some(2));
}
