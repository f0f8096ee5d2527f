//! A `podplane node` of a test's own, in its namespaces: started, asked, ended.

use crate::namespace::sh;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long the node may take for anything before a test fails; far above what it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
";

pub(crate) fn podplane(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_podplane")).args(arguments).env_remove("PODPLANE_SOCKET").output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder of the test's own, removed by the caller's mount namespace: everything is on a private /run.
pub(crate) fn private_run() -> PathBuf {
    sh("mount -t tmpfs tmpfs /run && ip link set lo up && ip address add 172.30.0.11/24 dev lo");
    fs::create_dir("/run/cluster").unwrap();
    "/run".into()
}

pub(crate) fn start(run: &Path) -> Child {
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
pub(crate) fn status_when(run: &Path, done: impl Fn(&Value) -> bool) -> Value {
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

pub(crate) fn terminate(mut node: Child) -> Option<i32> {
    sh(&format!("kill -TERM {}", node.id()));
    let began = Instant::now();
    loop {
        if let Some(status) = node.try_wait().unwrap() {
            return status.code();
        }
        assert!(began.elapsed() < DEADLINE, "the node does not end");
    }
}
