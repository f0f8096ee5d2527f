//! What Prometheus scrapes: the counters and states of a node process as one page of OpenMetrics text. `docs/metrics.md` explains every
//! name; a test compares both.
//!
//! The page is made from what the API shows, anew for each scrape. Labels are bounded by what a node has: its ports, the reasons of
//! drops. Of single Services, rules and flows there is nothing here (a cluster has tens of thousands): `podplane services`,
//! `policies` and `flows` list them.

use crate::api::{DataplaneStatus, DnsStatus, Port, Status, UplinkStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Media type of a page.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What one page tells.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    pub(crate) status: Status,
    /// Empty before there is a dataplane.
    pub(crate) ports: Vec<Port>,
    /// Every reason with its count; empty before there is a dataplane.
    pub(crate) drops: Vec<(&'static str, u64)>,
    pub(crate) process: Process,
}

/// The process itself, under the names that Prometheus' own client libraries use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    cpu_seconds: f64,
    open_fds: u64,
}

impl Process {
    /// What the kernel says about this process; 0 where it says nothing.
    pub(crate) fn read() -> Process {
        use nix::sys::resource::{UsageWho, getrusage};
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        let used = getrusage(UsageWho::RUSAGE_SELF);
        Process {
            cpu_seconds: used.map_or(0.0, |used| seconds(used.user_time()) + seconds(used.system_time())),
            open_fds: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        }
    }
}

/// The page's text.
pub(crate) fn page(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes all text");
    text
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.process(&mut page)?;
        self.config(&mut page)?;
        let Some(dataplane) = &self.status.dataplane else { return Ok(()) };
        frames(&mut page, dataplane)?;
        self.drops(&mut page)?;
        self.ports(&mut page)?;
        uplink(&mut page, &dataplane.uplink)?;
        dataplane.dns.as_ref().map_or(Ok(()), |dns| names(&mut page, dns))
    }
}

impl Scrape {
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let Scrape { status, process, .. } = self;
        let began = SystemTime::now() - Duration::from_millis(status.uptime_ms);
        let began = began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        page.seconds("process_cpu", "Processor time used, user and system", process.cpu_seconds)?;
        page.gauge("process_resident_memory_bytes", "Memory that is resident", status.resident_bytes as f64)?;
        page.gauge("process_open_fds", "Open file descriptors", process.open_fds as f64)?;
        page.gauge("process_start_time_seconds", "When the process started, since 1970", began)?;
        let build = [([("version", status.version.as_str()), ("node", status.node.as_str())], 1.0)];
        page.gauges("podplane_build_info", "Version of podplane and name of the node", build)
    }

    fn config(&self, page: &mut Page<'_>) -> fmt::Result {
        let config = &self.status.config;
        let count = |n: usize| n as f64;
        page.gauge("podplane_ready", "1 while tables are in force", f64::from(u8::from(self.status.ready)))?;
        page.counter("podplane_config_changes", "Changes of the source that were seen", config.generation)?;
        page.gauge("podplane_config_epoch", "Number of the tables in force", config.epoch as f64)?;
        let age = config.age_ms as f64 / 1e3;
        page.gauge("podplane_config_age_seconds", "Time since the tables in force were put in force", age)?;
        let took = config.took_us as f64 / 1e6;
        let help = "Time that the last change took, from the look at the source until all shards had it in force";
        page.gauge("podplane_config_apply_seconds", help, took)?;
        let compiled = config.compile_us as f64 / 1e6;
        page.gauge("podplane_config_compile_seconds", "The part of it in which objects were compiled", compiled)?;
        let objects = [
            ([("kind", "node")], count(config.nodes)),
            ([("kind", "pod")], count(config.pods)),
            ([("kind", "service-port")], count(config.service_ports)),
            ([("kind", "policy")], count(config.policies)),
        ];
        page.gauges("podplane_config_objects", "What the tables in force hold", objects)?;
        let problems = ["warning", "closed", "refused", "unreadable"].map(|severity| {
            let of_it = config.problems.iter().filter(|problem| problem.severity == severity);
            ([("severity", severity)], count(of_it.count()))
        });
        page.gauges("podplane_config_problems", "What is wrong with the source", problems)
    }

    fn drops(&self, page: &mut Page<'_>) -> fmt::Result {
        let reasons = self.drops.iter().map(|(reason, count)| ([("reason", *reason)], *count));
        page.counters("podplane_drops", "Frames discarded, by reason", reasons)
    }

    fn ports(&self, page: &mut Page<'_>) -> fmt::Result {
        let each = |value: fn(&Port) -> u64| {
            let labelled = move |port: &'_ Port| {
                let labels =
                    [("kind", port.kind.clone()), ("namespace", port.namespace.clone()), ("pod", port.name.clone())];
                (labels, value(port))
            };
            self.ports.iter().map(labelled)
        };
        type PortCounter = (&'static str, &'static str, fn(&Port) -> u64);
        let counters: [PortCounter; 5] = [
            ("podplane_port_sent_packets", "Frames from the attached side; a super-frame counts once", |port| {
                port.rx_packets
            }),
            ("podplane_port_sent_bytes", "Bytes from the attached side", |port| port.rx_bytes),
            ("podplane_port_sent_dropped", "Of the frames sent, those discarded", |port| port.rx_dropped),
            ("podplane_port_received_packets", "Frames to the attached side", |port| port.tx_packets),
            ("podplane_port_received_bytes", "Bytes to the attached side", |port| port.tx_bytes),
        ];
        for (name, help, value) in counters {
            page.counters(name, help, each(value))?;
        }
        Ok(())
    }
}

