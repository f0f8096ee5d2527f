//! A lab in a container: Docker's default seccomp profile, masked `/proc`, read-only `/proc/sys`, and an image that has
//! nothing but podplane, its shared libraries and busybox.
//!
//! The image is made from nothing and the Docker daemon is the test's own, so nothing is fetched and nothing of the machine's
//! Docker is touched.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use support::docker::{Docker, find};
use support::{Folder, PODPLANE, podplane, stdout, text, wait_for};

/// What a lab needs of `docker run`.
const GRANTED: [&str; 6] = ["--cap-add", "NET_ADMIN", "--cap-add", "SYS_ADMIN", "--device", "/dev/net/tun"];

/// Name of the image.
const IMAGE: &str = "podplane:test";

const MANIFESTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: shop, labels: {app: front}}
spec: {nodeName: node1, containers: [{name: main, image: none, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: back, namespace: shop, labels: {app: back}}
spec: {nodeName: node2, containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node1, containers: [{name: main, image: none, ports: [{containerPort: 5432}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-from-back, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: back}}}], ports: [{port: 5432}]}]
";

/// The daemon, with the image.
struct Labs(Docker);

impl Labs {
    /// `None`, said why, where it cannot run.
    fn start() -> Option<Labs> {
        let labs = Labs(Docker::start()?);
        labs.import();
        Some(labs)
    }

