//! Services in the bench, counted instead of compared: pairs of datagrams as resolvers send them, and flows to one destination
//! outside. What matters is that none is lost; the time and the memory are stated.

use super::podplane::BenchLab;
use super::{Place, own_words_of};
use crate::error::{LabError, Result};
use crate::server::ServerProtocol;
use crate::traffic::{Traffic, flows, pairs};
use control::api::Client;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Stdio};

/// The server of `world`, which every lab has.
const OUTSIDE: &str = "172.30.0.100:80";

/// Flows that one process opens: less than the descriptors that a container usually gets.
const FLOWS_PER_PROCESS: u32 = 15_000;

/// Source port of the first flow. The pod's kernel would choose from 28,232 ports only.
const FIRST_PORT: u16 = 2_000;

/// How many of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Pairs of datagrams from one socket to a ClusterIP.
    pub pairs: u64,
    /// Flows from one pod to one destination outside, all open at once.
    pub flows: u32,
}

/// What came of them.
#[derive(Clone, Debug, Serialize)]
pub struct TrafficReport {
    /// Pairs of datagrams sent from one socket to a ClusterIP.
    pub pairs: u64,
    /// Datagrams of them that were not answered.
    pub pairs_lost: u64,
    /// Pairs per second.
    pub pairs_per_second: f64,
    /// Flows to one destination outside, all open at once.
    pub flows: u32,
    /// Flows that were answered in every round, from one and the same address and port.
    pub flows_answered: u32,
    /// Flows that the node could not serve.
    pub flows_refused: u32,
    /// Growth of the node's memory in bytes for each: an entry of the pod's port and one of the uplink's.
    pub bytes_per_flow: f64,
}

impl TrafficReport {
    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "\npairs of datagrams from one socket to a ClusterIP");
        let _ = writeln!(text, "  {:<44}{:>12}", "pairs", self.pairs);
        let _ = writeln!(text, "  {:<44}{:>12}", "datagrams lost", self.pairs_lost);
        let _ = writeln!(text, "  {:<44}{:>12.0}", "pairs per second", self.pairs_per_second);
        let _ = writeln!(text, "\nflows of one pod to one destination outside, all open at once");
        let _ = writeln!(text, "  {:<44}{:>12}", "flows", self.flows);
        let _ = writeln!(text, "  {:<44}{:>12}", "answered in every round", self.flows_answered);
        let _ = writeln!(text, "  {:<44}{:>12}", "refused", self.flows_refused);
        let _ = writeln!(text, "  {:<44}{:>12.0}", "memory of the node process per flow, bytes", self.bytes_per_flow);
        text
    }
}

/// The part of an answer about flows that counts here.
#[derive(Deserialize)]
struct Flows {
    answered: u32,
    refused: u32,
    moved: u32,
}

/// Counts in a running lab.
pub(super) fn run(lab: &BenchLab, node: &Client, counts: Counts) -> Result<TrafficReport> {
    let client = lab.place("client");
    let resolver = SocketAddr::new(lab.service_address().parse().expect("an address"), BenchLab::RESOLVER_PORT);
    let asked = pairs::Pairs { target: resolver, count: counts.pairs, limit_ms: u64::MAX, window: 16, fresh: false };
    let pairs: pairs::Report = send(&client, &Traffic::Pairs(asked))?;
    let before = super::services::ask(node)?.resident_bytes;
    let open = open_flows(&client, counts.flows)?;
    let after = super::services::ask(node)?.resident_bytes;
    let flows = ask_again(open)?;
    Ok(TrafficReport {
        pairs: pairs.pairs,
        pairs_lost: pairs.lost,
        pairs_per_second: pairs.pairs as f64 * 1e3 / pairs.elapsed_ms.max(1) as f64,
        flows: counts.flows,
        flows_answered: flows.iter().map(|flows| flows.answered.saturating_sub(flows.moved)).sum(),
        flows_refused: flows.iter().map(|flows| flows.refused).sum(),
        bytes_per_flow: after.saturating_sub(before) as f64 / f64::from(counts.flows),
    })
}

/// A client whose flows are all open.
struct OpenFlows {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// Opens `count` flows to one destination, from as many processes as it takes: each may only have so many descriptors.
fn open_flows(client: &Place, count: u32) -> Result<Vec<OpenFlows>> {
    let mut open = Vec::new();
    for first in (0..count).step_by(FLOWS_PER_PROCESS as usize) {
        let asked = flows::Flows {
            target: OUTSIDE.parse().expect("an address"),
            protocol: ServerProtocol::Udp,
            count: FLOWS_PER_PROCESS.min(count - first),
            rounds: 2,
            timeout_ms: 20_000,
            pause: true,
            first_port: Some(FIRST_PORT + first as u16),
        };
        let words = words(&Traffic::Flows(asked))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = client
            .command(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| LabError::io("a client of the bench", error))?;
        let answers = BufReader::new(child.stdout.take().expect("standard output is piped"));
        open.push(OpenFlows { child, answers });
    }
    for flows in &mut open {
        read_line(&mut flows.answers)?;
    }
    Ok(open)
}

/// Has every flow ask once more, of all processes at once: an idle flow is kept for half a minute only.
fn ask_again(open: Vec<OpenFlows>) -> Result<Vec<Flows>> {
    let mut asked = Vec::new();
    for OpenFlows { mut child, answers } in open {
        let mut stdin = child.stdin.take().expect("standard input is piped");
        stdin.write_all(b"\n").map_err(|error| LabError::io("a client of the bench", error))?;
        asked.push((child, answers));
    }
    let answer = |(mut child, mut answers): (Child, BufReader<ChildStdout>)| {
        let line = read_line(&mut answers)?;
        let _ = child.wait();
        serde_json::from_str(&line)
            .map_err(|_| LabError::Failed(format!("a client of the bench gave no figures: {line}")))
    };
    asked.into_iter().map(answer).collect()
}

fn read_line(answers: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    match answers.read_line(&mut line) {
        Ok(0) => Err(LabError::Failed("a client of the bench ended early (see above)".to_owned())),
        Ok(_) => Ok(line),
        Err(error) => Err(LabError::io("a client of the bench", error)),
    }
}

fn words(traffic: &Traffic) -> Result<Vec<String>> {
    own_words_of(&["traffic", &serde_json::to_string(traffic).expect("an order is plain data")])
}

/// Runs the client and reads what it says last.
fn send<T: DeserializeOwned>(client: &Place, traffic: &Traffic) -> Result<T> {
    let words = words(traffic)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = client.command(&words).output().map_err(|error| LabError::io("a client of the bench", error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let stderr = String::from_utf8_lossy(&output.stderr);
    answer.ok_or_else(|| LabError::Failed(format!("a client of the bench gave no figures: {text}{stderr}")))
}
