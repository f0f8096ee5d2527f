//! `podplane agent`, and other commands on a Kubernetes API server, with the real binary on a server that replays recorded
//! answers.

use control::api::{AttachRequest, Client};
use namespace::sh;
use node_process::{podplane, private_run, status_when, terminate, text};
use serde_json::{Value, json};
use server::ApiServer;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use support::Folder;

#[path = "../../dataplane/node/tests/common/namespace.rs"]
mod namespace;
#[allow(dead_code)]
#[path = "support/node_process.rs"]
mod node_process;
#[allow(dead_code)]
#[path = "../../control/tests/kubernetes/server/mod.rs"]
mod server;
mod support;

/// A kubeconfig for `server` in `folder`.
fn kubeconfig(folder: &Path, server: &ApiServer) -> PathBuf {
    let path = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{}'}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n",
        server.url()
    );
    fs::write(&path, text).unwrap();
    path
}

/// The agent of the recorded node n1.
fn start(run: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_podplane"))
        .args(["agent", "--node-name", "n1", "--underlay-mtu", "1500", "--healthz-listen", "none"])
        .args(["--kubeconfig", "/run/kubeconfig", "--socket", "/run/node.sock", "--state-dir", "/run/state"])
        .current_dir(run)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    })
}

fn attach(client: &Client, name: &str) {
    sh(&format!("ip netns add {name}"));
    let request = AttachRequest {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        container_id: format!("id-of-{name}"),
        netns: format!("/run/netns/{name}").into(),
        ifname: "eth0".to_owned(),
        addresses: None,
    };
    client.attach(&request).expect("the pod is in force");
}

fn pings(from: &str, to: &str) -> bool {
    let arguments = ["netns", "exec", from, "ping", "-c", "1", "-W", "1", to];
    Command::new("ip").args(arguments).stdout(Stdio::null()).status().unwrap().success()
}

/// Waits until pings of `from` to `to` are answered, or are not.
fn until_pings(from: &str, to: &str, wanted: bool) {
    let began = Instant::now();
    while pings(from, to) != wanted {
        assert!(began.elapsed() < node_process::DEADLINE, "pings from {from} to {to} are answered: {}", !wanted);
    }
}

#[test]
fn r04_a_node_follows_its_api_server_and_outlives_it() {
    namespace::run(|| {
        let run = private_run();
        sh("ip address add 198.51.100.1/24 dev lo");
        let server = ApiServer::recorded();
        kubeconfig(&run, &server);
        server.answer("/namespaces?limit", usize::MAX, server::Answer::new(403, server::recording("forbidden.json")));
        let agent = start(&run);
        let waits = |status: &Value| status["waiting_for"].as_str().is_some_and(|what| what.contains("403: "));
        let waiting = status_when(&run, |status| status["ready"] == false && waits(status));
        assert_eq!(waiting["source"]["kubernetes"]["synced"], false, "{waiting}");
        server.answer_rightly();
        let ready = status_when(&run, |status| status["ready"] == true);
        let kubernetes = &ready["source"]["kubernetes"];
        assert_eq!((&kubernetes["server"], &kubernetes["synced"]), (&json!(server.url()), &json!(true)));
        assert_eq!((&ready["source"]["cluster_dir"], &ready["config"]["nodes"]), (&Value::Null, &json!(2)));
        let table = podplane(&["status", "--socket", "/run/node.sock"]);
        assert!(text(&table.stdout).contains(&format!("{}, heard ", server.url())), "{}", text(&table.stdout));

        // Pods and policies come from the server, and go into force by themselves.
        server.put("pods", pod("a", "10.244.0.50"));
        server.put("pods", pod("b", "10.244.0.51"));
        let client = Client::new("/run/node.sock");
        attach(&client, "a");
        attach(&client, "b");
        until_pings("a", "10.244.0.51", true);
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "metadata": {"namespace": "shop", "name": "closed"},
            "spec": {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"]},
        });
        server.put("networkpolicies", policy);
        until_pings("a", "10.244.0.51", false);

        // The server goes away: all stays, also for an agent that is started meanwhile.
        let cached =
            |_: &Value| fs::read_to_string("/run/state/kubernetes-objects").is_ok_and(|text| text.contains("closed"));
        status_when(&run, cached);
        server.go_away();
        let lost = status_when(&run, |status| status["source"]["kubernetes"]["lost_ms"].is_u64());
        assert_eq!((&lost["ready"], &lost["config"]["policies"]), (&json!(true), &json!(1)));
        assert_eq!(terminate(agent), Some(0));
        let again = start(&run);
        let ready = status_when(&run, |status| status["ready"] == true && status["pid"] == again.id());
        let kubernetes = &ready["source"]["kubernetes"];
        assert_eq!((&kubernetes["synced"], &kubernetes["cached"]["in_force"]), (&json!(false), &json!(true)));
        assert_eq!(ready["config"]["policies"], 1);
        let pods = client.ports().unwrap().into_iter().filter(|port| port.kind == "pod").count();
        assert_eq!(pods, 2, "the pods of the agent before are this one's");
        until_pings("a", "10.244.0.51", false);
        server.delete("networkpolicies", "shop/closed");
        server.come_back();
        let synced = status_when(&run, |status| status["config"]["policies"] == 0);
        assert_eq!(synced["source"]["kubernetes"]["synced"], true);
        until_pings("a", "10.244.0.51", true);
        assert_eq!(terminate(again), Some(0));
        let cleaned = podplane(&["cleanup", "--state-dir", "/run/state"]);
        assert!(cleaned.status.success(), "{}", text(&cleaned.stderr));
        sh("! ip link show podplane0 2>/dev/null");
    });
}

