//! podplane in the bench: a two-node lab with a client and a server on the first node and a server on the second.
//!
//! The lab is used as anyone would use it, by the command line. A helper waits on a pipe from us and takes the lab down
//! when we end, however that happens.

use super::report::{Path, System};
use super::{Pair, Place, own_binary};
use crate::error::{LabError, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
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
metadata: {name: near, namespace: bench}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: bench}
spec: {nodeName: node2, containers: [{name: main, image: none}]}
";

/// A running lab; it ends with this value.
pub(super) struct BenchLab {
    name: String,
    binary: String,
    /// Takes the lab down when its input ends.
    keeper: Child,
}

impl BenchLab {
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
        stdin.write_all(MANIFESTS.as_bytes()).map_err(|e| LabError::io("cannot start the lab", e))?;
        drop(stdin);
        let status = up.wait().map_err(|e| LabError::io("cannot start the lab", e))?;
        if status.success() { Ok(lab) } else { Err(LabError::Failed("the lab does not start (see above)".to_owned())) }
    }

    fn place(&self, pod: &str) -> Place {
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
