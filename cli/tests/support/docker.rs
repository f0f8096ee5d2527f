//! A Docker daemon of our own, in a folder and a network namespace of its own, without firewall rules: nothing is fetched, and
//! nothing of the machine's Docker and network is touched. Ends, with its containers, mounts and files, with the value.

use super::{Folder, can_run, has_program, labs_can_run, stdout, text, wait_until};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running daemon.
pub struct Docker {
    daemon: Child,
    folder: Folder,
}

impl Docker {
    /// `None`, said why, where it cannot run.
    pub fn start() -> Option<Docker> {
        let programs = ["dockerd", "containerd", "docker", "busybox", "unshare"];
        if !labs_can_run() || !programs.iter().all(|name| has_program(name)) {
            return None;
        }
        if !is_root() {
            can_run("dockerd", Err("it needs root".into()));
            return None;
        }
        let folder = Folder::new();
        let path = |name: &str| folder.path().join(name);
        let log = File::create(path("log")).unwrap();
        let mut daemon = Command::new("unshare")
            .args([
                "--net",
                "dockerd",
                "--iptables=false",
                "--ip6tables=false",
                "--bridge=none",
                "--storage-driver=vfs",
            ])
            .arg("--config-file")
            .arg(folder.write("daemon.json", "{}"))
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--host")
            .arg(host(&folder))
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            .spawn()
            .expect("dockerd starts");
        let up = wait_until(Duration::from_secs(60), || {
            let ended = daemon.try_wait().unwrap().is_some();
            (ended || client(&folder, &["info"]).output().unwrap().status.success()).then_some(!ended)
        });
        let docker = Docker { daemon, folder };
        if up != Some(true) {
            let log = fs::read_to_string(docker.folder.path().join("log")).unwrap_or_default();
            let reason = log.lines().last().unwrap_or("no answer").to_owned();
            can_run("dockerd", Err(reason));
            return None;
        }
        Some(docker)
    }

    /// Its folder, for files of the test.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The value of DOCKER_HOST that leads to it.
    pub fn host(&self) -> String {
        host(&self.folder)
    }

    /// The client with `args`.
    pub fn client(&self, args: &[&str]) -> Command {
        client(&self.folder, args)
    }

    /// What the client says, which must succeed.
    pub fn ask(&self, args: &[&str]) -> String {
        stdout(self.client(args).output().expect("the client runs"))
    }

    /// A command in the daemon's network namespace.
    pub fn beside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.daemon.id().to_string(), "--"]).args(words).stdin(Stdio::null());
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let ended = wait_until(Duration::from_secs(30), || self.daemon.try_wait().ok().flatten());
        if ended.is_none() {
            let _ = self.daemon.kill();
            let _ = self.daemon.wait();
        }
        // The daemon leaves its mounts behind when it is killed.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.folder.path())) {
            let _ = Command::new("umount").arg("-l").arg(point).status();
        }
    }
}

/// Where `program` is.
pub fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is in the PATH"))
}

fn host(folder: &Folder) -> String {
    format!("unix://{}", folder.path().join("sock").display())
}

fn client(folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.env("DOCKER_CONFIG", folder.path()).env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
    command.arg("--host").arg(host(folder)).args(args);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    text(&id.stdout).trim() == "0"
}
