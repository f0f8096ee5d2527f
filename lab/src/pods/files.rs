//! The files in `/etc` that a kubelet would write for a pod.

use super::PodSpec;
use crate::error::{LabError, Result};
use std::fmt::Write;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// File name in the pod's directory, and the path that it covers in the pod.
pub(crate) const BOUND: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")];

/// Writes the files of `pod` into `dir`.
pub(crate) fn write(dir: &Path, pod: &PodSpec, nameservers: &[IpAddr]) -> Result<()> {
    let contents = [hosts(pod), resolv_conf(&pod.namespace, nameservers), format!("{}\n", pod.hostname)];
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

fn resolv_conf(namespace: &str, nameservers: &[IpAddr]) -> String {
    let mut text = format!("search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n");
    for nameserver in nameservers {
        let _ = writeln!(text, "nameserver {nameserver}");
    }
    text.push_str("options ndots:5\n");
    text
}
