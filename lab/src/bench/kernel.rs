//! The peers of the bench: the kernel's bridge between two namespaces, and the kernel's VXLAN between two node namespaces
//! with a routed pod behind each, on an underlay of the same kind as the lab's (bridge and veth, MTU 1500). Pods have the
//! MTU of the lab's pods.
//!
//! All of it lives below one holder process in its own mount, PID and network namespace. The holder reads a pipe from us;
//! when we end, however that happens, the holder ends, and the kernel takes everything with it.

use super::report::{Path, System};
use super::{Pair, Place};
use crate::error::{LabError, Result};
use nix::unistd::geteuid;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Makes the namespaces; run by `sh` inside of the holder, which then says that it is ready and waits for its input to end.
const SETUP: &str = "
set -e
mount -t tmpfs tmpfs /run
mkdir /run/netns
ip link set lo up

# Same node: two pods on a bridge.
ip link add bridge0 type bridge
ip link set bridge0 up
for n in 1 2; do
    ip netns add bridge-pod$n
    ip link add bp$n mtu 1450 type veth peer name eth0 mtu 1450 netns bridge-pod$n
    ip link set bp$n master bridge0 up
    ip -n bridge-pod$n addr add 10.1.0.$n/24 dev eth0
    ip -n bridge-pod$n link set eth0 up
    ip -n bridge-pod$n link set lo up
done

# Two nodes: a pod behind each, routed through a VXLAN device with static neighbors.
ip link add underlay0 type bridge
ip link set underlay0 up
for n in 1 2; do
    other=$((3 - n))
    ip netns add node$n
    ip link add un$n type veth peer name eth0 netns node$n
    ip link set un$n master underlay0 up
    ip -n node$n addr add 172.30.0.1$n/24 dev eth0
    ip -n node$n link set eth0 up
    ip -n node$n link set lo up
    ip netns exec node$n sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
    ip -n node$n link add vxlan0 address 02:00:00:00:00:0$n mtu 1450 type vxlan id 1 dstport 4789 local 172.30.0.1$n nolearning
    ip -n node$n addr add 10.244.$n.0/32 dev vxlan0
    ip -n node$n link set vxlan0 up
    bridge -n node$n fdb append 02:00:00:00:00:0$other dev vxlan0 dst 172.30.0.1$other
    ip -n node$n neigh add 10.244.$other.0 lladdr 02:00:00:00:00:0$other dev vxlan0
    ip -n node$n route add 10.244.$other.0/24 via 10.244.$other.0 dev vxlan0 onlink

    ip netns add vxlan-pod$n
    ip -n node$n link add pod0 mtu 1450 type veth peer name eth0 mtu 1450 netns vxlan-pod$n
    ip -n node$n addr add 10.244.$n.1/32 dev pod0
    ip -n node$n link set pod0 up
    ip -n node$n route add 10.244.$n.10/32 dev pod0
    ip -n vxlan-pod$n addr add 10.244.$n.10/32 dev eth0
    ip -n vxlan-pod$n link set eth0 up
    ip -n vxlan-pod$n link set lo up
    ip -n vxlan-pod$n route add default via 10.244.$n.1 dev eth0 onlink
done
echo ready
exec cat
";

/// The namespaces of the kernel's peers; they end with this value.
pub(super) struct Kernel {
    holder: Child,
    enter: Vec<String>,
}

impl Kernel {
    /// Makes the namespaces.
    pub(super) fn start() -> Result<Kernel> {
        let mut command = Command::new("unshare");
        let rootless = !geteuid().is_root();
        if rootless {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SETUP]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().map_err(|e| LabError::io("cannot start unshare", e))?;
        let stdout = holder.stdout.take().expect("stdout is piped");
        let mut kernel = Kernel { holder, enter: Vec::new() };
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        if read.is_err() || line.trim() != "ready" {
            return Err(LabError::Failed("cannot set up the kernel's bridge and VXLAN (see above)".to_owned()));
        }
        let inside = kernel.process_inside()?;
        let target = format!("--target={inside}");
        let mut enter = vec!["nsenter".to_owned(), target, "--mount".into(), "--pid".into(), "--net".into()];
        if rootless {
            enter.extend(["--user".into(), "--preserve-credentials".into()]);
        }
        kernel.enter = enter;
        Ok(kernel)
    }

    /// Process 1 of the namespaces, as it is numbered outside.
    fn process_inside(&self) -> Result<String> {
        let pid = self.holder.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).map_err(|e| LabError::io(&path, e))?;
        let first = children.split_whitespace().next();
        first.map(str::to_owned).ok_or_else(|| LabError::Failed("the holder of the namespaces ended".to_owned()))
    }

    fn place(&self, namespace: &str) -> Place {
        let words = ["ip", "netns", "exec", namespace].map(str::to_owned);
        Place::new(self.enter.iter().cloned().chain(words))
    }

    /// What can be measured.
    pub(super) fn pairs(&self) -> Vec<Pair> {
        vec![
            Pair {
                system: System::KernelBridge,
                path: Path::SameNode,
                client: self.place("bridge-pod1"),
                server: self.place("bridge-pod2"),
                address: "10.1.0.2".to_owned(),
            },
            Pair {
                system: System::KernelVxlan,
                path: Path::TwoNodes,
                client: self.place("vxlan-pod1"),
                server: self.place("vxlan-pod2"),
                address: "10.244.2.10".to_owned(),
            },
        ]
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // The end of its input is the end of the holder, and with process 1 everything inside ends.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
