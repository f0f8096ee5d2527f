//! The CNI plugin with a real node process, as container runtimes drive both: every command on good and on bad input, crashes, full
//! disks and ranges, a hundred at once.

mod crashes;
mod crowd;
mod lifecycle;
mod refusals;

#[path = "../../../dataplane/node/tests/common/namespace.rs"]
mod namespace;
#[allow(dead_code)]
#[path = "../support/node_process.rs"]
mod node_process;
#[path = "../support/plugin.rs"]
mod plugin;

use node_process::{private_run, start, status_when};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A node with a range of 13 addresses for pods.
const SMALL: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/28]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
";

/// A dual-stack node with room.
const LARGE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
";

/// A process beside the test, mostly a node process with the objects of a cluster; it ends with the value.
struct Node(Child);

impl Node {
    fn start(cluster: &str) -> Node {
        let run = private_run();
        fs::write(run.join("cluster/cluster.yaml"), cluster).unwrap();
        Node::again()
    }

    /// Another process after the first one.
    fn again() -> Node {
        let run = Path::new("/run");
        let node = Node(start(run));
        status_when(run, |status| status["ready"] == true);
        node
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes network namespaces for sandboxes.
fn sandboxes<T: AsRef<str>>(names: &[T]) {
    for name in names {
        namespace::sh(&format!("ip netns add {0} && ip -n {0} link set lo up", name.as_ref()));
    }
}

/// Whether one of a few pings from a sandbox is answered.
fn pings(from: &str, to: &str) -> bool {
    let ping = ["netns", "exec", from, "ping", "-c", "1", "-W", "1", to];
    (0..3).any(|_| Command::new("ip").args(ping).stdout(Stdio::null()).status().unwrap().success())
}

/// Waits until `condition` holds.
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < node_process::DEADLINE, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
