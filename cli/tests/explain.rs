//! `podplane explain`: the contract of its JSON, its exit codes and its errors. No root, no packets.

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;
use std::thread::JoinHandle;
use support::{Folder, podplane, podplane_with_input, stdout, text};

/// A client and two servers, one of them closed to it; a NodePort and a headless Service. Everything else is filled in.
const SHOP: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: open, namespace: shop, labels: {app: web, part: open}}
spec: {nodeName: node1, containers: [{name: c, image: none, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: closed, namespace: shop, labels: {app: web, part: closed}}
spec: {nodeName: node2, containers: [{name: c, image: none, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.80
  selector: {part: open}
  ports: [{port: 80, targetPort: http, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: all, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: shop}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec:
  podSelector: {matchLabels: {part: closed}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 9090}]}]
";

fn run(from: &str, to: &str, more: &[&str]) -> Output {
    podplane_with_input(&[&["explain", "-f", "-", "--from", from, "--to", to], more].concat(), SHOP)
}

/// Exit code and JSON.
fn explain(from: &str, to: &str, more: &[&str]) -> (Option<i32>, Value) {
    let output = run(from, to, &[&["-o", "json"], more].concat());
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{from} -> {to}: {e}: {}{}", text(&output.stdout), text(&output.stderr)));
    (output.status.code(), json)
}

/// What is said of an end that no policy selects.
fn open_side() -> Value {
    json!({
        "verdict": "allow", "isolated": false, "policies": [], "rule": null, "tiers": [], "unmatched": [], "dry_run": null,
    })
}

#[test]
fn the_json_is_the_contract() {
    let (code, told) = explain("shop/client", "web.shop:80", &[]);
    let expected = json!({
        "from": "shop/client", "to": "web.shop:80", "protocol": "tcp", "port": 80, "outcome": "delivered",
        "reason": told["reason"], "steps": told["steps"], "ingress_route": null,
        "service": {
            "namespace": "shop", "name": "web", "port": 80, "vip": "10.96.0.80", "kind": "ClusterIP",
            "candidates": [told["backend"]], "source_nat": false, "affinity": "None",
        },
        "backend": {
            "pod": "shop/open", "ip": told["backend"]["ip"], "port": 8080, "node": "node1", "ready": true, "local": true,
        },
        "egress": open_side(), "ingress": open_side(),
    });
    assert_eq!(told, expected);
    assert_eq!(code, Some(0));
    let steps = told["steps"].as_array().expect("steps");
    assert!(!steps.is_empty());
    for step in steps {
        let names: Vec<&String> = step.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["decision", "stage", "where", "why"]);
    }
}

#[test]
fn every_outcome_has_its_exit_code() {
    for (from, to, more, outcome, code) in [
        ("shop/client", "web:80", &[][..], "delivered", 0),
        ("shop/client", "203.0.113.9:443", &[], "external", 0),
        ("shop/client", "shop/closed:8080", &[], "denied", 1),
        ("shop/client", "none:80", &[], "rejected", 1),
        ("world", "shop/open:8080", &[], "dropped", 1),
        ("shop/client", "nothing:80", &[], "unresolved", 1),
        ("shop/client", "http://web.shop/path", &[], "delivered", 0),
        ("shop/client", "shop/open", &["--protocol", "icmp"], "delivered", 0),
        ("world", "node1:30080", &[], "delivered", 0),
        ("node:node2", "127.0.0.1:30080", &[], "delivered", 0),
    ] {
        let (found, told) = explain(from, to, more);
        assert_eq!((told["outcome"].as_str(), found), (Some(outcome), Some(code)), "{from} -> {to}: {told:#}");
        assert!(told["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        for side in ["egress", "ingress"] {
            assert!(told[side]["verdict"].is_string() && told[side]["policies"].is_array(), "{told:#}");
        }
    }
}

#[test]
fn a_denial_says_which_field_of_which_rule_failed() {
    let (_, told) = explain("shop/client", "shop/closed:8080", &[]);
    assert_eq!(
        told["ingress"],
        json!({
            "verdict": "deny", "isolated": true, "policies": ["shop/closed"],
            "rule": "shop/closed spec.ingress[0].ports: TCP 8080 is not in [TCP 9090]",
            "tiers": [{
                "tier": "NetworkPolicy", "decision": "deny",
                "rule": "shop/closed spec.ingress[0].ports: TCP 8080 is not in [TCP 9090]",
            }],
            "unmatched": ["shop/closed spec.ingress[0].ports: TCP 8080 is not in [TCP 9090]"],
            "dry_run": null,
        })
    );
    assert_eq!(
        told["reason"],
        "ingress policy of shop/closed denies it (dropped, not refused): shop/closed spec.ingress[0].ports: TCP 8080 is not in [TCP 9090]"
    );
    let (_, told) = explain("shop/open", "shop/closed:9090", &[]);
    let rule = told["ingress"]["rule"].as_str().expect("a rule");
    assert!(rule.starts_with("shop/closed spec.ingress[0].from: shop/open (app=web, part=open, "), "{rule}");
}

/// Tiers around the NetworkPolicy of [`SHOP`], and a policy that is only tried out.
const TIERS: &str = "---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 5
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}
  ingress:
  - {name: no debugging, action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 6060}}}]}
  - {name: ask the namespace, action: Pass, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 8080}}}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: tried, namespace: shop, annotations: {podplane.io/dry-run: 'true'}}
