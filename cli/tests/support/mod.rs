//! What the end-to-end tests share: a lab that goes away with its value, commands in it, files that go away.
//!
//! Everything is done by the real binary, as a person would do it. Labs have a name of their own per test, so tests run side
//! by side.

// Every test crate includes this module and uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod capture;
pub mod docker;
pub mod ingress;
pub mod manifests;
pub mod policies;
pub mod services;

use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The binary under test.
pub const PODPLANE: &str = env!("CARGO_BIN_EXE_podplane");

/// Whether labs can run here. If not, says why; with `CI` set that is a failure.
pub fn labs_can_run() -> bool {
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    can_run("a lab", tun.map(drop).map_err(|error| format!("/dev/net/tun: {error}")))
}

/// Whether the program `name` is there.
pub fn has_program(name: &str) -> bool {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    can_run(name, found.map(drop).map_err(|error| error.to_string()))
}

pub fn can_run(what: &str, result: Result<(), String>) -> bool {
    match result {
        Ok(()) => true,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "{what} cannot run on this machine: {reason}");
            eprintln!("skipped: {what} cannot run on this machine: {reason}");
            false
        }
    }
}

/// Polls `condition` until it gives a value; panics with `what` when `limit` has passed.
pub fn wait_for<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    wait_until(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} for: {what}"))
}

/// Polls `condition` until it gives a value or `limit` has passed.
pub fn wait_until<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let value = condition();
        if value.is_some() || Instant::now() >= deadline {
            return value;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs podplane with `args`.
pub fn podplane(args: &[&str]) -> Output {
    Command::new(PODPLANE).args(args).stdin(Stdio::null()).output().expect("podplane runs")
}

/// Runs podplane with `args` and `input` on its standard input.
pub fn podplane_with_input(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(PODPLANE)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("podplane runs");
    // A command that refuses its arguments does not read its input.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("podplane ends")
}

/// Standard output of a command that must have succeeded.
pub fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

/// Bytes for a message.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A folder that goes away with its value.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder.
    pub fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("podplane-test-{}", unique()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and gives its path.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a temporary file");
        path.to_str().expect("a UTF-8 path").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running lab; taken down with its value.
pub struct Lab {
    /// Its name.
    pub name: String,
}

impl Lab {
    /// Starts a lab from `manifests` with more arguments of `lab up`; gives what went wrong if it does not start.
    pub fn try_up(manifests: &str, args: &[&str]) -> Result<Lab, Output> {
        let lab = Lab { name: format!("t{}", unique()) };
        let mut all = vec!["lab", "up", "--name", &lab.name, "-f", "-"];
        all.extend(args);
        let output = podplane_with_input(&all, manifests);
        if output.status.success() { Ok(lab) } else { Err(output) }
    }

    /// Starts a lab that must start.
    pub fn up(manifests: &str, args: &[&str]) -> Lab {
        match Lab::try_up(manifests, args) {
            Ok(lab) => lab,
            Err(output) => panic!("lab up: {}: {}{}", output.status, text(&output.stdout), text(&output.stderr)),
        }
    }

    /// Runs `podplane lab COMMAND --name NAME ARGS...`.
    pub fn run(&self, command: &str, args: &[&str]) -> Output {
        let mut all = vec!["lab", command, "--name", &self.name];
        all.extend(args);
        podplane(&all)
    }

    /// The JSON that a lab command prints; its exit code is not looked at.
    pub fn json(&self, command: &str, args: &[&str]) -> Value {
        let mut all = vec!["-o", "json"];
        all.extend(args);
        let output = self.run(command, &all);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("lab {command}: {e}: {}{}", text(&output.stdout), text(&output.stderr)))
    }

    /// Applies `manifests`, which must be accepted.
    pub fn apply(&self, manifests: &str) {
        stdout(podplane_with_input(&["lab", "apply", "--name", &self.name, "-f", "-"], manifests));
    }

    /// Deletes the objects of `manifests`.
    pub fn delete(&self, manifests: &str) {
        stdout(podplane_with_input(&["lab", "delete", "--name", &self.name, "-f", "-"], manifests));
    }

    /// A command in `place`, not started yet.
    pub fn command(&self, place: &str, words: &[&str]) -> Command {
        let mut command = Command::new(PODPLANE);
        command.args(["lab", "exec", "--name", &self.name, place, "--"]).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command in `place`.
    pub fn exec(&self, place: &str, words: &[&str]) -> Output {
        self.command(place, words).output().expect("podplane runs")
    }

    /// Standard output of a command in `place` that must succeed.
    pub fn exec_ok(&self, place: &str, words: &[&str]) -> String {
        stdout(self.exec(place, words))
    }

    /// Runs a shell script in `place`; it must succeed.
    pub fn sh(&self, place: &str, script: &str) -> String {
        self.exec_ok(place, &["sh", "-ec", script])
    }

    /// Starts a command in `place` that runs beside the test, and is killed with the value.
    pub fn spawn(&self, place: &str, words: &[&str]) -> Background {
        let mut command = self.command(place, words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Background(Some(command.spawn().expect("podplane runs")))
    }

    /// One real connection: the JSON of `lab probe`.
    pub fn probe(&self, from: &str, to: &str) -> Value {
        self.json("probe", &["--from", from, "--to", to])
    }

    /// The `outcome` of one real connection.
    pub fn outcome(&self, from: &str, to: &str) -> String {
        self.probe(from, to)["outcome"].as_str().expect("an outcome").to_owned()
    }

    /// The pod `namespace/name` as `lab status` shows it.
    pub fn pod(&self, place: &str) -> Value {
        let status = self.json("status", &[]);
        let (namespace, name) = place.split_once('/').expect("NAMESPACE/NAME");
        let pods = status["pods"].as_array().expect("pods");
        let pod = pods.iter().find(|pod| pod["namespace"] == namespace && pod["name"] == name);
        pod.unwrap_or_else(|| panic!("no pod {place} in {status:#}")).clone()
    }

    /// The pod's address of a family.
    pub fn address(&self, place: &str, ipv6: bool) -> String {
        let pod = self.pod(place);
        let addresses = pod["ips"].as_array().expect("addresses");
        let address = addresses.iter().filter_map(Value::as_str).find(|address| address.contains(':') == ipv6);
        address.unwrap_or_else(|| panic!("no such address: {pod}")).to_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.run("down", &[]);
        if !std::thread::panicking() && !output.status.success() {
            eprintln!("lab down: {}{}", text(&output.stdout), text(&output.stderr));
        }
    }
}

/// A command beside the test.
pub struct Background(Option<Child>);

impl Background {
    /// Waits until it ends by itself and gives its output.
    pub fn finish(mut self) -> Output {
        let child = self.0.take().expect("it runs until it is finished");
        child.wait_with_output().expect("it ends")
    }

    /// Its standard output, as it comes; once.
    pub fn take_stdout(&mut self) -> ChildStdout {
        self.0.as_mut().and_then(|child| child.stdout.take()).expect("nobody has taken it")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        let child = self.0.as_mut().expect("it runs until it is finished");
        child.try_wait().expect("its state").is_none()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
