//! podplane in the bench: a two-node lab with a client and a server on the first node and a server on the second.
//!
//! The lab is used as anyone would use it, by the command line. A helper waits on a pipe from us and takes the lab down
//! when we end, however that happens.

use super::peer::PORTS;
use super::report::{Path, System};
use super::{Pair, Place, own_binary};
use crate::Lab;
use crate::error::{LabError, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: bench}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: bench}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: bench, labels: {app: near}}
spec: {nodeName: node1, containers: [{name: main, image: none, ports: [{containerPort: 53, protocol: UDP}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: bench}
spec: {nodeName: node2, containers: [{name: main, image: none}]}
";

/// ClusterIP of a Service in front of pod near.
const SERVICE_ADDRESS: &str = "10.96.0.50";

/// The Service in front of pod near, with every port of the bench's server and one of the lab's.
fn service() -> String {
    let ports: Vec<String> = PORTS.map(|port| format!("{{name: p{port}, port: {port}}}")).collect();
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: near, namespace: bench}}
spec: {{clusterIP: {SERVICE_ADDRESS}, selector: {{app: near}}, ports: [{{name: dns, port: {}, protocol: UDP}}, {}]}}
",
        BenchLab::RESOLVER_PORT,
        ports.join(", ")
    )
}

/// A running lab; it ends with this value.
pub(super) struct BenchLab {
    name: String,
    binary: String,
    /// Takes the lab down when its input ends.
    keeper: Child,
}

impl BenchLab {
    /// UDP port of the Service that leads to the lab's own server in pod near.
    pub(super) const RESOLVER_PORT: u16 = 53;

    /// Starts the lab and waits until it is ready.
    pub(super) fn start() -> Result<BenchLab> {
        let binary = own_binary()?;
        let name = format!("bench-{}", std::process::id());
        let keeper = Command::new("sh")
            .args(["-c", "cat; exec \"$0\" lab down --name \"$1\" >/dev/null 2>&1", &binary, &name])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| LabError::io("cannot start sh", e))?;
        let lab = BenchLab { name, binary, keeper };
        let mut up = Command::new(&lab.binary)
            .args(["lab", "up", "--name", &lab.name, "--nodes", "2", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| LabError::io("cannot start the lab", e))?;
        let mut stdin = up.stdin.take().expect("stdin is piped");
        let manifests = MANIFESTS.to_owned() + &service();
        stdin.write_all(manifests.as_bytes()).map_err(|e| LabError::io("cannot start the lab", e))?;
        drop(stdin);
        let status = up.wait().map_err(|e| LabError::io("cannot start the lab", e))?;
        if status.success() { Ok(lab) } else { Err(LabError::Failed("the lab does not start (see above)".to_owned())) }
    }

    pub(super) fn place(&self, pod: &str) -> Place {
        Place::new(
            [&self.binary, "lab", "exec", "--name", &self.name, &format!("bench/{pod}"), "--"].map(str::to_owned),
        )
    }

    fn address(&self, pod: &str) -> Result<String> {
        let output = self
            .place(pod)
            .command(&["ip", "-4", "-o", "address", "show", "dev", "eth0"])
            .output()
            .map_err(|e| LabError::io("cannot ask for a pod's address", e))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let address = text.split_whitespace().skip_while(|word| *word != "inet").nth(1);
        match address.and_then(|address| address.split('/').next()) {
            Some(address) => Ok(address.to_owned()),
            None => Err(LabError::Failed(format!("pod bench/{pod} has no IPv4 address: {text}"))),
        }
    }

    /// ClusterIP of the Service in front of pod near.
    pub(super) fn service_address(&self) -> &'static str {
        SERVICE_ADDRESS
    }

    /// Where the node answers the cluster DNS.
    pub(super) fn dns_address(&self) -> &'static str {
        "10.96.0.10"
    }

    /// API socket of the node on which client and pod near are.
    pub(super) fn socket(&self) -> Result<PathBuf> {
        Lab::open(&self.name)?.socket("node1")
    }

    /// The cluster directory that the nodes follow.
    pub(super) fn cluster_dir(&self) -> Result<PathBuf> {
        Ok(crate::nodes::cluster_dir(&Lab::open(&self.name)?.run_dir()))
    }

    /// What can be measured.
    pub(super) fn pairs(&self) -> Result<Vec<Pair>> {
        let pair = |path, server: &str| {
            Ok(Pair {
                system: System::Podplane,
                path,
                client: self.place("client"),
                server: self.place(server),
                address: self.address(server)?,
            })
        };
        Ok(vec![pair(Path::SameNode, "near")?, pair(Path::TwoNodes, "far")?])
    }
}

impl Drop for BenchLab {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
