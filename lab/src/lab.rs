//! A running lab and what can be done to it: the functions behind `podplane lab`.
//!
//! These run outside of the lab. What has to happen inside is done by our own binary in the lab's namespaces, which
//! answers with JSON on standard output; its standard error is ours.

use crate::cluster::{self, Snapshot, SourcedObject};
use crate::error::{LabError, Result};
use crate::matrix::{self, Attempt, Cell, Matrix};
use crate::names::{self, Meaning};
use crate::namespaces::anchor::{self, Boundary};
use crate::namespaces::enter;
pub use crate::nodes::Ending;
use crate::place::Place;
use crate::pods::PodSpec;
use crate::probe::{self, Host, Outcome, ProbeProtocol, Report, Request};
use crate::record::{LabLock, LabPaths, Record};
use crate::settings::Settings;
use crate::status::{self, Findings, LabStatus};
use crate::underlay::UnderlayKind;
use crate::{nodes, pods, underlay, world};
use control::controller::LabNetwork;
use policy::objects::{Object, Sourced};
use serde::de::DeserializeOwned;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use wire::Protocol;

pub use crate::cluster::Manifest;
pub use crate::settings::{Member, NodeOptions, TapMode};

/// Most nodes that the lab makes by itself.
pub const NODES_MAX: u16 = control::controller::LabNetwork::NODES_MAX;

/// How to start a lab.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Name of the lab.
    pub name: String,
    /// What runs in it; nothing means the bundled demo.
    pub manifests: Vec<Manifest>,
    /// Number of nodes where the manifests have no Node.
    pub nodes: u16,
    /// Whether to make a user namespace; always so for an ordinary user.
    pub rootless: bool,
    /// How the nodes open TAPs.
    pub tap_mode: TapMode,
    /// What joins the nodes.
    pub underlay: UnderlayKind,
    /// What every node is told about Services and the outside.
    pub node_options: NodeOptions,
}

/// What a change did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Objects that were given or deleted.
    pub objects: usize,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A running lab.
#[derive(Clone, Debug)]
pub struct Lab {
    paths: LabPaths,
    record: Record,
}

impl Lab {
    /// Starts a lab and waits until everything in it runs. On failure nothing is left of it. `say` is told warnings.
    pub fn up(options: &UpOptions, say: &mut dyn FnMut(&str)) -> Result<Lab> {
        let paths = LabPaths::new(&options.name)?;
        if options.nodes == 0 || options.nodes > NODES_MAX {
            return Err(LabError::BadInput(format!("--nodes {}: use 1 to {NODES_MAX}", options.nodes)));
        }
        let demo = options.manifests.is_empty().then(cluster::demo);
        let (given, warnings) = cluster::parse(demo.as_ref().unwrap_or(&options.manifests))?;
        let settings = Settings {
            nodes: options.nodes,
            tap_mode: options.tap_mode,
            underlay: options.underlay,
            node_options: options.node_options.clone(),
            member: None,
            underlay_ranges: Vec::new(),
        };
        let plan = cluster::plan(cluster::merge(Vec::new(), given), &[], &settings)?;
        warnings.iter().chain(&plan.warnings).for_each(|warning| say(warning));

        let lock = paths.lock()?;
        make_room(&paths)?;
        let rootless = options.rootless || !nix::unistd::geteuid().is_root();
        let started = settings
            .write(&paths.run_dir())
            .and_then(|()| plan.write(&paths.run_dir()))
            .and_then(|digest| Lab::start(&paths, &lock, rootless, &digest));
        if let Err(error) = started {
            if let Ok(Some(record)) = paths.read() {
                anchor::stop(record.anchor)?;
            }
            lock.remove()?;
            return Err(error);
        }
        started
    }

    fn start(paths: &LabPaths, lock: &LabLock, rootless: bool, digest: &str) -> Result<Lab> {
        let lab = Lab::anchored(paths, lock, if rootless { Boundary::Rootless } else { Boundary::Root })?;
        lab.converge(Some(digest))?;
        Ok(lab)
    }

    /// A lab in which nothing runs but its anchor.
    pub(crate) fn anchored(paths: &LabPaths, lock: &LabLock, boundary: Boundary) -> Result<Lab> {
        let pending = anchor::start(paths.name(), &paths.run_dir(), boundary)?;
        let rootless = boundary == Boundary::Rootless;
        let record = Record { name: paths.name().to_owned(), anchor: pending.anchor(), rootless };
        lock.write(&record)?;
        pending.commit()?;
        Ok(Lab { paths: paths.clone(), record })
    }

    /// The running lab called `name`.
    pub fn open(name: &str) -> Result<Lab> {
        let paths = LabPaths::new(name)?;
        let record = paths.running()?;
        Ok(Lab { paths, record })
    }

