//! `podplane-cni` as a container runtime runs it: variables, a configuration on standard input, JSON back.

use serde_json::{Value, json};
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// The plugin under test.
pub(crate) const PLUGIN: &str = env!("CARGO_BIN_EXE_podplane-cni");

/// What a call came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Exit code.
    pub(crate) code: i32,
    /// Standard output; null if there is none.
    pub(crate) said: Value,
}

impl Outcome {
    /// The result of a call that must have succeeded.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.code, 0, "{:#}", self.said);
        self.said
    }

    /// Code and message of a call that must have failed.
    pub(crate) fn error(self) -> (u64, String) {
        assert_eq!(self.code, 1, "{:#}", self.said);
        assert!(self.said["cniVersion"].is_string() && self.said["msg"].is_string(), "{:#}", self.said);
        (self.said["code"].as_u64().expect("a code"), self.said["details"].as_str().expect("details").to_owned())
    }
}

/// The plain configuration that leads to the node of a test.
pub(crate) fn configuration() -> Value {
    json!({"cniVersion": "1.1.0", "name": "podplane", "type": "podplane-cni", "socket": "/run/node.sock"})
}

/// The configuration with more fields.
pub(crate) fn with(more: Value) -> Value {
    let mut configuration = configuration();
    configuration.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    configuration
}

/// A call that has begun.
pub(crate) struct Call(Child);

impl Call {
    /// Waits for its end.
    pub(crate) fn finish(self) -> Outcome {
        let output = self.0.wait_with_output().expect("the plugin ends");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        let said = if said.is_empty() { Value::Null } else { serde_json::from_str(&said).expect("JSON") };
        Outcome { code: output.status.code().expect("it is not killed"), said }
    }
}

/// Begins a call with these variables and this text on standard input.
pub(crate) fn begin(variables: &[(&str, &str)], input: &str) -> Call {
    let mut child = Command::new(PLUGIN)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the plugin runs");
    // A plugin that refuses its variables may not read.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    Call(child)
}

/// Begins a command about interface eth0 of the sandbox `id`, whose network namespace has that name.
pub(crate) fn begin_for(command: &str, id: &str, args: &str, configuration: &Value) -> Call {
    let netns = format!("/run/netns/{id}");
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", id),
        ("CNI_NETNS", &netns),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", args),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    begin(&variables, &configuration.to_string())
}

/// The same to its end.
pub(crate) fn call(command: &str, id: &str, configuration: &Value) -> Outcome {
    begin_for(command, id, "", configuration).finish()
}

/// Adds a sandbox with the plain configuration.
pub(crate) fn add(id: &str) -> Outcome {
    call("ADD", id, &configuration())
}

/// Deletes it.
pub(crate) fn del(id: &str) -> Outcome {
    call("DEL", id, &configuration())
}

/// STATUS or GC, which are about no sandbox.
pub(crate) fn ask(command: &str, configuration: &Value) -> Outcome {
    begin(&[("CNI_COMMAND", command), ("CNI_PATH", "/opt/cni/bin")], &configuration.to_string()).finish()
}

/// The first address of a result, without its prefix.
pub(crate) fn address(result: &Value) -> String {
    let address = result["ips"][0]["address"].as_str().expect("an address");
    address.split('/').next().expect("it is not empty").to_owned()
}
