//! `deploy/`: the image, and the cluster of containers that docker-compose makes of it.
//!
//! The image is built from `deploy/Dockerfile` by `scripts/image`, on a base that is made here and with the program under test. Three
//! nodes, the world outside and the controller are containers with the least capabilities; the manifests are a folder that the
//! test edits.

mod support;

use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::docker::Docker;
use support::{PODPLANE, has_program, stdout, text, wait_for};

/// How long anything may take that is not about time.
const PATIENCE: Duration = Duration::from_secs(60);

const IMAGE: &str = "podplane:test";

const SERVICES: [&str; 5] = ["controller", "node1", "node2", "node3", "world"];

/// What a node's container may do.
const NODE_CAPABILITIES: [&str; 4] = ["NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_CHROOT"];

const CLOSED: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: closed}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchLabels: {app: backend}}}}
  ingress: [{action: Deny, from: [{namespaces: {}}]}]
";

/// A pod that no policy selects: it may ask the world.
const ROVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: rover, namespace: default}
spec: {nodeName: node3, containers: [{name: main, image: none, ports: [{containerPort: 80}]}]}
";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").to_owned()
}

/// The containers of `deploy/compose.yaml` on a daemon of our own.
struct Cluster {
    docker: Docker,
    manifests: PathBuf,
    /// Containers by the name of their service.
    ids: RefCell<BTreeMap<&'static str, String>>,
}

impl Cluster {
    /// `None`, said why, where it cannot run.
    fn start() -> Option<Cluster> {
        if !["docker-compose", "strip", "jq"].iter().all(|name| has_program(name)) {
            return None;
        }
        let docker = Docker::start()?;
        let manifests = docker.folder().path().join("manifests");
        fs::create_dir(&manifests).unwrap();
        for file in ["namespace.yaml", "workloads.yaml", "policies.yaml"] {
            fs::copy(repository().join("lab/demo").join(file), manifests.join(file)).unwrap();
        }
        let cluster = Cluster { docker, manifests, ids: RefCell::default() };
        stdout(cluster.with_daemon("scripts/image").args([IMAGE, PODPLANE]).output().unwrap());
        stdout(cluster.compose(&["up", "--detach", "--no-build"]).output().unwrap());
        for service in SERVICES {
            let id = stdout(cluster.compose(&["ps", "--quiet", service]).output().unwrap()).trim().to_owned();
            cluster.ids.borrow_mut().insert(service, id);
        }
        Some(cluster)
    }

    /// A command in the repository that finds the daemon and what the compose file asks for.
    fn with_daemon(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(repository()).stdin(Stdio::null()).env_remove("DOCKER_CONTEXT");
        command.env("DOCKER_HOST", self.docker.host()).env("DOCKER_CONFIG", self.docker.folder().path());
        command.env("PODPLANE_IMAGE", IMAGE).env("PODPLANE_MANIFESTS", &self.manifests);
        command
    }

    fn compose(&self, args: &[&str]) -> Command {
        let mut command = self.with_daemon("docker-compose");
        command.args(["--file", "deploy/compose.yaml"]).args(args);
        command
    }

    fn id(&self, service: &str) -> String {
        self.ids.borrow()[service].clone()
    }

    fn inspect(&self, service: &str) -> Value {
        let all: Value = serde_json::from_str(&self.docker.ask(&["inspect", &self.id(service)])).unwrap();
        all[0].clone()
    }

    /// A command in the container of `service`.
    fn exec(&self, service: &str, words: &[&str]) -> Output {
        self.docker.client(&[&["exec", &self.id(service)], words].concat()).output().unwrap()
    }

    fn status(&self, service: &str) -> Option<Value> {
        serde_json::from_slice(&self.exec(service, &["podplane", "lab", "status", "-o", "json"]).stdout).ok()
    }

    /// The pod whose name begins with `prefix` and that runs on `node`.
    fn pod(&self, prefix: &str, node: &str) -> Option<Value> {
        let status = self.status(node)?;
        let is_wanted =
            |pod: &&Value| pod["node"] == node && pod["name"].as_str().is_some_and(|n| n.starts_with(prefix));
        status["pods"].as_array()?.iter().find(is_wanted).cloned()
    }

    /// One real connection from a place of `service`.
    fn probe(&self, service: &str, from: &str, to: &str) -> Value {
        let words = ["podplane", "lab", "probe", "--from", from, "--to", to, "--timeout", "2000", "-o", "json"];
        let output = self.exec(service, &words);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{from} -> {to}: {}", text(&output.stderr)))
    }

    fn wait_outcome(&self, service: &str, from: &str, to: &str, outcome: &str) -> Value {
        let mut last = Value::Null;
        support::wait_until(PATIENCE, || {
            last = self.probe(service, from, to);
            (last["outcome"] == outcome).then(|| last.clone())
        })
        .unwrap_or_else(|| panic!("{from} -> {to} is not {outcome}: {last}; {}", self.logs()))
    }

