//! The command line's promises about a running lab: places and addresses in all their forms, the shapes of JSON, exit codes.

mod support;

use serde_json::{Value, json};
use support::manifests::SERVERS;
use support::{Folder, Lab, labs_can_run, podplane, podplane_with_input, stdout, text};

/// Names of the fields of an object, sorted.
fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// Clients, servers and ports of a matrix.
fn cells(matrix: &Value) -> Vec<[&Value; 4]> {
    let results = matrix["results"].as_array().expect("results");
    results.iter().map(|cell| [&cell["from"], &cell["to"], &cell["protocol"], &cell["port"]]).collect()
}

fn node_query(lab: &Lab, question: &str, node: &str) -> std::process::Output {
    podplane(&[question, "--lab", &lab.name, "--node", node, "-o", "json"])
}

fn node_json(lab: &Lab, question: &str) -> Value {
    serde_json::from_str(&stdout(node_query(lab, question, "node1"))).expect("JSON")
}

#[test]
fn a_running_lab_answers_in_the_forms_of_the_contract() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    probes_have_the_shape_of_the_contract(&lab);
    places_have_all_their_forms(&lab);
    both_matrices_have_the_same_cells(&lab);
    nodes_are_asked_by_name(&lab);
    logs_are_json_too(&lab);
    unknown_kinds_are_warned_of_once(&lab);
}

fn probes_have_the_shape_of_the_contract(lab: &Lab) {
    let far = lab.address("e2e/far", true);
    let mut report = lab.probe("e2e/client", &format!("[{far}]:8080"));
    assert!(report["rtt_us"].take().is_u64());
    let expected = json!({
        "from": "e2e/client", "to": format!("[{far}]:8080"), "protocol": "tcp", "outcome": "connected",
        "server": "e2e/far", "server_ip": far, "client_ip": lab.address("e2e/client", true), "rtt_us": null,
    });
    assert_eq!(report, expected);
    // Nobody answers: every field is there, and null.
    let report = lab.json("probe", &["--from", "e2e/client", "--to", "e2e/far:1"]);
    assert_eq!(fields(&report), fields(&expected));
    assert_eq!(
        (&report["outcome"], &report["server"], &report["rtt_us"]),
        (&json!("refused"), &Value::Null, &Value::Null)
    );
    // ICMP has no port, so none is shown.
    for to in [far.clone(), format!("[{far}]")] {
        let report = lab.json("probe", &["--from", "e2e/client", "--to", &to, "--protocol", "icmp"]);
        assert_eq!((&report["to"], &report["outcome"]), (&json!(far), &json!("connected")));
    }
}

fn places_have_all_their_forms(lab: &Lab) {
    let client = lab.address("e2e/client", true);
    for (place, name) in [
        ("e2e/client".to_owned(), "e2e/client"),
        (lab.address("e2e/client", false), "e2e/client"),
        (client.clone(), "e2e/client"),
        (format!("[{client}]"), "e2e/client"),
        ("node:node1".to_owned(), "node:node1"),
        ("172.30.0.12".to_owned(), "node:node2"),
        ("fd00:172:30::c".to_owned(), "node:node2"),
        ("world".to_owned(), "world"),
        ("world:203.0.113.5".to_owned(), "world:203.0.113.5"),
        ("203.0.113.5".to_owned(), "world:203.0.113.5"),
        ("world:[2001:db8::5]".to_owned(), "world:2001:db8::5"),
    ] {
        let to = if name.contains("2001") { "[fd00:172:30::b]:1" } else { "172.30.0.11:1" };
        let report = lab.json("probe", &["--from", &place, "--to", to, "--timeout", "200"]);
        assert_eq!(report["from"], name);
    }
    for (place, hint) in [("e2e/nobody", "e2e/client"), ("node:node9", "node:node1"), ("nonsense", "NS/POD")] {
        let output = lab.run("probe", &["--from", place, "--to", "10.0.0.1:1"]);
        assert_eq!(output.status.code(), Some(2), "{place}");
        assert!(text(&output.stderr).contains(hint), "{place}: {}", text(&output.stderr));
    }
}

/// Also where a pod declares no port, such as the client.
fn both_matrices_have_the_same_cells(lab: &Lab) {
    let folder = Folder::new();
    let file = folder.write("cluster.yaml", SERVERS);
    for ports in [&[][..], &["--port", "tcp/9090", "--port", "UDP/8080"]] {
        let args = [&["policy", "matrix", "-o", "json", "-f", &file], ports].concat();
        let judged: Value = serde_json::from_str(&stdout(podplane(&args))).expect("JSON");
        let tried = lab.json("matrix", ports);
        assert_eq!(tried["pods"], judged["pods"]);
        assert_eq!(cells(&tried), cells(&judged));
        assert_eq!(fields(&tried["results"][0]), ["from", "outcome", "port", "protocol", "to"]);
    }
}

fn nodes_are_asked_by_name(lab: &Lab) {
    assert_eq!(node_json(lab, "status")["node"], "node1");
    for question in ["ports", "flows", "drops"] {
        assert!(node_json(lab, question).is_array(), "{question}");
    }
    let services = node_json(lab, "services");
    let service = &services[0];
    assert_eq!(
        (&service["namespace"], &service["name"], &service["type"]),
        (&json!("e2e"), &json!("web"), &json!("ClusterIP"))
    );
    assert_eq!(service["addresses"][0]["address"], "10.96.0.80");
    let backends = service["ports"][0]["backends"].as_array().expect("backends");
    assert!(backends.iter().all(|backend| backend["state"] == "ready"), "{service:#}");
    assert_eq!(backends.iter().filter(|backend| backend["local"] == true).count(), 1, "{service:#}");
    let shown = stdout(podplane(&["services", "--lab", &lab.name, "--node", "node1"]));
    assert!(shown.starts_with("SERVICE") && shown.contains("e2e/near") && shown.contains("node1 (here)"), "{shown}");
    let output = node_query(lab, "status", "node9");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("node:node1, node:node2"), "{}", text(&output.stderr));
}

fn logs_are_json_too(lab: &Lab) {
    let log = lab.json("logs", &["node1"]);
    assert_eq!((fields(&log), &log["of"]), (vec!["lines", "of"], &json!("node1")));
    assert!(log["lines"].as_array().is_some_and(|lines| !lines.is_empty()));
}

fn unknown_kinds_are_warned_of_once(lab: &Lab) {
    let unknown = "apiVersion: v1\nkind: Gadget\nmetadata: {name: x}\n";
    let output = podplane_with_input(&["lab", "apply", "--name", &lab.name, "-f", "-"], unknown);
    let warning = text(&output.stderr);
    assert_eq!((output.status.code(), warning.matches("warning:").count()), (Some(0), 1), "{warning}");
    let name = format!("{}-2", lab.name);
    let output = podplane_with_input(&["lab", "up", "--name", &name, "-f", "-"], unknown);
    let second = Lab { name };
    let warning = text(&output.stderr);
    assert_eq!((output.status.code(), warning.matches("warning:").count()), (Some(0), 1), "{warning}");
    drop(second);
}
