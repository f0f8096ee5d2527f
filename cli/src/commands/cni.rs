//! `podplane cni`: the plugin and its configuration on a node, for init containers and for hands.

use super::node::DEFAULT_SOCKET;
use crate::output::{self, Answer, Context, Failure};
use clap::{Args, Subcommand};
use control::Stop;
use control::installation::{self, BIN_DIR, CONF_DIR, Done, PLUGIN};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The plugin on a node.
#[derive(Subcommand)]
pub(crate) enum CniCommand {
    /// Install the plugin, and a network configuration if --conf-dir says where
    Install(InstallArgs),
    /// Remove the network configuration and the plugin
    Uninstall(UninstallArgs),
}

/// Arguments of `podplane cni install`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane cni install                              the plugin alone, into /opt/cni/bin
  podplane cni install --bin-dir /host/opt/cni/bin  from an init container
  podplane cni install --conf-dir /etc/cni/net.d    and the configuration, for podman or nerdctl on a node without Kubernetes

Files appear whole or not at all, and what is right already is not touched. A kubelet takes its node for ready as soon as there
is a network configuration; `podplane agent --cni-conf-dir` writes it when the node forwards.

Exit codes: 0 done, 1 a file could not be written.")]
pub(crate) struct InstallArgs {
    /// Folder in which the runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = BIN_DIR)]
    bin_dir: PathBuf,
    /// Folder in which the runtime looks for configurations [default: none is written]
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
    /// The plugin to install [default: podplane-cni beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Unix socket of the node's API, as the plugin finds it
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// Arguments of `podplane cni uninstall`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane cni uninstall
  podplane cni uninstall --state-dir /var/lib/podplane --state-dir /run/podplane
  podplane cni uninstall --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d

Pods that are still attached cannot be taken down by the runtime without the plugin: remove them first. What is not there is no
error, and other plugins and configurations are left alone.

Exit codes: 0 done, 1 a file could not be removed.")]
pub(crate) struct UninstallArgs {
    /// Folder in which the runtime looks for plugins
    #[arg(long, value_name = "DIR", default_value = BIN_DIR)]
    bin_dir: PathBuf,
    /// Folder in which the runtime looks for configurations
    #[arg(long, value_name = "DIR", default_value = CONF_DIR)]
    conf_dir: PathBuf,
    /// Folder called podplane that the agent had for its state or its socket; may be repeated
    #[arg(long, value_name = "DIR", value_parser = own_folder)]
    state_dir: Vec<PathBuf>,
    /// Stay until SIGTERM when it is done, as the containers of a DaemonSet must
    #[arg(long)]
    stay: bool,
}

/// A folder that nobody but podplane has: it is removed with all that is in it.
fn own_folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.file_name().and_then(|name| name.to_str()) {
        Some("podplane") => Ok(path),
        _ => Err(format!("{text:?} is not called podplane, and is not removed")),
    }
}

/// What was done, file by file.
#[derive(Serialize)]
struct Report {
    files: Vec<FileReport>,
}

#[derive(Serialize)]
struct FileReport {
    path: PathBuf,
    change: &'static str,
}

impl Report {
    fn of(done: Vec<Done>) -> Report {
        let file = |done: Done| FileReport { path: done.path, change: done.change.as_str() };
        Report { files: done.into_iter().map(file).collect() }
    }

    fn text(&self) -> String {
        self.files.iter().map(|file| format!("{}: {}\n", file.path.display(), file.change)).collect()
    }
}

/// Installs or removes.
pub(crate) fn run(command: CniCommand, context: &Context) -> Result<Answer, Failure> {
    match command {
        CniCommand::Install(args) => install(args, context),
        CniCommand::Uninstall(args) => uninstall(&args, context),
    }
}

fn install(args: InstallArgs, context: &Context) -> Result<Answer, Failure> {
    let failed = |error: installation::InstallError| Failure::Failed(error.to_string());
    let plugin = match args.plugin {
        Some(plugin) => plugin,
        None => beside_this_program()?,
    };
    let mut done = vec![installation::install_plugin(&plugin, &args.bin_dir).map_err(failed)?];
    if let Some(conf_dir) = &args.conf_dir {
        done.push(installation::install_conflist(&args.socket, conf_dir).map_err(failed)?);
        warn_of_rivals(conf_dir);
    }
    context.show(&Report::of(done), Report::text)?;
    Ok(Answer::Yes)
}

fn uninstall(args: &UninstallArgs, context: &Context) -> Result<Answer, Failure> {
    let failure = |error: std::io::Error| Failure::Failed(format!("receiving signals: {error}"));
    let stop = args.stay.then(Stop::on_signals).transpose().map_err(failure)?;
    let (done, failed) = installation::uninstall(&args.bin_dir, &args.conf_dir, &args.state_dir);
    context.show(&Report::of(done), Report::text)?;
    let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
    if !failed.is_empty() {
        return Err(Failure::Failed(failed.join("; ")));
    }
    stop.map(|stop| stop.wait()).transpose().map_err(failure)?;
    Ok(Answer::Yes)
}

fn beside_this_program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Failure::Failed(format!("where this program is: {error}")))?;
    let plugin = program.with_file_name(PLUGIN);
    if plugin.is_file() {
        return Ok(plugin);
    }
    let folder = program.parent().unwrap_or(Path::new("/")).display();
    Err(Failure::BadInput(format!("there is no {PLUGIN} in {folder}: name it with --plugin FILE")))
}

fn warn_of_rivals(conf_dir: &Path) {
    let rivals = installation::rivals(conf_dir);
    if let Some(first) = rivals.first() {
        let folder = conf_dir.display();
        output::warn(&format!(
            "{folder}/{first} comes before podplane's configuration, and runtimes take the first one: remove it if pods are to \
             be podplane's"
        ));
    }
}