fn frames(page: &mut Page<'_>, dataplane: &DataplaneStatus) -> fmt::Result {
    page.gauge("podplane_ports", "Ports, the host port included", dataplane.ports as f64)?;
    page.gauge("podplane_flows", "Flows in the tables of all ports", dataplane.flows as f64)?;
    page.gauge(
        "podplane_frames_held",
        "Frames that wait, such as fragments without their first",
        dataplane.held as f64,
    )?;
    page.counter("podplane_frames_received", "Frames handed to the switch", dataplane.received)?;
    let fates = [
        ([("fate", "forwarded")], dataplane.forwarded),
        ([("fate", "answered")], dataplane.answered),
        ([("fate", "asked")], dataplane.asked),
        ([("fate", "dropped")], dataplane.dropped),
    ];
    page.counters("podplane_frames", "Frames by what became of them", fates)?;
    let (received, sent) = (dataplane.tunnel_received, dataplane.tunnel_sent);
    let both = |received, sent| [([("direction", "received")], received), ([("direction", "sent")], sent)];
    page.counters("podplane_tunnel_datagrams", "Datagrams of the overlay", both(received.datagrams, sent.datagrams))?;
    page.counters("podplane_tunnel_calls", "System calls that moved them", both(received.calls, sent.calls))?;
    let learned = &dataplane.names;
    page.gauge(
        "podplane_learned_names",
        "Pairs of name and address that rules with domainNames go by",
        learned.held as f64,
    )?;
    page.counter("podplane_learned_names_forgotten", "Of those, given up for want of room", learned.forgotten)?;
    page.counter(
        "podplane_drop_records_forgotten",
        "Records of drops that gave way to more recent ones",
        dataplane.drops_forgotten,
    )
}

fn uplink(page: &mut Page<'_>, uplink: &UplinkStatus) -> fmt::Result {
    let states = ["up", "off", "missing"].map(|state| ([("state", state)], f64::from(u8::from(uplink.state == state))));
    page.gauges("podplane_uplink", "1 for the state in which the way to the outside is", states)?;
    page.gauge(
        "podplane_uplink_claimed_ports",
        "Ports of Services that are held for the outside",
        uplink.claimed_ports.into(),
    )?;
    let held = [
        ([("protocol", "tcp")], f64::from(uplink.source_ports_tcp)),
        ([("protocol", "udp")], f64::from(uplink.source_ports_udp)),
    ];
    page.gauges(
        "podplane_uplink_source_ports",
        "Source ports that are held for pods' connections to the outside",
        held,
    )?;
    let announced = uplink.announced.len() as f64;
    page.gauge("podplane_uplink_announced_addresses", "LoadBalancer addresses that this node answers for", announced)
}

