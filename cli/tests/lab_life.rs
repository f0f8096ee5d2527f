//! How labs begin and end: side by side, under a name in use, with pods that run what their manifests say, after crashes,
//! as an ordinary user, and with input that cannot be used. Whatever happens, nothing stays behind.

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use support::manifests::SERVERS;
use support::{Folder, Lab, PODPLANE, labs_can_run, podplane, podplane_with_input, text, wait_for};

/// Uid and gid of nobody.
const NOBODY: u32 = 65534;

/// What a lab is made of, as seen from outside.
struct Traces {
    run_dir: PathBuf,
    pid_namespace: u64,
    interfaces: Vec<String>,
}

impl Traces {
    fn of(lab: &Lab) -> Traces {
        let status = lab.json("status", &[]);
        let anchor = status["anchor_pid"].as_u64().expect("the anchor");
        Traces {
            run_dir: PathBuf::from(status["run_dir"].as_str().expect("the run directory")),
            pid_namespace: pid_namespace(&anchor.to_string()).expect("the anchor runs"),
            interfaces: interfaces(),
        }
    }

    fn processes(&self) -> Vec<String> {
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        pids.filter(|pid| pid_namespace(pid) == Some(self.pid_namespace) && !is_zombie(pid)).collect()
    }

    /// Nothing is left: no process, no file, no mount, no interface.
    fn assert_none(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        let name = self.run_dir.file_name().unwrap().to_str().unwrap();
        let labs = self.run_dir.parent().unwrap();
        for path in [self.run_dir.clone(), labs.join(format!("{name}.json")), labs.join(format!("{name}.lock"))] {
            assert!(!path.exists(), "{} is left", path.display());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.run_dir.to_str().unwrap()), "{mounts}");
        assert_eq!(interfaces(), self.interfaces);
    }
}

fn pid_namespace(pid: &str) -> Option<u64> {
    fs::metadata(Path::new("/proc").join(pid).join("ns/pid")).ok().map(|file| file.ino())
}

/// A zombie has ended and waits for its parent, which is not the lab's any more.
fn is_zombie(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

fn interfaces() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn failed(output: &Output, code: i32, words: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn down_leaves_the_machine_as_it_was() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let traces = Traces::of(&lab);
    assert!(traces.processes().len() > 5, "{:?}", traces.processes());
    assert!(lab.run("down", &[]).status.success());
    traces.assert_none();
    failed(&lab.run("status", &[]), 1, &["there is no lab"]);
    std::mem::forget(lab);
}

#[test]
fn after_the_crash_of_any_process_down_leaves_nothing() {
    if !labs_can_run() {
        return;
    }
    for file in ["nodes/node1.pid", "pods/e2e_near/pid"] {
        let lab = Lab::up(SERVERS, &[]);
        let traces = Traces::of(&lab);
        let process: Value = serde_json::from_slice(&fs::read(traces.run_dir.join(file)).unwrap()).unwrap();
        lab.exec_ok("underlay", &["kill", "-9", &process["pid"].to_string()]);
        wait_for("the lab is degraded", Duration::from_secs(10), || {
            (lab.json("status", &[])["state"] == "degraded").then_some(())
        });
        assert!(lab.run("down", &[]).status.success());
        traces.assert_none();
        std::mem::forget(lab);
    }
}

#[test]
fn the_death_of_the_anchor_ends_everything_and_its_name_can_be_used_again() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let traces = Traces::of(&lab);
    let anchor = lab.json("status", &[])["anchor_pid"].to_string();
    assert!(Command::new("kill").args(["-9", &anchor]).status().unwrap().success());
    wait_for("the kernel ends the lab", Duration::from_secs(10), || traces.processes().is_empty().then_some(()));
    assert_eq!(interfaces(), traces.interfaces);
    failed(&lab.run("status", &[]), 1, &["no longer running", "lab down"]);
    let again = podplane_with_input(&["lab", "up", "--name", &lab.name, "-f", "-"], SERVERS);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let traces = Traces::of(&lab);
    drop(lab);
    traces.assert_none();
}

#[test]
fn a_dead_lab_is_cleaned_up_by_down() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let traces = Traces::of(&lab);
    let anchor = lab.json("status", &[])["anchor_pid"].to_string();
    assert!(Command::new("kill").args(["-9", &anchor]).status().unwrap().success());
    assert!(lab.run("down", &[]).status.success());
    traces.assert_none();
    std::mem::forget(lab);
}

#[test]
fn labs_live_side_by_side_and_a_name_is_taken_once() {
    if !labs_can_run() {
        return;
    }
    let (one, two) = (Lab::up(SERVERS, &[]), Lab::up(SERVERS, &[]));
    for lab in [&one, &two] {
        assert_eq!(lab.outcome("e2e/client", "e2e/far:8080"), "connected");
    }
    let again = podplane_with_input(&["lab", "up", "--name", &one.name, "-f", "-"], SERVERS);
    failed(&again, 1, &["already", &one.name]);
    drop(one);
    assert_eq!(two.outcome("e2e/client", "web:80"), "connected");
}