    /// Ends the lab called `name` and removes everything of it, also after a crash of any of its processes.
    pub fn down(name: &str) -> Result<()> {
        let paths = LabPaths::new(name)?;
        if paths.read()?.is_none() && !paths.run_dir().exists() {
            return Err(LabError::Failed(format!("there is no lab {name:?}")));
        }
        let lock = paths.lock()?;
        if let Some(record) = paths.read()? {
            anchor::stop(record.anchor)?;
        }
        lock.remove()
    }

    /// Directory of the lab's files.
    pub fn run_dir(&self) -> PathBuf {
        self.paths.run_dir()
    }

    /// Merges `manifests` into what the lab runs. Returns when the change is in force; bad input changes nothing.
    pub fn apply(&self, manifests: &[Manifest]) -> Result<Changed> {
        let (given, mut warnings) = cluster::parse(manifests)?;
        let objects = given.len();
        warnings.extend(self.change(|desired| cluster::merge(desired, given))?);
        Ok(Changed { objects, warnings })
    }

    /// Removes the objects that `manifests` name. Returns when the change is in force.
    pub fn delete(&self, manifests: &[Manifest]) -> Result<Changed> {
        let names = cluster::parse_names(manifests)?;
        let mut objects = 0;
        let warnings = self.change(|desired| {
            let (rest, removed) = cluster::without(desired, &names);
            objects = removed;
            rest
        })?;
        Ok(Changed { objects, warnings })
    }

    fn change(&self, edit: impl FnOnce(Vec<SourcedObject>) -> Vec<SourcedObject>) -> Result<Vec<String>> {
        let _lock = self.paths.lock()?;
        let run_dir = self.run_dir();
        if let Some(member) = Settings::read(&run_dir)?.member {
            let why =
                format!("only {member} of the lab runs here: change the manifests of its `podplane lab controller`");
            return Err(LabError::BadInput(why));
        }
        let desired = cluster::read(&cluster::desired_dir(&run_dir))?;
        let previous = cluster::read(&nodes::cluster_dir(&run_dir))?;
        let plan = cluster::plan(edit(desired), &previous, &Settings::read(&run_dir)?)?;
        let digest = plan.write(&run_dir)?;
        self.converge(Some(&digest))?;
        Ok(plan.warnings)
    }

