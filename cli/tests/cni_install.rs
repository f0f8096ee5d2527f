//! `podplane cni`: the plugin on a node, as an init container installs it and an uninstaller removes it.

mod support;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Output;
use support::{podplane, stdout, text};

struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Node {
        let node = Node(tempfile::tempdir().unwrap());
        fs::write(node.path("plugin"), "#!/bin/sh\n").unwrap();
        node
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn install(&self, args: &[&str]) -> Output {
        let (bin, plugin) = (self.path("opt/cni/bin"), self.path("plugin"));
        podplane(&[&["cni", "install", "--bin-dir", &bin, "--plugin", &plugin], args].concat())
    }

    fn uninstall(&self, args: &[&str]) -> Output {
        let (bin, conf) = (self.path("opt/cni/bin"), self.path("net.d"));
        podplane(&[&["cni", "uninstall", "--bin-dir", &bin, "--conf-dir", &conf], args].concat())
    }
}

#[test]
fn r06_what_was_installed_is_removed_and_the_node_is_as_it_was() {
    let node = Node::new();
    let conf = node.path("net.d");
    assert_eq!(
        stdout(node.install(&[])),
        format!("{}: written\n", node.path("opt/cni/bin/podplane-cni")),
        "no configuration before the node is ready"
    );
    let second = stdout(node.install(&["--conf-dir", &conf, "--socket", "/run/x.sock", "-o", "json"]));
    let report: Value = serde_json::from_str(&second).unwrap();
    let changes: Vec<&Value> = report["files"].as_array().unwrap().iter().map(|file| &file["change"]).collect();
    assert_eq!(changes, ["unchanged", "written"]);
    let list: Value =
        serde_json::from_slice(&fs::read(Path::new(&conf).join("05-podplane.conflist")).unwrap()).unwrap();
    assert_eq!(
        (&list["plugins"][0]["type"], &list["plugins"][0]["socket"]),
        (&"podplane-cni".into(), &"/run/x.sock".into())
    );
    let state = node.path("podplane");
    fs::create_dir(&state).unwrap();
    for expected in ["removed", "absent"] {
        let said = stdout(node.uninstall(&["--state-dir", &state]));
        assert_eq!(said.lines().filter(|line| line.ends_with(expected)).count(), 3, "{said}");
    }
    assert!(fs::read_dir(conf).unwrap().next().is_none() && !Path::new(&state).exists());
}

#[test]
fn a_configuration_that_goes_before_is_warned_of() {
    let node = Node::new();
    let conf = node.path("net.d");
    fs::create_dir(&conf).unwrap();
    fs::write(Path::new(&conf).join("00-bridge.conf"), "{}").unwrap();
    let output = node.install(&["--conf-dir", &conf]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("00-bridge.conf comes before podplane's"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_installed_is_named() {
    let node = Node::new();
    let output = node.install(&["--conf-dir", &node.path("plugin")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("plugin/05-podplane.conflist"), "{}", text(&output.stderr));
    let output = node.uninstall(&["--state-dir", "/var/lib"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is not called podplane"), "{}", text(&output.stderr));
}
