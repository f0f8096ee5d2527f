//! What a node answers, as text for people: aligned columns, the largest first where that helps.

use control::api::{Endpoint, Flow, Kubernetes, Port, Status, UplinkStatus};

/// `podplane status`.
pub(super) fn status(status: &Status) -> String {
    let config = &status.config;
    let ready = match &status.waiting_for {
        None => "yes".to_owned(),
        Some(what) => format!("no: {what}"),
    };
    let mut rows = vec![
        row("node", status.node.clone()),
        row("ready", ready),
        row(
            "process",
            format!(
                "{}, podplane {}, up {}, {} MiB of memory",
                status.pid,
                status.version,
                duration(status.uptime_ms),
                status.resident_bytes >> 20
            ),
        ),
    ];
    rows.extend(status.source.kubernetes.iter().flat_map(api_server));
    if config.epoch > 0 {
        let took = format!("{}.{} ms", config.took_us / 1000, config.took_us % 1000 / 100);
        rows.push(row("in force", format!("epoch {}, for {}, took {took}", config.epoch, duration(config.age_ms))));
        let counts = [
            (config.nodes, "node", "nodes"),
            (config.pods, "pod", "pods"),
            (config.service_ports, "service port", "service ports"),
            (config.policies, "network policy", "network policies"),
        ];
        rows.push(row("objects", counts.map(|(count, one, many)| counted(count, one, many)).join(", ")));
    }
    if let Some(dataplane) = &status.dataplane {
        let list =
            |addresses: &[std::net::IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        rows.push(row("addresses", list(&dataplane.addresses)));
        rows.push(row("gateways", format!("{} on {}", list(&dataplane.gateways), dataplane.host_interface)));
        rows.push(row("overlay", format!("VXLAN {}, UDP port {}", dataplane.vni, dataplane.vxlan_port)));
        rows.extend(uplink(&dataplane.uplink));
        rows.push(row("pod MTU", dataplane.pod_mtu.to_string()));
        let (ports, flows) = (counted(dataplane.ports, "port", "ports"), counted(dataplane.flows, "flow", "flows"));
        let shards = counted(dataplane.shards.into(), "shard", "shards");
        rows.push(row("carries", format!("{ports} and {flows} on {shards}")));
        rows.push(row(
            "frames",
            format!(
                "{} received = {} forwarded + {} answered + {} asked + {} dropped + {} held",
                dataplane.received,
                dataplane.forwarded,
                dataplane.answered,
                dataplane.asked,
                dataplane.dropped,
                dataplane.held
            ),
        ));
        if let Some(dns) = &dataplane.dns {
            rows.push(row(
                "cluster DNS",
                format!(
                    "{} at {}: {} queries over UDP, {} over TCP, {} forwarded, {} failed, {} given up",
                    dns.zone,
                    list(&dns.addresses),
                    dns.udp,
                    dns.tcp,
                    dns.forwarded,
                    dns.serv_fail + dns.upstream_failed,
                    dns.overloaded
                ),
            ));
        }
        let names = dataplane.names;
        if names.learned > 0 || names.unreadable > 0 {
            rows.push(row(
                "DNS names",
                format!(
                    "{} addresses known, {} learned, {} given up, {} answers unreadable",
                    names.held, names.learned, names.forgotten, names.unreadable
                ),
            ));
        }
        let (received, sent) = (dataplane.tunnel_received, dataplane.tunnel_sent);
        rows.push(row(
            "tunnel",
            format!(
                "{} datagrams received in {} calls, {} sent in {} calls",
                received.datagrams, received.calls, sent.datagrams, sent.calls
            ),
        ));
    }
    let mut text = columns(&rows, &[]);
    for problem in &config.problems {
        let place = [&problem.file, &problem.object, &problem.field];
        let place: Vec<&str> = place.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        text.push_str(&format!("{}: {}: {}\n", problem.severity, place.join(": "), problem.message));
    }
    text
}

/// How the API server is, and what of it cannot be followed.
fn api_server(kubernetes: &Kubernetes) -> Vec<Vec<String>> {
    let Kubernetes { server, synced, cached, last_contact_ms, lost_ms, resources, .. } = kubernetes;
    let objects: usize = resources.iter().map(|resource| resource.objects).sum();
    let state = match (lost_ms, last_contact_ms) {
        (Some(lost), _) => format!("lost for {}", duration(*lost)),
        (None, Some(heard)) => format!("heard {} ago", duration(*heard)),
        (None, None) => "not heard so far".to_owned(),
    };
    let force = match (synced, cached) {
        (true, _) => format!("{} followed", counted(objects, "object", "objects")),
        (false, Some(cached)) if cached.in_force => {
            format!("objects of {} ago are in force, from {}", duration(cached.age_ms), cached.path.display())
        }
        (false, _) => "not everything was listed".to_owned(),
    };
    let mut rows = vec![row("API server", format!("{server}, {state}, {force}"))];
    let failing = resources.iter().filter_map(|resource| Some((&resource.resource, resource.error.as_ref()?)));
    rows.extend(failing.map(|(resource, error)| row("cannot follow", format!("{resource}: {error}"))));
    rows.extend(kubernetes.cache_problem.iter().map(|problem| row("cache", problem.clone())));
    rows
}

/// What carries traffic from and to the outside.
fn uplink(uplink: &UplinkStatus) -> Vec<Vec<String>> {
    let interfaces: Vec<&str> = uplink.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    let state = match (uplink.state.as_str(), &uplink.reason) {
        ("up", _) => format!(
            "{}, {} of Services, source ports {} for TCP and {} for UDP, {} relayed",
            interfaces.join(", "),
            counted(uplink.claimed_ports as usize, "port", "ports"),
            uplink.source_ports_tcp,
            uplink.source_ports_udp,
            counted(uplink.relayed as usize, "connection", "connections")
        ),
        (state, Some(reason)) => format!("{state}: {reason}"),
        (state, None) => state.to_owned(),
    };
    let mut rows = vec![row("uplink", state)];
    if !uplink.announced.is_empty() {
        let announced: Vec<String> = uplink.announced.iter().map(ToString::to_string).collect();
        rows.push(row("announces", announced.join(", ")));
    }
    if let Some(hindrance) = &uplink.hindrance {
        rows.push(row("announces", format!("nothing: {hindrance}")));
    }
    if !uplink.alive.is_empty() {
        rows.push(row("hears of", uplink.alive.join(", ")));
    }
    rows
}

/// `podplane ports`.
pub(super) fn ports(ports: &[Port]) -> String {
    let mut rows =
        vec![cells(["ID", "OWNER", "ADDRESSES", "INTERFACE", "MODE", "SHARD", "RX", "RX BYTES", "TX", "TX BYTES"])];
    for port in ports {
        let owner = if port.kind == "host" { "(node)".to_owned() } else { format!("{}/{}", port.namespace, port.name) };
        let addresses: Vec<String> = port.addresses.iter().map(ToString::to_string).collect();
        rows.push(vec![
            port.id.to_string(),
            owner,
            addresses.join(" "),
            port.ifname.clone(),
            port.mode.clone(),
            port.shard.to_string(),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
        ]);
    }
    columns(&rows, &[6, 7, 8, 9])
}

/// `podplane flows`.
pub(super) fn flows(flows: &[Flow]) -> String {
    let mut rows =
        vec![cells(["PORT", "PROTOCOL", "FROM", "TO", "STATE", "SENT", "BYTES", "ANSWERED", "BYTES", "IDLE"])];
    for flow in flows {
        let to = match (&flow.service, &flow.backend) {
            (Some(service), Some(backend)) => format!("{} (service {service}) -> {backend}", bare(&flow.to)),
            (None, Some(backend)) => format!("{} -> {backend}", flow.to),
            _ => flow.to.to_string(),
        };
        rows.push(vec![
            flow.port.to_string(),
            flow.protocol.clone(),
            flow.from.to_string(),
            to,
            flow.state.clone(),
            flow.sent.packets.to_string(),
            flow.sent.bytes.to_string(),
            flow.answered.packets.to_string(),
            flow.answered.bytes.to_string(),
            duration(flow.idle_ms),
        ]);
    }
    columns(&rows, &[5, 6, 7, 8, 9])
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn bare(endpoint: &Endpoint) -> String {
    Endpoint { owner: None, ..endpoint.clone() }.to_string()
}

pub(super) fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![format!("{name}:"), value]
}

/// Aligns `rows`; the columns in `right` to the right. The last column is not padded.
pub(super) fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            match (right.contains(&column), column + 1 == count) {
                (true, _) => text.push_str(&format!("{cell:>width$}")),
                (false, false) => text.push_str(&format!("{cell:<width$}")),
                (false, true) => text.push_str(cell),
            }
            text.push_str(if column + 1 == count { "\n" } else { "  " });
        }
    }
    text
}