#[test]
fn a_pod_runs_its_annotated_command_and_says_when_it_has_ended() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(
        "
apiVersion: v1
kind: Pod
metadata:
  name: talker
  annotations: {lab.podplane.io/command: 'echo hello from $(hostname); exit 3'}
spec: {containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: sleeper
  annotations: {lab.podplane.io/command: 'sleep 1000 & sleep 1000'}
spec: {containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  hostNetwork: true
  nodeName: node2
  containers: [{name: main, image: none, ports: [{containerPort: 7070}]}]
",
        &[],
    );
    let talker = wait_for("the command ends", Duration::from_secs(10), || {
        Some(lab.pod("default/talker")).filter(|pod| pod["state"] == "exited")
    });
    assert_eq!(talker["exit_code"], 3);
    assert_eq!(support::stdout(lab.run("logs", &["default/talker"])), "hello from talker\n");
    assert_eq!(lab.pod("default/sleeper")["state"], "running");
    let report = lab.probe("default/sleeper", "default/host:7070");
    assert_eq!(report["server"], "default/host", "{report:#}");
    assert_eq!(report["server_ip"], "172.30.0.12", "{report:#}");
    lab.delete("apiVersion: v1\nkind: Pod\nmetadata: {name: sleeper}\nspec: {containers: [{name: main, image: none}]}");
    assert_eq!(lab.json("status", &[])["pods"].as_array().unwrap().len(), 2);
    assert!(!lab.exec_ok("underlay", &["ps", "ax"]).contains("sleep 1000"));
}

#[test]
fn applying_starts_and_stops_pods_and_nothing_else() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let pid = |pod: &str| {
        lab.sh("underlay", &format!("cat {}/pods/{pod}/pid", lab.json("status", &[])["run_dir"].as_str().unwrap()))
    };
    let before = pid("e2e_far");
    let extra = "apiVersion: v1\nkind: Pod\nmetadata: {name: extra, namespace: e2e}\n\
                 spec: {nodeName: node2, containers: [{name: main, image: none, ports: [{containerPort: 6060}]}]}\n";
    lab.apply(extra);
    assert_eq!(lab.outcome("e2e/client", "e2e/extra:6060"), "connected");
    lab.delete(extra);
    failed(&lab.run("exec", &["e2e/extra", "--", "true"]), 2, &["no such pod"]);
    assert_eq!(pid("e2e_far"), before);
}

#[test]
fn bad_input_is_refused_with_its_place_and_changes_nothing() {
    if !labs_can_run() {
        return;
    }
    let pod = |name: &str, ip: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: e2e}}\n\
             spec: {{nodeName: node1, containers: [{{name: c, image: none}}]}}\nstatus: {{podIPs: [{{ip: {ip}}}]}}\n---\n"
        )
    };
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: bad, namespace: e2e}\n\
                  spec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/40}}]}]}\n";
    let full = "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\nspec: {podCIDRs: [10.244.1.0/30]}\n---\n\
                apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: many}\n\
                spec: {replicas: 9, selector: {matchLabels: {a: b}}, \
                template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: none}]}}}\n";
    let doubled = pod("one", "10.244.1.77") + &pod("two", "10.244.1.77");
    let cases: [(&str, &str, &[&str]); 4] = [
        ("broken YAML", "apiVersion: v1\nkind: [", &["<stdin>"]),
        ("an invalid CIDR", policy, &["NetworkPolicy e2e/bad", "cidr"]),
        ("one address twice", &doubled, &["10.244.1.77", "e2e/"]),
        ("a node range that is full", full, &["many", "10.244.1.0/30"]),
    ];
    let lab = Lab::up(SERVERS, &[]);
    let before = lab.json("status", &[]);
    for (what, manifests, words) in cases {
        let name = format!("bad-{}", std::process::id());
        let up = podplane_with_input(&["lab", "up", "--name", &name, "-f", "-"], manifests);
        eprintln!("{what}: {}", text(&up.stderr));
        failed(&up, 2, words);
        failed(&podplane(&["lab", "status", "--name", &name]), 1, &["there is no lab"]);
        if what != "a node range that is full" {
            let apply = podplane_with_input(&["lab", "apply", "--name", &lab.name, "-f", "-"], manifests);
            failed(&apply, 2, words);
        }
    }
    assert_eq!(lab.json("status", &[]), before);
    for args in [
        &["lab", "up", "--name", "UPPER"][..],
        &["lab", "up", "--nodes", "0"],
        &["lab", "up", "-f", "/no/such/file.yaml"],
        &["lab", "probe", "--name", &lab.name, "--from", "e2e/client", "--to", "10.244.1.2"],
        &["lab", "probe", "--name", &lab.name, "--from", "e2e/client", "--to", "e2e/far:1", "--protocol", "x"],
        &["lab", "matrix", "--name", &lab.name, "--port", "8080"],
    ] {
        failed(&podplane(args), 2, &[]);
    }
    failed(&podplane(&["lab", "down", "--name", "never-was"]), 1, &["there is no lab"]);
}

