//! Names in the bench: the cluster DNS that a node answers at the pod's own port, next to unbound and dnsmasq with the same name as local
//! data. One A query over and over, sent by dnsperf.
//!
//! Each peer is asked on two ways: in another pod of the same node, which is where a cluster's DNS pod would be, and between two
//! namespaces on a bridge of the kernel, which is as good as it gets. All are asked in turn, round after round. Counted are answers per
//! second, and per second of processor time that the answering process used (of podplane the node process: what it takes to read
//! and write the packets is in it); then how long each answer took, at the same [`STEADY_PER_SECOND`] for all.

use super::podplane::BenchLab;
use super::report::median;
use super::{Cpus, Options, Pair, kernel, pinned};
use crate::error::{LabError, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The Service that is asked for, and what everybody says it is.
const NAME: &str = "near.bench.svc.cluster.local";

/// Queries per second at which answers are timed: half of what a node has to do at least on one core.
const STEADY_PER_SECOND: u32 = 50_000;

/// Queries that dnsperf has under way, its default.
const OUTSTANDING: &str = "100";

/// How long a server may take until it answers.
const SERVER_DEADLINE: Duration = Duration::from_secs(10);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Server {
    /// The node itself.
    Podplane,
    /// unbound, one thread.
    Unbound,
    /// dnsmasq.
    Dnsmasq,
}

/// On which way it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// From a pod to its own node.
    OwnNode,
    /// From a pod to another pod of its node.
    NextPod,
    /// Between two namespaces on a bridge.
    KernelBridge,
}

/// What was measured of one server on one way.
#[derive(Clone, Debug, Serialize)]
pub struct NamesSeries {
    /// Who answers.
    pub server: Server,
    /// On which way.
    pub way: Way,
    /// Answers per second, each round.
    pub per_second: Vec<f64>,
    /// Answers per second of processor time of the answering process, each round.
    pub per_cpu_second: Vec<f64>,
    /// Time of an answer at [`STEADY_PER_SECOND`] in microseconds, each round: median, 99th percentile.
    pub latency_us: Vec<(f64, f64)>,
    /// Queries that were not answered.
    pub lost: u64,
}

/// What was found about names.
#[derive(Clone, Debug, Serialize)]
pub struct NamesReport {
    /// All servers and ways.
    pub series: Vec<NamesSeries>,
}

impl NamesReport {
    /// The table for people.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "\n{:<34}{:>12}{:>14}{:>10}{:>10}{:>8}",
            "A queries", "per second", "per CPU second", "p50, us", "p99, us", "lost"
        );
        for series in &self.series {
            let title = match (series.server, series.way) {
                (Server::Podplane, _) => "podplane at the pod's own port".to_owned(),
                (server, Way::KernelBridge) => format!("{server:?} behind a kernel bridge").to_lowercase(),
                (server, _) => format!("{server:?} in the next pod").to_lowercase(),
            };
            let latency =
                |pick: fn(&(f64, f64)) -> f64| median(&series.latency_us.iter().map(pick).collect::<Vec<_>>());
            let _ = writeln!(
                text,
                "  {title:<32}{:>12.0}{:>14.0}{:>10.0}{:>10.0}{:>8}",
                median(&series.per_second),
                median(&series.per_cpu_second),
                latency(|(p50, _)| *p50),
                latency(|(_, p99)| *p99),
                series.lost
            );
        }
        text
    }
}

/// A server and where it is asked from.
struct Asked {
    series: NamesSeries,
    pair: Pair,
    /// Of the answering process, outside of all namespaces.
    pid: u32,
    /// Ends with the value.
    _process: Option<Process>,
}