spec: {podSelector: {matchLabels: {part: open}}}
";

#[test]
fn tiers_and_dry_runs_are_told() {
    let all = format!("{SHOP}{TIERS}");
    let ask = |to: &str| {
        let args = ["explain", "-f", "-", "--from", "shop/client", "--to", to, "-o", "json"];
        let output = podplane_with_input(&args, &all);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let told = ask("shop/open:6060");
    let rule = "guard spec.ingress[0] \"no debugging\" (Admin tier, Deny)";
    assert_eq!(told["ingress"]["tiers"], json!([{"tier": "Admin", "decision": "deny", "rule": rule}]));
    assert_eq!((&told["ingress"]["isolated"], &told["ingress"]["policies"]), (&json!(false), &json!(["guard"])));
    let told = ask("shop/closed:8080");
    let pass = "guard spec.ingress[1] \"ask the namespace\" (Admin tier, Pass)";
    let nearest = "shop/closed spec.ingress[0].ports: TCP 8080 is not in [TCP 9090]";
    assert_eq!(
        told["ingress"]["tiers"],
        json!([
            {"tier": "Admin", "decision": "pass", "rule": pass},
            {"tier": "NetworkPolicy", "decision": "deny", "rule": nearest},
        ])
    );
    let told = ask("web:80");
    assert_eq!(told["outcome"], "delivered");
    let tried = "shop/tried spec.ingress: there is no rule, so nothing is allowed";
    assert_eq!(told["ingress"]["dry_run"], json!({"verdict": "deny", "rule": tried}));
    let reason = told["reason"].as_str().unwrap_or_default();
    let would = format!("ingress policy of shop/open would deny it with the dry-run policies in force: {tried}");
    assert!(reason.ends_with(&would), "{reason}");
}

#[test]
fn a_denial_by_default_names_every_policy_that_isolates() {
    let more = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: default, namespace: shop}\nspec: \
                {podSelector: {}}\n";
    let all = format!("{SHOP}{more}");
    let args = ["explain", "-f", "-", "--from", "shop/client", "--to", "shop/closed:8080"];
    let shown = text(&podplane_with_input(&args, &all).stdout);
    let nearest = "shop/closed spec.ingress[0].ports: TCP 8080 is not in [TCP 9090]";
    let first = format!(
        "  ingress policy of shop/closed denies it (dropped, not refused): {nearest}; nor does shop/default allow it"
    );
    assert_eq!(shown.lines().nth(1), Some(first.as_str()), "{shown}");
    // The step has a line for each of them.
    let step = shown.lines().position(|line| line.contains("ingress-policy")).expect("a step");
    let lines: Vec<&str> = shown.lines().skip(step).map(str::trim).take(2).collect();
    let start = format!("shop/closed is selected by shop/closed, shop/default: {nearest}");
    assert!(lines[0].ends_with(&start), "{shown}");
    assert_eq!(lines[1], "shop/default spec.ingress: there is no rule, so nothing is allowed", "{shown}");
}