    /// Makes the image.
    fn import(&self) {
        let root = self.0.folder().path().join("root");
        for dir in ["bin", "etc", "run", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy(PODPLANE, root.join("bin/podplane")).unwrap();
        fs::copy(find("busybox"), root.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "find", "sleep", "ps"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("cluster.yaml"), MANIFESTS).unwrap();
        // ldd says "not a dynamic executable" of a static one.
        let libraries = Command::new("ldd").arg(PODPLANE).arg(find("busybox")).output().unwrap();
        let libraries = text(&libraries.stdout);
        for library in libraries.split_ascii_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')) {
            let target = root.join(library.trim_start_matches('/'));
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(library, target).unwrap();
        }
        let archive = self.0.folder().path().join("image.tar");
        stdout(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").output().unwrap());
        self.0.ask(&["import", archive.to_str().unwrap(), IMAGE]);
    }

    fn client(&self, args: &[&str]) -> Command {
        self.0.client(args)
    }

    /// `docker run` to its end.
    fn run(&self, options: &[&str], words: &[&str]) -> Output {
        let args = [&["run", "--rm", "--network", "none"], options, &[IMAGE], words].concat();
        self.client(&args).output().unwrap()
    }

    /// Starts a lab where it cannot run: exit code 1, nothing on standard output; gives the error.
    fn refusal(&self, options: &[&str], words: &[&str]) -> String {
        let output = self.run(options, &[&["podplane", "lab", "up", "-f", "/cluster.yaml"], words].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{options:?}: {error}");
        assert_eq!(text(&output.stdout), "", "{options:?}");
        assert!(error.starts_with("error: ") && !error.contains("panicked"), "{options:?}: {error}");
        error
    }
}

/// Results of a matrix as `from to protocol port yes|no`, sorted.
fn answers(matrix: &Value, yes: &str) -> Vec<String> {
    let results = matrix["results"].as_array().expect("results");
    let mut lines: Vec<String> = results
        .iter()
        .map(|cell| {
            let outcome = if cell["outcome"] == yes { "yes" } else { "no" };
            format!("{} {} {} {} {outcome}", cell["from"], cell["to"], cell["protocol"], cell["port"])
        })
        .collect();
    lines.sort();
    lines
}

/// Everything a container does to a lab, one after the other: a daemon per test would cost more than all of them.
#[test]
fn a_lab_runs_in_a_container_that_grants_what_it_needs_and_says_what_is_missing_otherwise() {
    let Some(docker) = Labs::start() else { return };
    matrix_equals_policy(&docker, &[]);
    // A read-only image with a tmpfs, and no capability but those that the lab asks for.
    matrix_equals_policy(&docker, &["--read-only", "--tmpfs", "/run"]);
    let bare = ["--cap-drop", "ALL", "--cap-add", "SYS_CHROOT"];
    matrix_equals_policy(&docker, &bare);
    icmp_without_its_capability(&docker, &bare);
    what_is_missing_is_named(&docker);
    stopping_the_container_ends_the_lab(&docker);
    process_one_obeys_signals(&docker);
}

fn matrix_equals_policy(docker: &Labs, options: &[&str]) {
    let script = "podplane lab up -f /cluster.yaml -o json >&2 && podplane lab matrix -o json && podplane lab down >&2 \
                  && find /run -name '*podplane*' && ps >&2";
    let output = docker.run(&[&GRANTED, options].concat(), &["sh", "-c", script]);
    let log = text(&output.stderr);
    assert!(output.status.success(), "{options:?}: {}: {log}", output.status);
    let folder = Folder::new();
    let file = folder.write("cluster.yaml", MANIFESTS);
    let expected: Value =
        serde_json::from_str(&stdout(podplane(&["policy", "matrix", "-f", &file, "-o", "json"]))).unwrap();
    // Anything after the document, such as a file that is left in /run, makes it invalid.
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{options:?}: {e}: {log}"));
    assert_eq!(measured["pods"], expected["pods"]);
    assert_eq!(answers(&measured, "connected"), answers(&expected, "allow"), "{options:?}: {log}");
    assert!(answers(&measured, "connected").iter().any(|line| line.ends_with(" no")), "a policy forbids something");
    assert!(!log.contains("lab internal"), "a process of the lab is left: {log}");
}

fn icmp_without_its_capability(docker: &Labs, options: &[&str]) {
    let script = "podplane lab up -f /cluster.yaml >/dev/null 2>&1 && \
                  podplane lab probe --from shop/front --to shop/back --protocol icmp";
    let output = docker.run(&[&GRANTED, options].concat(), &["sh", "-c", script]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("CAP_NET_RAW"), "{}", text(&output.stderr));
}

fn what_is_missing_is_named(docker: &Labs) {
    let tun = ["--device", "/dev/net/tun"];
    let error = docker.refusal(&tun, &[]);
    assert!(error.contains("--cap-add SYS_ADMIN --cap-add NET_ADMIN"), "{error}");
    let error = docker.refusal(&[&tun[..], &["--cap-add", "SYS_ADMIN"]].concat(), &[]);
    assert!(error.contains("--cap-add NET_ADMIN") && !error.contains("CAP_SYS_ADMIN"), "{error}");
    let error = docker.refusal(&[&tun[..], &["--cap-add", "NET_ADMIN"]].concat(), &[]);
    assert!(error.contains("--cap-add SYS_ADMIN") && !error.contains("CAP_NET_ADMIN"), "{error}");
    let error = docker.refusal(&[&GRANTED[..], &["--cap-drop", "SYS_CHROOT"]].concat(), &[]);
    assert!(error.contains("--cap-add SYS_CHROOT"), "{error}");
    let error = docker.refusal(&GRANTED[..4], &[]);
    assert!(error.contains("/dev/net/tun is missing") && error.contains("--device /dev/net/tun"), "{error}");
    let error = docker.refusal(&[], &[]);
    assert!(error.contains("--device /dev/net/tun") && error.contains("--cap-add NET_ADMIN"), "{error}");
    // Docker's seccomp profile forbids user namespaces to those who have no SYS_ADMIN.
    let error = docker.refusal(&tun, &["--rootless"]);
    assert!(error.contains("user namespaces are forbidden here") && error.contains("--cap-add SYS_ADMIN"), "{error}");
    let error = docker.refusal(&[&GRANTED[..], &["--read-only"]].concat(), &[]);
    assert!(error.contains("/run") && error.contains("--tmpfs /run"), "{error}");
    let error = docker.refusal(&["--device", "/dev/net/tun", "--user", "1000"], &[]);
    assert!(error.contains("set XDG_RUNTIME_DIR"), "{error}");
    // tcpdump is not in the image; no empty file is left behind.
    let script = "podplane lab up -f /cluster.yaml >/dev/null 2>&1 && ! podplane lab capture underlay -w /tmp/x && \
                  ! [ -e /tmp/x ]";
    let output = docker.run(&GRANTED, &["sh", "-c", script]);
    assert!(output.status.success() && text(&output.stderr).contains("tcpdump is not installed"), "{output:?}");
}

fn stopping_the_container_ends_the_lab(docker: &Labs) {
    let script = "podplane lab up -f /cluster.yaml >/dev/null 2>&1 && exec sleep 1000";
    let container = background(docker, &GRANTED, &["sh", "-c", script]);
    wait_for("the lab in the container", Duration::from_secs(60), || {
        let command = ["exec", &container, "podplane", "lab", "status", "-o", "json"];
        let status: Value = serde_json::from_slice(&docker.client(&command).output().unwrap().stdout).ok()?;
        (status["state"] == "ready").then_some(())
    });
    let table = stdout(docker.client(&["top", &container, "-o", "pid,args"]).output().unwrap());
    let pids: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().next()).collect();
    assert!(pids.len() > 6, "nodes, pods and the anchor: {table}");
    stdout(docker.client(&["stop", "--time", "1", &container]).output().unwrap());
    wait_for("the end of every process of the lab", Duration::from_secs(10), || {
        pids.iter().all(|pid| !Path::new("/proc").join(pid).exists()).then_some(())
    });
}

/// A command that is process 1 itself: `docker stop` must not have to wait until it kills.
fn process_one_obeys_signals(docker: &Labs) {
    // Waits for its standard input, which stays open and empty.
    let container = background(docker, &["--interactive"], &["podplane", "lab", "up", "-f", "-"]);
    wait_for("podplane as process 1 with its signal thread", Duration::from_secs(30), || {
        let status = docker.client(&["exec", &container, "cat", "/proc/1/status"]).output().unwrap();
        text(&status.stdout).contains("Threads:\t2").then_some(())
    });
    stdout(docker.client(&["kill", "--signal", "TERM", &container]).output().unwrap());
    let code = stdout(docker.client(&["wait", &container]).output().unwrap());
    assert_eq!(code.trim(), (128 + 15).to_string());
}

fn background(docker: &Labs, options: &[&str], words: &[&str]) -> String {
    let args = [&["run", "--detach", "--network", "none"], options, &[IMAGE], words].concat();
    stdout(docker.client(&args).output().unwrap()).trim().to_owned()
}