/// A server that we started.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures in a running lab.
pub(super) fn run(lab: &BenchLab, cpus: Cpus, options: Options, progress: &mut dyn FnMut(&str)) -> Result<NamesReport> {
    let folder = std::env::temp_dir().join(format!("podplane-bench-names-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|e| LabError::io(folder.display(), e))?;
    let queries = folder.join("queries");
    fs::write(&queries, format!("{NAME} A\n")).map_err(|e| LabError::io(queries.display(), e))?;
    let kernel = kernel::Kernel::start()?;
    let near = lab.pairs()?.swap_remove(0);
    let bridge = kernel.pairs().swap_remove(0);
    let own = Pair { address: lab.dns_address().to_owned(), ..near.clone() };
    let cluster_dir = lab.cluster_dir()?.to_string_lossy().into_owned();
    let is_node1 = |words: &[&str]| words.windows(2).any(|pair| pair == ["--node-name", "node1"]);
    let node = find_process(|words| {
        is_node1(words) && words.get(1) == Some(&"node") && words.iter().any(|word| *word == cluster_dir)
    })?;
    // Where the peers are too. Left to the scheduler, its thread is drawn to the processor of the client that wakes it.
    let _pinned = Pinned::to(node, cpus.server)?;
    let mut asked =
        vec![Asked { series: series(Server::Podplane, Way::OwnNode), pair: own, pid: node, _process: None }];
    for (way, pair) in [(Way::NextPod, &near), (Way::KernelBridge, &bridge)] {
        for server in [Server::Unbound, Server::Dnsmasq] {
            asked.push(start(server, way, pair, cpus, &folder, lab)?);
        }
    }
    let queries = queries.to_string_lossy().into_owned();
    for round in 1..=options.rounds {
        for one in &mut asked {
            progress(&format!("round {round} of {}: {:?} ({:?})", options.rounds, one.series.server, one.series.way));
            let (before, began) = (cpu_seconds(one.pid)?, Instant::now());
            let most = ask_all(&one.pair, cpus, &queries, options.seconds)?;
            let used = cpu_seconds(one.pid)? - before;
            let answers = most.per_second * f64::from(options.seconds).min(began.elapsed().as_secs_f64());
            one.series.per_second.push(most.per_second);
            one.series.per_cpu_second.push(answers / used.max(0.01));
            let steady = ask_steadily(&one.pair, cpus, &queries, options.seconds, &folder.join("answers"))?;
            one.series.latency_us.push((steady.percentile(0.5), steady.percentile(0.99)));
            one.series.lost += most.lost + steady.lost;
        }
    }
    let _ = fs::remove_dir_all(&folder);
    Ok(NamesReport { series: asked.into_iter().map(|one| one.series).collect() })
}

fn series(server: Server, way: Way) -> NamesSeries {
    let (per_second, per_cpu_second, latency_us) = (Vec::new(), Vec::new(), Vec::new());
    NamesSeries { server, way, per_second, per_cpu_second, latency_us, lost: 0 }
}

/// Starts a peer and waits until it answers.
fn start(server: Server, way: Way, pair: &Pair, cpus: Cpus, folder: &Path, lab: &BenchLab) -> Result<Asked> {
    // Both peers of a way have the same address, so each has a port of its own.
    let port = if server == Server::Unbound { 5301 } else { 5302 };
    let name = format!("{server:?}-{way:?}.conf").to_lowercase();
    let (path, answer, address) = (folder.join(name), lab.service_address(), &pair.address);
    let (program, text) = match server {
        Server::Unbound => (
            "unbound",
            format!(
                "server:\n  interface: {address}@{port}\n  access-control: 0.0.0.0/0 allow\n  num-threads: 1\n  username: \"\"\n  \
                 chroot: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  local-zone: \"cluster.local.\" static\n  \
                 local-data: \"{NAME}. 5 IN A {answer}\"\nremote-control:\n  control-enable: no\n"
            ),
        ),
        _ => (
            "dnsmasq",
            format!(
                "keep-in-foreground\nno-resolv\nno-hosts\nuser=root\npid-file=\nbind-interfaces\nlisten-address={address}\n\
                 port={port}\nlocal=/cluster.local/\naddress=/{NAME}/{answer}\nlocal-ttl=5\n"
            ),
        ),
    };
    fs::write(&path, text).map_err(|e| LabError::io(path.display(), e))?;
    let conf = path.to_string_lossy().into_owned();
    let words = match server {
        Server::Unbound => vec![program.to_owned(), "-d".into(), "-c".into(), conf.clone()],
        _ => vec![program.to_owned(), format!("--conf-file={conf}")],
    };
    let words = pinned(cpus.server, &words);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = pair.server.command(&words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process(command.spawn().map_err(|e| LabError::io(format_args!("cannot start {program}"), e))?);
    let pair = Pair { address: format!("{address}#{port}"), ..pair.clone() };
    let deadline = Instant::now() + SERVER_DEADLINE;
    loop {
        let dig = ["dig", "+short", "+time=1", "+tries=1", "-p", &port.to_string(), &format!("@{address}"), NAME];
        let output = pair.client.command(&dig).stdin(Stdio::null()).output();
        let output = output.map_err(|e| LabError::io("cannot start dig", e))?;
        if String::from_utf8_lossy(&output.stdout).trim() == answer {
            break;
        }
        if Instant::now() >= deadline {
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(LabError::Failed(format!("{program} does not answer at {address} port {port}: {told}")));
        }
    }
    let is_it = |words: &[&str]| words[0].ends_with(program) && words.iter().any(|word| word.contains(conf.as_str()));
    let pid = find_process(is_it)?;
    Ok(Asked { series: series(server, way), pair, pid, _process: Some(process) })
}

/// What dnsperf found.
struct Found {
    per_second: f64,
    lost: u64,
    /// In microseconds, in order; empty unless they were asked for.
    latencies: Vec<f64>,
}

impl Found {
    fn percentile(&self, part: f64) -> f64 {
        let at = (self.latencies.len() as f64 * part) as usize;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// Asks for some seconds, as often as there are answers.
fn ask_all(pair: &Pair, cpus: Cpus, queries: &str, seconds: u32) -> Result<Found> {
    let words = dnsperf(pair, cpus, queries, seconds, &[]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = pair.client.command(&words).stdin(Stdio::null()).output();
    let output = output.map_err(|e| LabError::io("cannot start dnsperf", e))?;
    found(&String::from_utf8_lossy(&output.stdout), &String::from_utf8_lossy(&output.stderr))
}

/// Asks for some seconds at [`STEADY_PER_SECOND`], noting how long each answer took. dnsperf prints them one by one, to the file `answers`: a
/// reader at the other end of a pipe would compete with what is measured.
fn ask_steadily(pair: &Pair, cpus: Cpus, queries: &str, seconds: u32, answers: &Path) -> Result<Found> {
    let words = dnsperf(pair, cpus, queries, seconds, &["-v", "-Q", &STEADY_PER_SECOND.to_string()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let failed = |e| LabError::io(answers.display(), e);
    let mut command = pair.client.command(&words);
    command.stdin(Stdio::null()).stdout(fs::File::create(answers).map_err(failed)?);
    let output = command.stderr(Stdio::piped()).spawn().and_then(|child| child.wait_with_output());
    let output = output.map_err(|e| LabError::io("cannot start dnsperf", e))?;
    found(&fs::read_to_string(answers).map_err(failed)?, &String::from_utf8_lossy(&output.stderr))
}

fn dnsperf(pair: &Pair, cpus: Cpus, queries: &str, seconds: u32, more: &[&str]) -> Vec<String> {
    let (address, port) = pair.address.split_once('#').unwrap_or((&pair.address, "53"));
    let seconds = seconds.to_string();
    let words = ["dnsperf", "-s", address, "-p", port, "-d", queries, "-l", &seconds, "-q", OUTSTANDING];
    let words: Vec<String> = words.iter().chain(more).map(|word| (*word).to_owned()).collect();
    pinned(cpus.client, &words)
}

/// Reads what dnsperf printed.
fn found(text: &str, told: &str) -> Result<Found> {
    let figure = |title: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(title));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
    };
    let (Some(per_second), Some(lost)) = (figure("Queries per second:"), figure("Queries lost:")) else {
        let head: String = text.chars().take(500).collect();
        return Err(LabError::Failed(format!("dnsperf gave no figures: {head}{told}")));
    };
    let taken = text.lines().filter(|line| line.starts_with("> "));
    let mut latencies: Vec<f64> =
        taken.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).map(|seconds| seconds * 1e6).collect();
    latencies.sort_by(f64::total_cmp);
    Ok(Found { per_second, lost: lost as u64, latencies })
}

/// The process whose command line is this one.
fn find_process(is_it: impl Fn(&[&str]) -> bool) -> Result<u32> {
    let entries = fs::read_dir("/proc").map_err(|e| LabError::io("/proc", e))?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found = numbers.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&line);
        let words: Vec<&str> = text.split('\0').collect();
        is_it(&words)
    });
    found.next().ok_or_else(|| LabError::Failed("a process of the bench has ended".to_owned()))
}

/// The threads of a process on one processor; where they were before, when dropped.
struct Pinned(Vec<(Pid, CpuSet)>);

impl Pinned {
    fn to(process: u32, cpu: Option<usize>) -> Result<Pinned> {
        let Some(cpu) = cpu else { return Ok(Pinned(Vec::new())) };
        let failed = |e: io::Error| LabError::io("cannot pin the node process", e);
        let mut one = CpuSet::new();
        one.set(cpu).map_err(|e| failed(e.into()))?;
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{process}/task")).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(thread) = name.to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw) else { continue };
            let before = sched_getaffinity(thread).map_err(|e| failed(e.into()))?;
            sched_setaffinity(thread, &one).map_err(|e| failed(e.into()))?;
            threads.push((thread, before));
        }
        Ok(Pinned(threads))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (thread, before) in &self.0 {
            // It may have ended.
            let _ = sched_setaffinity(*thread, before);
        }
    }
}

/// Processor time that a process has used (proc(5), `stat`): user and system.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|e| LabError::io(&path, e))?;
    let behind_name = text.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f64> = behind_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse().ok()).collect();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64;
    Ok(fields.iter().sum::<f64>() / per_second)
}
