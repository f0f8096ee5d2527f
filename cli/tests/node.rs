//! `podplane node` and the commands that ask it, with the real binary in namespaces of the test's own.

use namespace::sh;
use node_process::{CLUSTER, podplane, private_run, start, status_when, terminate, text};
use std::fs;

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
        sh("! ip link show podplane0 2>/dev/null");
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
