//! `podplane node` and the commands that ask it, with the real binary in namespaces of the test's own.

use namespace::sh;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "../../dataplane/node/tests/common/namespace.rs"]
mod namespace;

/// How long the node may take for anything before a test fails; far above what it takes.
const DEADLINE: Duration = Duration::from_secs(20);

const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
";

fn podplane(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_podplane")).args(arguments).env_remove("PODPLANE_SOCKET").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder of the test's own, removed by the caller's mount namespace: everything is on a private /run.
fn private_run() -> PathBuf {
    sh("mount -t tmpfs tmpfs /run && ip link set lo up && ip address add 172.30.0.11/24 dev lo");
    fs::create_dir("/run/cluster").unwrap();
    "/run".into()
}

fn start(run: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_podplane"))
        .args(["node", "--node-name", "node1", "--underlay-mtu", "1500", "--cluster-dir"])
        .arg(run.join("cluster"))
        .arg("--socket")
        .arg(run.join("node.sock"))
        .arg("--state-dir")
        .arg(run.join("state"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The node's status once `done` holds for it.
fn status_when(run: &Path, done: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    let socket = run.join("node.sock");
    loop {
        let output = podplane(&["status", "-o", "json", "--socket", socket.to_str().unwrap()]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if done(&status) {
            return status;
        }
        assert!(began.elapsed() < DEADLINE, "{status}\n{}", text(&output.stderr));
    }
}

fn terminate(mut node: Child) -> Option<i32> {
    sh(&format!("kill -TERM {}", node.id()));
    let began = Instant::now();
    loop {
        if let Some(status) = node.try_wait().unwrap() {
            return status.code();
        }
        assert!(began.elapsed() < DEADLINE, "the node does not end");
    }
}

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