/// Milliseconds for people: `350ms`, `12s`, `3m20s`, `5h02m`, `3d04h`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::Traffic;

    #[test]
    fn columns_are_aligned_and_end_without_blanks() {
        let rows = [cells(["N", "NAME"]), cells(["10", "a"]), cells(["7", "longer"])];
        assert_eq!(columns(&rows, &[0]), " N  NAME\n10  a\n 7  longer\n");
    }

    #[test]
    fn durations_have_two_units() {
        let texts = [5, 1_000, 61_000, 3_660_000, 90_000_000].map(duration);
        assert_eq!(texts, ["5ms", "1s", "1m01s", "1h01m", "1d01h"]);
    }

    #[test]
    fn a_flow_through_a_service_shows_who_answers() {
        let end = |address: &str, port, owner: Option<&str>| Endpoint {
            address: address.parse().unwrap(),
            port,
            owner: owner.map(str::to_owned),
        };
        let flow = Flow {
            port: 3,
            protocol: "TCP".to_owned(),
            from: end("10.244.1.2", 40000, Some("default/web")),
            to: end("10.96.1.1", 80, None),
            service: Some("default/api".to_owned()),
            backend: Some(end("fd00::2", 8080, Some("default/api-1"))),
            state: "established".to_owned(),
            sent: Traffic { packets: 4, bytes: 400 },
            answered: Traffic { packets: 3, bytes: 300 },
            idle_ms: 12,
        };
        let text = flows(&[flow]);
        assert!(text.contains("10.244.1.2:40000 (default/web)"), "{text}");
        assert!(text.contains("10.96.1.1:80 (service default/api) -> [fd00::2]:8080 (default/api-1)"), "{text}");
    }
}