fn names(page: &mut Page<'_>, dns: &DnsStatus) -> fmt::Result {
    let queries = [([("transport", "udp")], dns.udp), ([("transport", "tcp")], dns.tcp)];
    page.counters("podplane_dns_queries", "Messages to the cluster DNS", queries)?;
    let answers = [
        ([("answer", "no-error")], dns.no_error),
        ([("answer", "no-data")], dns.no_data),
        ([("answer", "nx-domain")], dns.nx_domain),
        ([("answer", "serv-fail")], dns.serv_fail),
        ([("answer", "refused")], dns.refused),
        ([("answer", "none")], dns.silent),
    ];
    page.counters("podplane_dns_answers", "What was answered", answers)?;
    page.counter("podplane_dns_truncated", "Answers over UDP that had no room for all records", dns.truncated)?;
    page.counter("podplane_dns_forwarded", "Queries that upstreams know about", dns.forwarded)?;
    page.counter("podplane_dns_cached", "Of those, answered from memory", dns.cached)?;
    page.counter("podplane_dns_upstream_failures", "Questions that no upstream answered", dns.upstream_failed)?;
    page.counter(
        "podplane_dns_overloaded",
        "Queries and packets given up because there were too many",
        dns.overloaded,
    )?;
    page.gauge("podplane_dns_connections", "TCP connections at the moment", dns.connections as f64)
}

/// Writes metrics one after another. Counters are given without `_total`.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }

    /// A counter of seconds; `_seconds` comes behind `name`.
    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, Some(&Unit::Seconds), counter.metric_type())?)
    }

    fn counters<V: EncodeLabelValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, V); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'l str); N], f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ConfigStatus, Problem, SourceStatus};
    use std::collections::BTreeSet;

    fn port() -> Port {
        Port {
            id: 3,
            kind: "pod".into(),
            namespace: "shop".into(),
            name: "web \"1\"".into(),
            container_id: "c".into(),
            addresses: vec!["10.244.0.5".parse().unwrap()],
            gateways: Vec::new(),
            mac: String::new(),
            netns: "/run/netns/web".into(),
            ifname: "eth0".into(),
            mtu: 1450,
            mode: "offload".into(),
            shard: 0,
            rx_packets: 7,
            rx_bytes: 700,
            rx_dropped: 1,
            tx_packets: 5,
            tx_bytes: 500,
        }
    }

    fn full() -> Scrape {
        let dataplane = DataplaneStatus {
            received: 12,
            forwarded: 9,
            uplink: UplinkStatus { state: "up".into(), ..UplinkStatus::default() },
            dns: Some(DnsStatus { udp: 4, no_error: 3, ..DnsStatus::default() }),
            ..DataplaneStatus::default()
        };
        let problem = Problem {
            severity: "refused".into(),
            file: String::new(),
            object: String::new(),
            field: String::new(),
            message: String::new(),
        };
        let status = Status {
            version: "1.2.3".into(),
            node: "node1".into(),
            pid: 1,
            uptime_ms: 5000,
            resident_bytes: 4096,
            ready: true,
            waiting_for: None,
            source: SourceStatus::default(),
            config: ConfigStatus { age_ms: 1500, problems: vec![problem], ..ConfigStatus::default() },
            dataplane: Some(dataplane),
        };
        Scrape { status, ports: vec![port()], drops: vec![("policy-denied", 2)], process: Process::read() }
    }

    #[test]
    fn a_page_has_values_with_their_labels() {
        let text = page(full());
        for line in [
            "podplane_ready 1.0",
            "podplane_config_age_seconds 1.5",
            "podplane_config_problems{severity=\"refused\"} 1.0",
            "podplane_frames_total{fate=\"forwarded\"} 9",
            "podplane_drops_total{reason=\"policy-denied\"} 2",
            "podplane_port_sent_bytes_total{kind=\"pod\",namespace=\"shop\",pod=\"web \\\"1\\\"\"} 700",
            "podplane_uplink{state=\"up\"} 1.0",
            "podplane_dns_queries_total{transport=\"udp\"} 4",
            "podplane_build_info{version=\"1.2.3\",node=\"node1\"} 1.0",
            "process_resident_memory_bytes 4096.0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_node_that_waits_has_a_page_too() {
        let mut scrape = full();
        (scrape.status.ready, scrape.status.dataplane) = (false, None);
        let text = page(scrape);
        assert!(text.contains("podplane_ready 0.0\n") && !text.contains("podplane_frames"), "{text}");
    }

    #[test]
    fn g11_every_name_is_documented_and_every_documented_name_is_there() {
        let text = page(full());
        let types: BTreeSet<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
            .collect();
        let document = include_str!("../../docs/metrics.md");
        let node = document.split("## The Ingress proxy").next().unwrap();
        let rows = node.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
        let documented: BTreeSet<String> = rows.map(str::to_owned).collect();
        assert_eq!(types, documented);
    }
}