#[test]
fn a_configuration_that_cannot_be_used_is_exit_code_2_with_its_name() {
    let folder = Folder::new();
    let bad = folder.path().join("bad");
    fs::write(&bad, "kind: [").unwrap();
    let bad = bad.to_str().unwrap();
    let socket = folder.path().join("node.sock");
    let socket = socket.to_str().unwrap();
    for (args, told) in [
        (&["agent", "--node-name", "n1", "--kubeconfig", bad, "--socket", socket][..], bad),
        (&["agent", "--node-name", "n1", "--kubeconfig", "/nonexistent/k", "--socket", socket], "/nonexistent/k"),
        (&["agent", "--kubeconfig", bad, "--socket", socket], "--node-name"),
        (&["dns", "--kubeconfig", bad, "--listen", "127.0.0.1:0"], bad),
        (&["dns", "--in-cluster", "--listen", "127.0.0.1:0"], "service account of the pod"),
        (&["dns", "--listen", "127.0.0.1:0"], "--kubeconfig"),
        (&["dns", "-f", ".", "--kubeconfig", bad, "--listen", "127.0.0.1:0"], "cannot be used with"),
        (&["ingress", "--kubeconfig", bad, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"], bad),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podplane"));
        let output = command.args(args).env_remove("NODE_NAME").env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(told), "{args:?}: {said}");
    }
}

/// A command that prints one line of JSON when it serves; that line, and the process.
fn serve(args: &[&str]) -> (Value, Child) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_podplane"))
        .args(args)
        .args(["-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).unwrap();
    (serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}")), child)
}

#[test]
fn the_proxy_serves_the_ingresses_of_a_cluster() {
    let folder = Folder::new();
    let server = ApiServer::recorded();
    server.play();
    let kubeconfig = kubeconfig(folder.path(), &server);
    let address = ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"];
    let (ready, child) = serve(&[&["ingress", "--kubeconfig", kubeconfig.to_str().unwrap()], &address[..]].concat());
    assert_eq!((&ready["ingresses"], &ready["http_routes"]), (&json!(1), &json!(0)), "{ready}");
    assert_eq!(terminate(child), Some(0));
}

#[test]
fn the_cluster_dns_answers_with_the_names_of_a_cluster() {
    let folder = Folder::new();
    let server = ApiServer::recorded();
    let kubeconfig = kubeconfig(folder.path(), &server);
    let (ready, child) = serve(&["dns", "--kubeconfig", kubeconfig.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    let address: std::net::SocketAddr = ready["listen"][0].as_str().unwrap().parse().unwrap();
    let began = Instant::now();
    let answer = || {
        let port = address.port().to_string();
        let question =
            ["@127.0.0.1", "-p", &port, "+short", "+tries=1", "+timeout=2", "kubernetes.default.svc.cluster.local"];
        text(&Command::new("dig").args(question).output().expect("dig (bind9-dnsutils)").stdout)
    };
    while answer().trim() != "10.96.0.1" {
        assert!(began.elapsed() < node_process::DEADLINE, "{}", answer());
    }
    assert_eq!(terminate(child), Some(0));
}
