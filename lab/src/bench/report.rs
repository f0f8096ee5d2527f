//! What the bench found: medians per system and path, and the ratios between podplane and the kernel on the same path.

use super::{IngressReport, NamesReport, Options, PoliciesReport, ServicesReport};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// What is measured against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// The kernel's bridge between two veth pairs.
    KernelBridge,
    /// The kernel's VXLAN device on two nodes.
    KernelVxlan,
    /// A two-node lab.
    Podplane,
}

impl System {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            System::KernelBridge => "kernel bridge",
            System::KernelVxlan => "kernel VXLAN",
            System::Podplane => "podplane",
        }
    }
}

/// Where client and server are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// On one node.
    SameNode,
    /// On two nodes.
    TwoNodes,
}

impl Path {
    const ALL: [Path; 2] = [Path::SameNode, Path::TwoNodes];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Path::SameNode => "same node",
            Path::TwoNodes => "two nodes",
        }
    }

    /// The system that podplane is compared with.
    pub fn kernel(self) -> System {
        match self {
            Path::SameNode => System::KernelBridge,
            Path::TwoNodes => System::KernelVxlan,
        }
    }
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One TCP stream.
    Tcp,
    /// One byte there and back.
    RequestResponse,
    /// Connect, one byte each way, close.
    Connections,
}

impl Workload {
    pub(super) const ALL: [Workload; 3] = [Workload::Tcp, Workload::RequestResponse, Workload::Connections];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Workload::Tcp => "TCP stream",
            Workload::RequestResponse => "request/response",
            Workload::Connections => "connections",
        }
    }

    /// The figures in the JSON that its client printed.
    pub(super) fn read(self, answer: &Value) -> Option<Vec<(Metric, f64)>> {
        Some(match self {
            Workload::Tcp => {
                vec![(Metric::TcpGbps, answer["end"]["sum_received"]["bits_per_second"].as_f64()? / 1e9)]
            }
            Workload::RequestResponse => vec![
                (Metric::RoundTripP50Us, answer["p50_us"].as_f64()?),
                (Metric::RoundTripP99Us, answer["p99_us"].as_f64()?),
            ],
            Workload::Connections => vec![(Metric::ConnectionsPerSecond, answer["per_second"].as_f64()?)],
        })
    }
}

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Gigabits of payload per second that the receiver saw.
    TcpGbps,
    /// Median round trip in microseconds.
    RoundTripP50Us,
    /// 99th percentile of the round trip in microseconds.
    RoundTripP99Us,
    /// Connections opened, used and closed per second.
    ConnectionsPerSecond,
}

impl Metric {
    const ALL: [Metric; 4] =
        [Metric::TcpGbps, Metric::RoundTripP50Us, Metric::RoundTripP99Us, Metric::ConnectionsPerSecond];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Metric::TcpGbps => "TCP, one stream, Gb/s",
            Metric::RoundTripP50Us => "round trip p50, us (less is better)",
            Metric::RoundTripP99Us => "round trip p99, us (less is better)",
            Metric::ConnectionsPerSecond => "connections per second",
        }
    }

    fn digits(self) -> usize {
        if self == Metric::ConnectionsPerSecond { 0 } else { 1 }
    }
}

/// One metric of one system on one path, over the rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Measured system.
    pub system: System,
    /// Where client and server were.
    pub path: Path,
    /// What was measured.
    pub metric: Metric,
    /// One value per round.
    pub rounds: Vec<f64>,
    /// Their median.
    pub median: f64,
}

/// podplane's median divided by the kernel's on the same path.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// Where client and server were.
    pub path: Path,
    /// What was measured.
    pub metric: Metric,
    /// The kernel's side.
    pub against: System,
    /// podplane / kernel.
    pub ratio: f64,
}

/// All figures of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of rounds.
    pub rounds: usize,
    /// Seconds per measurement.
    pub seconds: u32,
    /// The figures.
    pub results: Vec<Series>,
    /// The comparison.
    pub ratios: Vec<Ratio>,
    /// What many Services cost, if that was measured.
    pub services: Option<ServicesReport>,
    /// What many policies cost, if that was measured.
    pub policies: Option<PoliciesReport>,
    /// What the cluster DNS answers, if that was measured.
    pub names: Option<NamesReport>,
    /// The Ingress proxy next to others, if that was measured.
    pub ingress: Option<IngressReport>,
}

impl Report {
    pub(super) fn new(options: Options) -> Report {
        let (rounds, seconds) = (options.rounds, options.seconds);
        Report {
            rounds,
            seconds,
            results: Vec::new(),
            ratios: Vec::new(),
            services: None,
            policies: None,
            names: None,
            ingress: None,
        }
    }

    /// Adds the value of one round.
    pub(super) fn add(&mut self, system: System, path: Path, metric: Metric, value: f64) {
        let known = self.results.iter_mut().find(|s| (s.system, s.path, s.metric) == (system, path, metric));
        match known {
            Some(series) => {
                series.rounds.push(value);
                series.median = median(&series.rounds);
            }
            None => self.results.push(Series { system, path, metric, rounds: vec![value], median: value }),
        }
        self.ratios = self.compare();
    }

    fn find(&self, system: System, path: Path, metric: Metric) -> Option<f64> {
        let series = self.results.iter().find(|s| (s.system, s.path, s.metric) == (system, path, metric));
        series.map(|series| series.median)
    }

    fn compare(&self) -> Vec<Ratio> {
        let mut ratios = Vec::new();
        for path in Path::ALL {
            for metric in Metric::ALL {
                let against = path.kernel();
                let ours = self.find(System::Podplane, path, metric);
                if let (Some(ours), Some(theirs)) = (ours, self.find(against, path, metric)) {
                    ratios.push(Ratio { path, metric, against, ratio: ours / theirs });
                }
            }
        }
        ratios
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut text = format!("medians of {} rounds of {} s, all systems in turn\n", self.rounds, self.seconds);
        for path in Path::ALL.into_iter().filter(|path| self.ratios.iter().any(|ratio| ratio.path == *path)) {
            let against = path.kernel();
            let _ = writeln!(
                text,
                "\n{:<38}{:>14}{:>14}{:>8}",
                path.title(),
                against.title(),
                System::Podplane.title(),
                "ratio"
            );
            for ratio in self.ratios.iter().filter(|ratio| ratio.path == path) {
                let digits = ratio.metric.digits();
                let value = |system| self.find(system, path, ratio.metric).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "  {:<36}{:>14.digits$}{:>14.digits$}{:>8.2}",
                    ratio.metric.title(),
                    value(against),
                    value(System::Podplane),
                    ratio.ratio
                );
            }
        }
        let services = self.services.as_ref().map(ServicesReport::table);
        let policies = self.policies.as_ref().map(PoliciesReport::table);
        let names = self.names.as_ref().map(NamesReport::table);
        let ingress = self.ingress.as_ref().map(IngressReport::table);
        [services, policies, names, ingress].into_iter().flatten().fold(text, |text, part| text + &part)
    }
}

pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests;
