//! Compiling in the bench's own process: from nothing, and one change after another; and what a verdict costs.

use super::super::report::median;
use super::crowd::{Crowd, closed_policy, open_policy};
use super::{Comparison, Times, each, milliseconds};
use crate::error::{LabError, Result};
use policy::cluster::{Definition, Definitions, Delta, FileChange};
use policy::compile::{CompileOptions, Compiler};
use policy::objects::parse;
use policy::tables::{Direction, PodIndex, Question, Tables};
use serde::Serialize;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;
use wire::Protocol;

/// Times that everything is compiled from nothing.
const FROM_NOTHING: usize = 5;

/// What compiling costs.
#[derive(Clone, Debug, Serialize)]
pub struct CompileReport {
    /// Whether each pod differs from all others in a label that policies read.
    pub each_pod_its_own: bool,
    /// Compiling all of it from nothing, in milliseconds, the median.
    pub from_nothing_ms: f64,
    /// One pod's labels changed.
    pub pod_label_ms: Times,
    /// One pod came or went.
    pub pod_ms: Times,
    /// One namespace's labels changed.
    pub namespace_label_ms: Times,
    /// One policy's rules changed.
    pub policy_ms: Times,
}

/// A cluster that changes, and its compiler.
struct Running {
    definitions: Definitions,
    compiler: Compiler,
    tables: Tables,
}

impl Running {
    /// From the delta to finished tables, and the last ones freed; in milliseconds.
    fn change(&mut self, file: &str, text: &str) -> Result<f64> {
        let delta = self.definitions.apply([file_change(file, text)?]);
        let epoch = self.tables.epoch + 1;
        let began = Instant::now();
        (self.tables, _) = self.compiler.compile(self.definitions.cluster(), &delta, epoch);
        Ok(milliseconds(began))
    }
}

fn file_change(file: &str, text: &str) -> Result<FileChange> {
    let parsed = parse(file, text);
    match parsed.problems.first() {
        Some(problem) => Err(LabError::Failed(format!("an object of the bench is refused: {problem}"))),
        None => Ok(FileChange { file: file.into(), objects: parsed.objects.iter().map(Definition::new).collect() }),
    }
}

/// Measures a crowd.
pub(super) fn run(crowd: Crowd) -> Result<CompileReport> {
    let mut definitions = Definitions::default();
    let files: Result<Vec<FileChange>> = crowd.files().map(|(file, text)| file_change(&file, &text)).collect();
    definitions.apply(files?);
    let mut from_nothing = Vec::new();
    for _ in 0..FROM_NOTHING {
        let began = Instant::now();
        let made = Compiler::new(CompileOptions::default()).compile(definitions.cluster(), &Delta::default(), 1);
        from_nothing.push(milliseconds(began));
        drop(made);
    }
    let mut compiler = Compiler::new(CompileOptions::default());
    let (tables, _) = compiler.compile(definitions.cluster(), &Delta::default(), 1);
    let mut running = Running { definitions, compiler, tables };
    let pod = |time| each(time, crowd.pods);
    let pod_label_ms = Times::of(|time| running.change(&crowd.pod_file(pod(time)), &crowd.pod(pod(time), time)))?;
    let pod_ms = Times::of(|time| {
        let (number, goes) = (pod(time / 2), time % 2 == 0);
        running.change(&crowd.pod_file(number), &if goes { String::new() } else { crowd.pod(number, 0) })
    })?;
    let namespace_label_ms = Times::of(|time| {
        let number = each(time, crowd.namespaces);
        running.change(&crowd.namespace_file(number), &crowd.namespace(number, time))
    })?;
    let policy_ms = Times::of(|time| {
        let number = each(time, crowd.policies);
        running.change(&crowd.policy_file(number), &crowd.policy(number, time))
    })?;
    Ok(CompileReport {
        each_pod_its_own: crowd.each_its_own,
        from_nothing_ms: median(&from_nothing),
        pod_label_ms,
        pod_ms,
        namespace_label_ms,
        policy_ms,
    })
}

/// Verdicts in a round.
const VERDICTS: u32 = 2_000_000;

/// Nanoseconds of a verdict about a pod that one policy selects, and about one that all do.
pub(super) fn verdicts(crowd: Crowd, rounds: usize) -> Result<Comparison> {
    let (few, many) = (Judged::new(crowd, 1)?, Judged::new(crowd, crowd.policies)?);
    let mut comparison = Comparison::new("one verdict, ns");
    for _ in 0..rounds {
        comparison.add(few.nanoseconds(), many.nanoseconds());
    }
    Ok(comparison)
}

/// A pod that some policies select, beside a crowd.
struct Judged {
    tables: Tables,
    pod: PodIndex,
}

impl Judged {
    fn new(crowd: Crowd, policies: u32) -> Result<Judged> {
        let pod = |name: &str, last: u8| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: bench, labels: {{app: {name}}}}}, \
                 spec: {{nodeName: node1, containers: [{{name: c, image: i}}]}}, status: {{podIP: 10.244.1.{last}}}}}"
            )
        };
        let pods = [("near".to_owned(), pod("near", 3)), ("client".to_owned(), pod("client", 2))];
        let closed = (1..policies).map(|number| (format!("closed/{number}"), closed_policy(number)));
        let files = pods.into_iter().chain(closed).chain([("open".to_owned(), open_policy())]).chain(crowd.files());
        let files: Result<Vec<FileChange>> = files.map(|(file, text)| file_change(&file, &text)).collect();
        let mut definitions = Definitions::default();
        definitions.apply(files?);
        let (tables, _) = Compiler::new(CompileOptions::default()).compile(definitions.cluster(), &Delta::default(), 1);
        let pod = tables.find_pod("bench", "near");
        let pod = pod.ok_or_else(|| LabError::Failed("a pod of the bench is not in the tables".to_owned()))?;
        Ok(Judged { tables, pod })
    }

    fn nanoseconds(&self) -> f64 {
        let began = Instant::now();
        for number in 0..VERDICTS {
            let question = Question {
                direction: Direction::ToPod,
                subject: self.pod,
                peer: black_box(CLIENT),
                protocol: Protocol::TCP,
                port: number as u16,
                names: &[],
            };
            let verdict = black_box(self.tables.check(&question));
            debug_assert!(verdict.allowed);
        }
        began.elapsed().as_nanos() as f64 / f64::from(VERDICTS)
    }
}

/// Address of the pod that asks.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 2));
