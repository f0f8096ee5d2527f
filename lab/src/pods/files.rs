//! The files in `/etc` that a kubelet would write for a pod.

use super::PodSpec;
use crate::error::{LabError, Result};
use control::resolv_conf;
use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// File name in the pod's directory, and the path that it covers in the pod.
pub(crate) const BOUND: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")];

/// Where the machine's own resolver is configured.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Writes the files of `pod` into `dir`; it asks `cluster_dns` for the names of `zone`.
pub(crate) fn write(dir: &Path, pod: &PodSpec, zone: &str, cluster_dns: &[IpAddr]) -> Result<()> {
    // One server is enough, of a family that the pod has: it is the pod's own node, whatever the address.
    let has_family = |server: &&IpAddr| pod.addresses.iter().any(|addr| addr.is_ipv4() == server.is_ipv4());
    let asked: Vec<IpAddr> = cluster_dns.iter().find(has_family).copied().into_iter().collect();
    // Nodes of a lab ask whom the machine asks, but its search domains would make another lab of it on every machine.
    let machine = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let node: String =
        machine.lines().filter(|line| line.starts_with("nameserver")).map(|line| format!("{line}\n")).collect();
    let resolv_conf = resolv_conf::write(&pod.dns, &pod.namespace, zone, &asked, &node);
    let contents = [hosts(pod), resolv_conf, format!("{}\n", pod.hostname)];
    for ((name, _), content) in BOUND.iter().zip(contents) {
        let path = dir.join(name);
        fs::write(&path, content).map_err(|e| LabError::io(path.display(), e))?;
    }
    Ok(())
}

fn hosts(pod: &PodSpec) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for address in &pod.addresses {
        let _ = writeln!(text, "{address}\t{}", pod.hostname);
    }
    text
}
