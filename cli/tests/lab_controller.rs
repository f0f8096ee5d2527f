//! `podplane lab controller` and `podplane lab join` as far as they need no privileges: the cluster directory that the one writes,
//! and what both refuse.

mod support;

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::{Folder, PODPLANE, podplane, text, wait_for};

/// How long anything may take that is not about time.
const PATIENCE: Duration = Duration::from_secs(30);

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: none, ports: [{containerPort: 80}]}]}}
";

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
";

/// A controller of three nodes; ends with the value.
struct Controller<'a> {
    process: Child,
    folder: &'a Folder,
}

impl Controller<'_> {
    fn start(folder: &Folder) -> Controller<'_> {
        let path = |name: &str| folder.path().join(name);
        let log = fs::File::options().create(true).append(true).open(path("log")).unwrap();
        let process = Command::new(PODPLANE)
            .args(["lab", "controller", "--nodes", "3", "--underlay", "10.9.8.0/24", "--cluster-dir"])
            .arg(path("cluster"))
            .arg("-f")
            .arg(path("manifests"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("podplane starts");
        Controller { process, folder }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join("manifests").join(name), text).unwrap();
    }

    /// Texts of the files of a kind, by name.
    fn files(&self, of: &str) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(self.folder.path().join("cluster").join(of)) else { return Vec::new() };
        let mut files: Vec<(String, String)> = entries
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap_or_default())
            })
            .collect();
        files.sort();
        files
    }

    fn wait_pods(&self, count: usize) -> Vec<(String, String)> {
        wait_for("the pods to be written", PATIENCE, || {
            Some(self.files("pods/shop")).filter(|pods| pods.len() == count)
        })
    }

    /// SIGTERM; gives the exit code.
    fn stop(mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.process.id().to_string()).status().unwrap().success());
        wait_for("the controller to end", PATIENCE, || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Controller<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_controller_completes_manifests_follows_them_and_keeps_what_it_gave() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("manifests")).unwrap();
    let controller = Controller::start(&folder);
    controller.put("web.yaml", DEPLOYMENT);
    let two = controller.wait_pods(2);
    let nodes = controller.files("nodes");
    assert_eq!(
        nodes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["node1.yaml", "node2.yaml", "node3.yaml"]
    );
    assert!(nodes[2].1.contains("10.9.8.13"), "{}", nodes[2].1);

    // A file that breaks leaves in force what it held, and is told by name.
    controller.put("web.yaml", "apiVersion: apps/v1\nkind: [");
    wait_for("the broken file to be told", PATIENCE, || controller.log().contains("web.yaml").then_some(()));
    assert_eq!(controller.files("pods/shop"), two);
    assert_eq!(controller.stop(), Some(0));

    // Another process goes on from the directory, which stays as it is while nobody knows what the broken file held.
    fs::remove_file(folder.path().join("log")).unwrap();
    let controller = Controller::start(&folder);
    wait_for("the broken file to be told again", PATIENCE, || controller.log().contains("web.yaml").then_some(()));
    assert_eq!(controller.files("pods/shop"), two);
    // Whoever is there keeps node and addresses.
    controller.put("web.yaml", &DEPLOYMENT.replace("replicas: 2", "replicas: 4"));
    let four = controller.wait_pods(4);
    assert!(two.iter().all(|pod| four.contains(pod)), "{two:?}\n{four:?}");
    assert_eq!(controller.stop(), Some(0));
}

#[test]
fn an_object_that_is_refused_when_the_controller_starts_stays_what_it_was() {
    let folder = Folder::new();
    fs::create_dir(folder.path().join("manifests")).unwrap();
    let controller = Controller::start(&folder);
    controller.put("policy.yaml", POLICY);
    let policies = || Some(controller.files("networkpolicies/shop")).filter(|files| files.len() == 1);
    let before = wait_for("the policy to be written", PATIENCE, policies);
    assert_eq!(controller.stop(), Some(0));
    fs::write(folder.path().join("manifests/policy.yaml"), POLICY.replace("/8", "/88")).unwrap();
    let controller = Controller::start(&folder);
    controller.put("web.yaml", DEPLOYMENT);
    controller.wait_pods(2);
    assert_eq!(controller.files("networkpolicies/shop"), before);
    assert!(controller.log().contains("NetworkPolicy shop/closed"), "{}", controller.log());
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let folder = Folder::new();
    let (here, missing) = (folder.path().to_str().unwrap(), folder.path().join("missing"));
    let missing = missing.to_str().unwrap();
    let controller = ["lab", "controller", "--cluster-dir", here];
    for (args, said) in [
        ([&controller[..], &["-f", missing]].concat(), "missing: No such file"),
        ([&controller[..], &["-f", here, "--underlay", "10.0.0.0/30"]].concat(), "10.0.0.0/30 is too small"),
        ([&controller[..], &["-f", here, "--underlay", "10.0.0.0/24,10.1.0.0/24"]].concat(), "more than one network"),
        ([&controller[..], &["-f", here, "--nodes", "0"]].concat(), "--nodes"),
        (vec!["lab", "join", "Node/1", "--cluster-dir", here], "\"Node/1\" is not world, nor the name of a node"),
        (vec!["lab", "join", "node1"], "--cluster-dir"),
    ] {
        let output = podplane(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(said), "{args:?}: {}", text(&output.stderr));
    }
}