#[test]
fn an_unknown_kind_is_named_and_skipped() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let gadget = "apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\n";
    let output = podplane_with_input(&["lab", "apply", "--name", &lab.name, "-f", "-"], gadget);
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("Gadget"), "{}", text(&output.stderr));
}

/// A mode of /dev/net/tun; it gets its old one back with the value.
struct TunMode(u32);

impl TunMode {
    fn set(mode: u32) -> TunMode {
        let old = fs::metadata("/dev/net/tun").unwrap().permissions().mode();
        fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(mode)).unwrap();
        TunMode(old)
    }
}

impl Drop for TunMode {
    fn drop(&mut self) {
        let _ = fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(self.0));
    }
}

#[test]
fn an_ordinary_user_has_labs_too() {
    if !labs_can_run() {
        return;
    }
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: becoming nobody needs root; as an ordinary user every other test is this one");
        return;
    }
    let folder = Folder::new();
    let binary = folder.path().join("podplane");
    fs::copy(PODPLANE, &binary).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let name = format!("nobody-{}", std::process::id());
    let nobody = |words: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(words).uid(NOBODY).gid(NOBODY).current_dir("/").env_remove("XDG_RUNTIME_DIR");
        command.output().expect("podplane runs")
    };
    let _tun = TunMode::set(0o600);
    failed(&nobody(&["lab", "up", "--rootless", "--name", &name]), 1, &["/dev/net/tun", "chmod 666"]);
    let _open = TunMode::set(0o666);
    let up = nobody(&["lab", "up", "--rootless", "--name", &name]);
    assert!(up.status.success(), "{}{}", text(&up.stdout), text(&up.stderr));
    let matrix = nobody(&["lab", "matrix", "--name", &name, "-o", "json"]);
    let matrix: Value = serde_json::from_slice(&matrix.stdout).expect("JSON");
    let outcomes = matrix["results"].as_array().unwrap();
    assert!(outcomes.iter().any(|cell| cell["outcome"] == "connected" && cell["from"] != cell["to"]), "{matrix:#}");
    assert!(outcomes.iter().any(|cell| cell["outcome"] == "timeout"), "{matrix:#}");
    let down = nobody(&["lab", "down", "--name", &name]);
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(!Path::new(&format!("/tmp/podplane-{NOBODY}")).exists());
}

#[test]
fn root_can_have_a_lab_in_a_user_namespace() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &["--rootless"]);
    assert_eq!(lab.json("status", &[])["rootless"], true);
    assert_eq!(lab.outcome("e2e/client", "e2e/far:8080"), "connected");
}

#[test]
fn a_kernel_without_bridges_gets_an_underlay_of_taps() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &["--underlay", "hub"]);
    let traces = Traces::of(&lab);
    assert!(!lab.exec_ok("node:node1", &["cat", "/proc/net/dev"]).contains("veth"));
    assert_eq!(lab.outcome("e2e/client", "e2e/far:8080"), "connected");
    let address = lab.address("e2e/far", true);
    assert_eq!(lab.outcome("e2e/client", &format!("[{address}]:8080")), "connected");
    assert_eq!(
        lab.json("probe", &["--from", "world", "--to", "node:node2", "--protocol", "icmp"])["outcome"],
        "connected"
    );
    assert_eq!(lab.exec_ok("node:node2", &["hostname"]), "node2\n");
    drop(lab);
    traces.assert_none();
}

#[test]
fn applying_anything_starts_again_what_has_died() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let run_dir = Traces::of(&lab).run_dir;
    for file in ["nodes/node1.pid", "pods/e2e_far/pid"] {
        let process: Value = serde_json::from_slice(&fs::read(run_dir.join(file)).unwrap()).unwrap();
        lab.exec_ok("underlay", &["kill", "-9", &process["pid"].to_string()]);
        wait_for("the lab is degraded", Duration::from_secs(10), || {
            (lab.json("status", &[])["state"] == "degraded").then_some(())
        });
        lab.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n");
        assert_eq!(lab.json("status", &[])["state"], "ready");
        assert_eq!(lab.outcome("e2e/client", "e2e/far:8080"), "connected");
        assert_eq!(lab.outcome("e2e/client", "e2e/near:8080"), "connected");
    }
}