    /// Makes the lab what its cluster directory says; with its digest, returns when that is in force.
    pub(crate) fn converge(&self, digest: Option<&str>) -> Result<()> {
        let run_dir = self.run_dir().display().to_string();
        let args: Vec<&str> = ["converge", &run_dir].into_iter().chain(digest).collect();
        let mut command = self.inside(&enter::Room::Lab, &args)?;
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped()).spawn();
        let child = child.as_mut().map_err(|e| LabError::Failed(format!("converge: {e}")))?;
        let mut answer = String::new();
        if let Some(stdout) = &mut child.stdout {
            std::io::Read::read_to_string(stdout, &mut answer).map_err(|e| LabError::io("converge", e))?;
        }
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            // What failed is the answer; the steps before were told on standard error.
            Ok(_) if !answer.trim().is_empty() => Err(LabError::Failed(answer.trim().to_owned())),
            Ok(status) => Err(LabError::Failed(format!("the lab's set-up ended: {status}"))),
            Err(e) => Err(LabError::io("converge", e)),
        }
    }

    /// Ends the process of `node`, which may be written as a PLACE, and starts it again; returns when it is ready, with the time
    /// that this took. Its pods go on running.
    pub fn restart(&self, node: &str, ending: Ending) -> Result<Duration> {
        let name = node.strip_prefix("node:").unwrap_or(node);
        let _lock = self.paths.lock()?;
        self.find(&format!("node:{name}"), &self.snapshot()?)?;
        let run_dir = self.run_dir().display().to_string();
        let ending = if ending == Ending::Killed { "kill" } else { "terminate" };
        self.ask(&enter::Room::Lab, &["restart", &run_dir, name, ending], None).map(Duration::from_millis)
    }

    /// Nodes and pods with their state.
    pub fn status(&self) -> Result<LabStatus> {
        let run_dir = self.run_dir();
        let findings: Findings = self.ask(&enter::Room::Lab, &["inspect", &run_dir.display().to_string()], None)?;
        let state = status::summarize(&findings);
        let (nodes, pods, joined) = findings;
        let Snapshot { ingresses, gateways, .. } = self.snapshot()?;
        Ok(LabStatus {
            name: self.record.name.clone(),
            state,
            rootless: self.record.rootless,
            anchor_pid: self.record.anchor.pid,
            run_dir,
            nodes,
            pods,
            ingresses,
            gateways,
            joined,
        })
    }

    /// The API socket of the process of `node`, which may be written as a PLACE.
    pub fn socket(&self, node: &str) -> Result<PathBuf> {
        let name = node.strip_prefix("node:").unwrap_or(node);
        self.find(&format!("node:{name}"), &self.snapshot()?)?;
        Ok(nodes::socket(&self.run_dir(), name))
    }

    /// A command that runs `argv` at `place`.
    pub fn exec(&self, place: &str, argv: &[String]) -> Result<Command> {
        let place = self.find(place, &self.snapshot()?)?;
        enter::command(self.record.anchor.pid, &place.room(&self.run_dir())?, argv)
    }

    /// A command that captures at `place`, and what a person would type for the same: to the screen, or as a pcap file on
    /// standard output when `to_file`.
    pub fn capture(&self, place: &str, to_file: bool) -> Result<(Command, String)> {
        let place = self.find(place, &self.snapshot()?)?;
        let interface = match place {
            Place::Underlay => underlay::BRIDGE,
            Place::Node(_) => "any",
            Place::Pod { .. } | Place::Unlabelled { .. } | Place::World(_) => underlay::INTERFACE,
        };
        // In a user namespace tcpdump cannot become another user, so it stays root.
        let mut argv: Vec<String> = ["tcpdump", "-n", "-U", "-Z", "root", "-i", interface].map(str::to_owned).to_vec();
        if to_file {
            argv.extend(["-w", "-"].map(str::to_owned));
        }
        let line = format!("podplane lab exec --name {} {place} -- {}", self.record.name, argv.join(" "));
        Ok((enter::command(self.record.anchor.pid, &place.room(&self.run_dir())?, &argv)?, line))
    }

    /// One real connection from `from` to `host`:`port`.
    pub fn probe(&self, from: &str, host: &str, port: u16, protocol: ProbeProtocol, timeout_ms: u64) -> Result<Report> {
        let snapshot = self.snapshot()?;
        let network = Settings::read(&self.run_dir())?.network();
        let place = self.find(from, &snapshot)?;
        let request = Request {
            host: find_host(host, (protocol.on_the_wire(), port), &place, &snapshot, &network)?,
            port,
            protocol,
            source: match place {
                Place::World(source) => source,
                _ => None,
            },
            timeout_ms,
        };
        let room = place.room(&self.run_dir())?;
        let json = serde_json::to_string(&request).expect("a request is plain data");
        let answer: probe::Answer = self.ask(&room, &["probe", &json], None)?;
        let to = match (&request.host, protocol) {
            (_, ProbeProtocol::Icmp) => host.to_owned(),
            (Host::Address(IpAddr::V6(_)), _) if host.contains(':') => format!("[{host}]:{port}"),
            _ => format!("{host}:{port}"),
        };
        let owner = answer.asked.and_then(|ip| snapshot.specs.iter().find(|pod| pod.addresses.contains(&ip)));
        Ok(Report::new(place.to_string(), to, protocol, &answer, owner.map(|pod| pod.full_name())))
    }

    /// Every pod that runs here to every pod, itself too: the cells of [`policy::matrix::matrix`].
    pub fn matrix(&self, question: &matrix::Question) -> Result<Matrix> {
        let run_dir = self.run_dir();
        let snapshot = self.snapshot()?;
        let specs: Vec<_> = snapshot.specs.iter().filter(|pod| snapshot.runs(pod)).collect();
        let is_here = |pod: &&&PodSpec| snapshot.node(&pod.node).is_some_and(|node| snapshot.runs_here(node));
        let (mut cells, mut attempts) = (Vec::new(), Vec::new());
        for from in specs.iter().filter(is_here) {
            for to in &specs {
                // A pair without addresses of one family cannot even try.
                let Some(address) = matrix::target(&from.addresses, &to.addresses, question.family) else { continue };
                for port in matrix::ports(&question.ports, &to.ports) {
                    let target = SocketAddr::new(address, port.port);
                    let protocol = port.protocol.into();
                    let timeout_ms = question.timeout_ms;
                    attempts.push(Attempt { netns: from.netns(&run_dir), target, protocol, timeout_ms });
                    cells.push((from.full_name(), to.full_name(), port));
                }
            }
        }
        let input = serde_json::to_vec(&attempts).expect("attempts are plain data");
        let outcomes: Vec<Outcome> = self.ask(&enter::Room::Lab, &["matrix"], Some(input))?;
        let results = cells.into_iter().zip(outcomes).map(|((from, to, port), outcome)| Cell {
            from,
            to,
            protocol: port.protocol,
            port: port.port,
            outcome,
        });
        Ok(Matrix { pods: specs.iter().map(|pod| pod.full_name()).collect(), results: results.collect() })
    }

    /// The log of a node or a pod.
    pub fn log(&self, what: &str) -> Result<PathBuf> {
        let snapshot = self.snapshot()?;
        // A node may be named without "node:".
        let place = match snapshot.node(what) {
            Some(_) => Place::Node(what.to_owned()),
            None => self.find(what, &snapshot)?,
        };
        match place {
            Place::Pod { namespace, name } => Ok(pods::pod_dir(&self.run_dir(), &namespace, &name).join("log")),
            Place::Node(name) => Ok(nodes::log(&self.run_dir(), &name)),
            Place::World(_) => Ok(world::log(&self.run_dir())),
            Place::Unlabelled { .. } | Place::Underlay => Err(LabError::BadInput(format!("{what:?}: has no log"))),
        }
    }

    /// What `explain` is told about the lab: its completed objects, its address plan, the flags of its nodes.
    pub fn blueprint(&self) -> Result<(Vec<Sourced<Object>>, LabNetwork, NodeOptions)> {
        let settings = Settings::read(&self.run_dir())?;
        let objects = cluster::read(&nodes::cluster_dir(&self.run_dir()))?;
        Ok((objects, settings.network(), settings.node_options))
    }

    fn snapshot(&self) -> Result<Snapshot> {
        let run_dir = self.run_dir();
        Snapshot::read(&run_dir, &Settings::read(&run_dir)?)
    }

    fn find(&self, place: &str, snapshot: &Snapshot) -> Result<Place> {
        let found = Place::find(place, &snapshot.census)?;
        let home = snapshot.home(&found);
        match &found {
            // A pod that is not placed or has no address is only an object.
            Place::Pod { namespace, name } if snapshot.pod(namespace, name).is_none() => {
                Err(LabError::BadInput(format!("{found}: the lab does not run this pod")))
            }
            _ if snapshot.member.is_some() && home != snapshot.member => {
                let home = home.map_or_else(String::new, |home| format!(" but with {home}: ask there"));
                Err(LabError::BadInput(format!("{found}: does not run here{home}")))
            }
            _ => Ok(found),
        }
    }

    fn inside(&self, room: &enter::Room, args: &[&str]) -> Result<Command> {
        let own = ["/proc/self/exe"].into_iter().chain(crate::namespaces::INTERNAL).chain(args.iter().copied());
        enter::command(self.record.anchor.pid, room, &own.map(str::to_owned).collect::<Vec<_>>())
    }

    /// Runs a hidden subcommand inside and reads its answer.
    fn ask<T: DeserializeOwned>(&self, room: &enter::Room, args: &[&str], input: Option<Vec<u8>>) -> Result<T> {
        let failed = |e: std::io::Error| LabError::io(args[0], e);
        let mut command = self.inside(room, args)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().map_err(failed)?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(&input).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(LabError::Failed(reason.trim().trim_start_matches("error: ").to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(|e| LabError::Failed(format!("{}: {e}", args[0])))
    }
}

/// Whom a probe asks. While no Service has the address of the cluster DNS, names of the cluster are looked up in its objects,
/// because there is nobody to ask.
fn find_host(
    text: &str,
    port: (Protocol, u16),
    from: &Place,
    snapshot: &Snapshot,
    network: &LabNetwork,
) -> Result<Host> {
    let dns = network.dns_addresses();
    let has_dns = || snapshot.census.services.values().flat_map(|s| names::cluster_ips(s)).any(|ip| dns.contains(&ip));
    Ok(match names::find_host(text, port, from, &snapshot.census, network)? {
        Meaning::Address(addresses) => Host::Address(addresses[0]),
        Meaning::Name { addresses, .. } if !has_dns() => Host::Address(addresses[0]),
        Meaning::Name { name, .. } if text.contains('/') => Host::Name(name),
        _ => Host::Name(text.to_owned()),
    })
}

/// Makes an empty run directory where no running lab is; what a lab that died has left is removed.
pub(crate) fn make_room(paths: &LabPaths) -> Result<()> {
    let record = paths.read()?;
    if record.is_some_and(|record| record.anchor.is_alive()) {
        return Err(LabError::Failed(format!(
            "a lab {:?} is running already; choose another --name, or end it with `podplane lab down --name {}`",
            paths.name(),
            paths.name()
        )));
    }
    let run_dir = paths.run_dir();
    remove_dir(&run_dir)?;
    fs::DirBuilder::new().mode(0o755).create(&run_dir).map_err(|e| LabError::io(run_dir.display(), e))?;
    for dir in [nodes::nodes_dir(&run_dir), pods::pods_dir(&run_dir)] {
        fs::create_dir(&dir).map_err(|e| LabError::io(dir.display(), e))?;
    }
    Ok(())
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(LabError::io(dir.display(), e)),
        _ => Ok(()),
    }
}