#[test]
fn each_tells_every_backend() {
    let (code, told) = explain("shop/client", "all:80", &["--each"]);
    let outcomes: Vec<(&str, &str)> = told["each"]
        .as_array()
        .expect("each")
        .iter()
        .map(|each| (each["backend"]["pod"].as_str().unwrap_or(""), each["outcome"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(outcomes.len(), 2);
    assert!(
        outcomes.contains(&("shop/open", "delivered")) && outcomes.contains(&("shop/closed", "denied")),
        "{told:#}"
    );
    // Some connections fail, so the answer is no.
    assert_eq!((told["outcome"].as_str(), code), (Some("denied"), Some(1)));
    assert_eq!(told["backend"]["pod"], "shop/closed");
}

#[test]
fn people_get_the_answer_first_and_then_the_steps() {
    let output = run("shop/client", "all:80", &[]);
    let shown = text(&output.stdout);
    let first = shown.lines().next().unwrap_or_default();
    assert_eq!(first, "shop/client -> all:80 (TCP): denied");
    for part in ["CANDIDATE", "shop/closed *", "egress", "ingress", "WHERE", "ingress-policy"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn the_flags_of_the_node_count() {
    let flags = ["--nodeport-addresses", "172.30.0.12"];
    assert_eq!(explain("world", "172.30.0.11:30080", &[]).1["service"]["kind"], "NodePort");
    assert_eq!(explain("world", "172.30.0.11:30080", &flags).1["service"], Value::Null);
    assert_eq!(explain("shop/client", "web:80", &["--masquerade-all"]).1["service"]["source_nat"], true);
}

#[test]
fn manifests_and_folders_are_read_and_refused_objects_are_warned_of() {
    let folder = Folder::new();
    let file = folder.write("shop.yaml", SHOP);
    let folder = folder.path().to_str().expect("UTF-8");
    for path in [file.as_str(), folder] {
        let output = podplane(&["explain", "-f", path, "--from", "shop/client", "--to", "web:80"]);
        assert!(stdout(output).contains("delivered"), "{path}");
    }
    let twice = format!("{SHOP}---{SHOP}");
    let output = podplane_with_input(&["explain", "-f", "-", "--from", "shop/client", "--to", "web:80"], &twice);
    assert!(
        text(&output.stderr).contains("warning: refused, and left out of the answer: "),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn bad_input_is_exit_code_2_and_says_what_there_is() {
    for (from, to, more, says) in [
        ("shop/nobody", "web:80", &[][..], "there is: shop/client"),
        ("node:node9", "web:80", &[], "node:node1"),
        ("underlay", "web:80", &[], "nothing is sent from here"),
        ("shop/client", "web", &[], "HOST:PORT"),
        ("shop/client", "ftp://web/", &[], "http://"),
        ("shop/client", "web:80", &["--protocol", "gre"], "use tcp, udp, sctp or icmp"),
        ("world", "node1:30080", &["--node", "node9"], "no such node"),
        ("shop/client", "shop/nobody:80", &[], "no such pod"),
        ("shop/client", "web:80", &["--lab", "x"], "cannot be used with"),
    ] {
        let output = run(from, to, more);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{from} -> {to}: {error}");
        assert!(error.contains(says), "{from} -> {to}: {error}");
    }
    let output = podplane(&["explain", "--from", "shop/client", "--to", "web:80"]);
    assert_eq!(output.status.code(), Some(2), "neither manifests nor a lab");
    let output = podplane_with_input(&["explain", "-f", "-", "--from", "a/b", "--to", "web:80"], "{");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

/// Answers one request on a unix socket as a node of another kind would.
fn one_answer(socket: &Path, body: &'static str) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).expect("a request") > 0);
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).expect("an answer");
    })
}

#[test]
fn a_node_that_cannot_be_explained_is_exit_code_2_with_what_to_do() {
    let folder = Folder::new();
    let socket = folder.path().join("node.sock");
    let socket_text = socket.to_str().expect("UTF-8");
    let ask = || podplane(&["explain", "--socket", socket_text, "--from", "shop/client", "--to", "web:80"]);
    let output = ask();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no node process answers on"), "{}", text(&output.stderr));
    // Its objects come from elsewhere.
    let status = r#"{"version": "1", "node": "n9", "pid": 1, "uptime_ms": 1, "resident_bytes": 1, "ready": true, "waiting_for": null,
        "config": {"generation": 1, "epoch": 1, "digest": "", "age_ms": 1, "took_us": 1, "compile_us": 1, "nodes": 1, "pods": 0,
        "service_ports": 0, "policies": 0, "problems": []}, "dataplane": null}"#;
    let node = one_answer(&socket, status);
    let output = ask();
    node.join().expect("the node was asked");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("node n9 does not read its objects from a cluster directory") && error.contains("use -f"),
        "{error}"
    );
}