    fn logs(&self) -> String {
        let output = self.compose(&["logs", "--no-color"]).output().unwrap();
        text(&output.stdout)
    }

    fn wait_healthy(&self) {
        for service in SERVICES {
            let healthy = support::wait_until(PATIENCE, || {
                (self.inspect(service)["State"]["Health"]["Status"] == "healthy").then_some(())
            });
            assert!(healthy.is_some(), "{service} is not healthy: {}", self.logs());
        }
    }

    /// Puts a manifest into the folder, or takes it away.
    fn put(&self, name: &str, manifest: Option<&str>) {
        let path = self.manifests.join(name);
        match manifest {
            Some(manifest) => fs::write(path, manifest).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
}

fn full_name(pod: &Value) -> String {
    format!("{}/{}", pod["namespace"].as_str().unwrap(), pod["name"].as_str().unwrap())
}

fn address(pod: &Value) -> &str {
    pod["ips"][0].as_str().unwrap()
}

/// Everything with one cluster, one after the other: a daemon and an image per test would cost more than all of them.
#[test]
fn compose_makes_a_cluster_of_containers_that_follows_its_manifests_and_leaves_nothing() {
    let Some(cluster) = Cluster::start() else { return };
    the_image_says_what_it_is(&cluster);
    cluster.wait_healthy();
    containers_have_the_least_capabilities(&cluster);
    pods_and_the_world_connect_as_policies_say(&cluster);
    an_edited_manifest_is_in_force_everywhere(&cluster);
    a_node_process_that_dies_is_started_again(&cluster);
    nothing_is_left(&cluster);
}

fn the_image_says_what_it_is(cluster: &Cluster) {
    let images: Value = serde_json::from_str(&cluster.docker.ask(&["image", "inspect", IMAGE])).unwrap();
    let config = &images[0]["Config"];
    assert_eq!(config["Entrypoint"], json!(["podplane"]));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", "podplane", "status"]));
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), "podplane");
    assert_eq!(label("version"), env!("CARGO_PKG_VERSION"), "deploy/Dockerfile has the version of the workspace");
}

fn containers_have_the_least_capabilities(cluster: &Cluster) {
    for service in SERVICES {
        let host = cluster.inspect(service)["HostConfig"].clone();
        let capabilities = match service {
            "controller" => json!(["DAC_OVERRIDE"]),
            "world" => json!(["NET_RAW"]),
            _ => json!(NODE_CAPABILITIES),
        };
        assert_eq!(host["Privileged"], false, "{service}");
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!((&host["CapDrop"], &host["CapAdd"]), (&json!(["ALL"]), &capabilities), "{service}");
        let options = host["SecurityOpt"].as_array().unwrap();
        assert!(options.contains(&json!("no-new-privileges:true")), "{service}: {options:?}");
        assert!(!options.contains(&json!("seccomp=unconfined")), "{service}: {options:?}");
        let devices = host["Devices"].as_array().map_or(0, Vec::len);
        assert_eq!(devices, usize::from(service.starts_with("node")), "{service}: /dev/net/tun for nodes only");
    }
}

