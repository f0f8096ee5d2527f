//! What the lab's answers look like for people.

use crate::grid::{self, table};
use lab::matrix::Matrix;
use lab::probe::{Outcome, Report};
use lab::status::{LabState, LabStatus, NodeStatus, PodState, PodStatus};
use std::fmt::{Display, Write};

/// A lab that was started: its status and what to try.
pub(super) fn up(lab: &LabStatus) -> String {
    let mut text = status(lab);
    let name = if lab.name == ::lab::record::DEFAULT_NAME { String::new() } else { format!(" --name {}", lab.name) };
    let _ = writeln!(text, "\nTry next:");
    let mut pods = lab.pods.iter().filter(|pod| pod.ready);
    if let (Some(first), Some(last)) = (pods.next(), pods.next_back()) {
        let (first, last) =
            (format!("{}/{}", first.namespace, first.name), format!("{}/{}", last.namespace, last.name));
        let _ = writeln!(text, "  podplane lab probe{name} --from {first} --to {last} --protocol icmp");
        let _ = writeln!(text, "  podplane lab exec{name} {first} -- ip addr");
    }
    let _ = writeln!(text, "  podplane lab matrix{name}");
    let _ = writeln!(text, "  podplane lab capture{name} underlay");
    let _ = writeln!(text, "  podplane lab apply{name} -f POLICY.yaml");
    let _ = writeln!(text, "  podplane lab down{name}");
    text
}

/// Nodes and pods.
pub(super) fn status(lab: &LabStatus) -> String {
    let state = match lab.state {
        LabState::Ready => "ready",
        LabState::Degraded => "degraded",
    };
    let rootless = if lab.rootless { ", rootless" } else { "" };
    let joined = lab.joined.as_ref().map(|joined| format!(", {} of it", joined.name)).unwrap_or_default();
    let mut text = format!(
        "lab {}{joined}: {state}{rootless} (process {}, files in {})\n\n",
        lab.name,
        lab.anchor_pid,
        lab.run_dir.display()
    );
    let mut nodes = vec![["NODE", "STATE", "ADDRESSES", "POD RANGES"].map(str::to_owned)];
    nodes.extend(
        lab.nodes
            .iter()
            .map(|node| [node.name.clone(), node_state(node, lab), list(&node.addresses), list(&node.pod_cidrs)]),
    );
    text.push_str(&table(&nodes));
    text.push('\n');
    let mut pods = vec![["POD", "STATE", "NODE", "ADDRESSES"].map(str::to_owned)];
    pods.extend(
        lab.pods.iter().map(|pod| {
            [format!("{}/{}", pod.namespace, pod.name), pod_state(pod, lab), pod.node.clone(), list(&pod.ips)]
        }),
    );
    text.push_str(&table(&pods));
    text.push_str(&doors(lab));
    text
}

/// Ingresses and Gateways, if there are any.
fn doors(lab: &LabStatus) -> String {
    let mut text = String::new();
    let nowhere = |addresses: &[String]| if addresses.is_empty() { "not served".to_owned() } else { list(addresses) };
    if !lab.ingresses.is_empty() {
        let mut rows = vec![["INGRESS", "HOSTS", "ADDRESSES"].map(str::to_owned)];
        rows.extend(lab.ingresses.iter().map(|ingress| {
            [format!("{}/{}", ingress.namespace, ingress.name), list(&ingress.hosts), nowhere(&ingress.addresses)]
        }));
        let _ = write!(text, "\n{}", table(&rows));
    }
    if !lab.gateways.is_empty() {
        let mut rows = vec![["GATEWAY", "LISTENERS", "ADDRESSES"].map(str::to_owned)];
        rows.extend(lab.gateways.iter().map(|gateway| {
            let listeners = gateway.listeners.iter();
            let listeners: Vec<String> =
                listeners.map(|own| format!("{}:{} ({} routes)", own.name, own.port, own.attached_routes)).collect();
            [format!("{}/{}", gateway.namespace, gateway.name), listeners.join(" "), nowhere(&gateway.addresses)]
        }));
        let _ = write!(text, "\n{}", table(&rows));
    }
    text
}

fn node_state(node: &NodeStatus, lab: &LabStatus) -> String {
    match (node.managed, node.ready) {
        (false, _) => not_here(lab),
        (true, true) => "ready".into(),
        (true, false) => "not ready".into(),
    }
}

/// What is said of nodes and pods that this lab does not run.
fn not_here(lab: &LabStatus) -> String {
    if lab.joined.is_some() { "elsewhere".into() } else { "unmanaged".into() }
}

fn pod_state(pod: &PodStatus, lab: &LabStatus) -> String {
    match (pod.state, pod.exit_code) {
        (PodState::Running, _) => "running".into(),
        (PodState::Exited, Some(code)) => format!("exited ({code})"),
        (PodState::Exited, None) => "exited".into(),
        (PodState::Waiting, _) => "waiting".into(),
        (PodState::Unmanaged, _) => not_here(lab),
    }
}

/// One line about one connection.
pub(super) fn probe(report: &Report) -> String {
    let mut text = format!("{} -> {} ({}): {}", report.from, report.to, report.protocol, report.outcome);
    if let Some(rtt_us) = report.rtt_us {
        let _ = write!(text, " in {}.{:03} ms", rtt_us / 1000, rtt_us % 1000);
    }
    if let Some(server) = &report.server {
        let _ = write!(text, ", answered by {server}");
    }
    if let Some(ip) = report.server_ip {
        let _ = write!(text, " at {ip}");
    }
    if let Some(ip) = report.client_ip {
        let _ = write!(text, ", which saw {ip}");
    }
    text.push('\n');
    text
}

/// Clients down, servers across, and what the marks mean.
pub(super) fn matrix(matrix: &Matrix) -> String {
    let results = matrix.results.iter().map(|cell| {
        let mark = match cell.outcome {
            Outcome::Connected => "+",
            Outcome::Timeout => "-",
            Outcome::Refused => "r",
            Outcome::Unreachable => "u",
            Outcome::DnsError => "d",
        };
        (cell.from.as_str(), cell.to.as_str(), format!("{mark}{}", cell.port))
    });
    let grid = grid::matrix(&matrix.pods, results);
    format!("{grid}\n+ connected   - no answer   r refused   u unreachable   (and the port)\n")
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