fn pods_and_the_world_connect_as_policies_say(cluster: &Cluster) {
    let frontend = cluster.pod("frontend", "node1").expect("a frontend on node1");
    let near = cluster.pod("backend", "node1").expect("a backend on node1");
    let far = cluster.pod("backend", "node2").expect("a backend on node2");
    let db = cluster.pod("db", "node3").expect("db on node3");
    let name = full_name(&frontend);
    for backend in [&near, &far] {
        let answer = cluster.wait_outcome("node1", &name, &format!("{}:8080", address(backend)), "connected");
        assert_eq!(answer["server"], full_name(backend), "{answer}");
        assert_eq!(answer["client_ip"], frontend["ips"][0], "{answer}");
    }
    // Nodes have IPv4 addresses only, and carry both families.
    let six = format!("[{}]:8080", far["ips"][1].as_str().unwrap());
    cluster.wait_outcome("node1", &name, &six, "connected");
    let answer = cluster.wait_outcome("node1", &name, "backend.shop:80", "connected");
    assert!(answer["server"].as_str().unwrap().starts_with("shop/backend-"), "{answer}");
    assert_eq!(cluster.probe("node1", &name, &format!("{}:5432", address(&db)))["outcome"], "timeout");

    // From outside: at every node, also one without a backend, and at the LoadBalancer's address.
    for to in ["node:node1:30080", "node:node3:30080", "10.213.0.200:80"] {
        let answer = cluster.wait_outcome("world", "world", to, "connected");
        assert!(answer["server"].as_str().unwrap().starts_with("shop/frontend-"), "{to}: {answer}");
        assert_eq!(answer["client_ip"], "10.213.0.100", "{to}: {answer}");
    }
    let page = cluster.exec("world", &["wget", "-qO-", "http://node2:30080/"]);
    assert!(text(&page.stdout).contains("shop/frontend-"), "{}", text(&page.stderr));
    // To the outside, with the node's address.
    cluster.put("rover.yaml", Some(ROVER));
    wait_for("a pod that is put there runs", PATIENCE, || {
        cluster.pod("rover", "node3").filter(|pod| pod["ready"] == true)
    });
    let answer = cluster.wait_outcome("node3", "default/rover", "world:80", "connected");
    assert_eq!((&answer["server"], &answer["client_ip"]), (&json!("world"), &json!("10.213.0.13")), "{answer}");

    let output = cluster.exec("node1", &["podplane", "lab", "probe", "--from", "shop/db-0", "--to", "world:80"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("shop/db-0: does not run here but with node3"), "{}", text(&output.stderr));
    let output = cluster.exec("node1", &["podplane", "lab", "apply", "-f", "/cluster/nodes/node1.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("podplane lab controller"), "{}", text(&output.stderr));
}

fn an_edited_manifest_is_in_force_everywhere(cluster: &Cluster) {
    let frontend = cluster.pod("frontend", "node1").expect("a frontend on node1");
    let far = cluster.pod("backend", "node2").expect("a backend on node2");
    let (from, to) = (full_name(&frontend), format!("{}:8080", address(&far)));
    cluster.put("closed.yaml", Some(CLOSED));
    cluster.wait_outcome("node1", &from, &to, "timeout");
    // What breaks is told and stays in force as it last was.
    cluster.put("closed.yaml", Some(&CLOSED.replace("Admin", "Middle")));
    wait_for("the controller tells what is wrong", PATIENCE, || {
        cluster.logs().contains("its last good form stays in force").then_some(())
    });
    assert_eq!(cluster.probe("node1", &from, &to)["outcome"], "timeout");
    cluster.put("closed.yaml", None);
    cluster.wait_outcome("node1", &from, &to, "connected");

    // Started again, the controller gives everybody the address that he had.
    cluster.docker.ask(&["restart", &cluster.id("controller")]);
    let workloads = fs::read_to_string(cluster.manifests.join("workloads.yaml")).unwrap();
    cluster.put("workloads.yaml", Some(&workloads.replacen("replicas: 2", "replicas: 3", 1)));
    let third =
        wait_for("a third frontend", PATIENCE, || cluster.pod("frontend", "node3").filter(|pod| pod["ready"] == true));
    cluster.wait_outcome("node3", &full_name(&third), &to, "connected");
    assert_eq!(cluster.pod("frontend", "node1").map(|pod| pod["ips"].clone()), Some(frontend["ips"].clone()));
}

fn a_node_process_that_dies_is_started_again(cluster: &Cluster) {
    let frontend = full_name(&cluster.pod("frontend", "node1").expect("a frontend on node1"));
    let script = "kill -9 $(ps | grep '[p]odplane node --node-name' | sed 's/^ *//; s/ .*//')";
    assert!(cluster.exec("node1", &["sh", "-c", script]).status.success());
    wait_for("the end of the node process to be seen", PATIENCE, || {
        (!cluster.exec("node1", &["podplane", "lab", "status", "--ready"]).status.success()).then_some(())
    });
    wait_for("the node to be ready again", PATIENCE, || {
        cluster.exec("node1", &["podplane", "lab", "status", "--ready"]).status.success().then_some(())
    });
    cluster.wait_outcome("node1", &frontend, "backend.shop:80", "connected");
}

fn nothing_is_left(cluster: &Cluster) {
    stdout(cluster.compose(&["stop"]).output().unwrap());
    for service in SERVICES {
        let state = cluster.inspect(service)["State"].clone();
        assert_eq!(
            (&state["Status"], &state["ExitCode"]),
            (&json!("exited"), &json!(0)),
            "{service}: {}",
            cluster.logs()
        );
    }
    stdout(cluster.compose(&["down", "--volumes"]).output().unwrap());
    for what in [["ps", "--all", "--quiet"].as_slice(), &["volume", "ls", "--quiet"]] {
        assert_eq!(cluster.docker.ask(what), "", "{what:?}");
    }
    let networks = cluster.docker.ask(&["network", "ls", "--format", "{{.Name}}"]);
    let mut networks: Vec<&str> = networks.lines().collect();
    networks.sort_unstable();
    assert_eq!(networks, ["host", "none"]);
    let links = stdout(cluster.docker.beside(&["ip", "-o", "link"]).output().unwrap());
    assert_eq!(links.lines().count(), 1, "only lo: {links}");
}
