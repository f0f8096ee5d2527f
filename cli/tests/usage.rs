//! The command line's promises that need no lab: exit codes, help, completions, readers that go away.

mod support;

use std::io::Read;
use std::process::{Command, Stdio};
use support::{PODPLANE, podplane, stdout, text};

#[test]
fn bad_usage_is_exit_code_2() {
    for args in [&["nonsense"][..], &["lab", "nonsense"], &["check"], &["completions", "tcsh"], &["-o", "xml", "check"]]
    {
        assert_eq!(podplane(args).status.code(), Some(2), "{args:?}");
    }
}

/// What is not a list of tests is not told as one, and nothing is done before that is said.
#[test]
fn junit_is_only_for_expectations() {
    for args in [&["check", "-f", "/nonexistent"][..], &["policy", "matrix", "-f", "/nonexistent"], &["lab", "list"]] {
        let output = podplane(&[args, &["-o", "junit"]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("policy matrix --expect"), "{}", text(&output.stderr));
    }
}

#[test]
fn arguments_are_judged_before_the_lab_is_looked_for() {
    for args in [
        &["lab", "matrix", "--port", "ICMP/1"][..],
        &["lab", "matrix", "--port", "8080"],
        &["lab", "probe", "--from", "world", "--to", "10.0.0.1"],
        &["lab", "probe", "--from", "world", "--to", "fd00::1:80"],
        &["lab", "probe", "--from", "world", "--to", "10.0.0.1:70000"],
        &["lab", "probe", "--from", "world", "--to", "10.0.0.1:1", "--protocol", "gre"],
        &["lab", "status", "--name", "../x"],
        &["lab", "up", "--nodes", "0"],
    ] {
        let args = [args, &["--name", "no-such-lab"]].concat();
        let args = if args.contains(&"../x") { &args[..args.len() - 2] } else { &args };
        let output = podplane(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_lab_that_is_not_there_is_exit_code_1() {
    for command in ["status", "down", "matrix"] {
        let output = podplane(&["lab", command, "--name", "no-such-lab"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains("there is no lab \"no-such-lab\""), "{}", text(&output.stderr));
    }
}

#[test]
fn standard_input_is_read_once() {
    let output = podplane(&["check", "-f", "-", "-f", "-"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("only once"), "{}", text(&output.stderr));
}

#[test]
fn the_version_is_printed() {
    assert_eq!(stdout(podplane(&["--version"])), format!("podplane {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_has_examples() {
    let lab = "up apply delete status list exec probe matrix capture logs down bench";
    let lab = lab.split(' ').map(|command| vec!["lab", command]);
    let others =
        ["check", "completions", "explain", "ingress", "node", "status", "ports", "services", "flows", "drops"]
            .map(|command| vec![command]);
    for args in
        lab.chain(others).chain([vec![], vec!["policy", "matrix"], vec!["policy", "diff"], vec!["policy", "lint"]])
    {
        let help = stdout(podplane(&[&args[..], &["--help"]].concat()));
        assert!(help.contains("Examples:") && help.contains("podplane"), "{args:?}: {help}");
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(podplane(&["completions", shell]));
        assert!(script.contains("policy") && script.contains("matrix"), "{shell}: {script}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(PODPLANE)
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("podplane runs");
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut errors).expect("stderr is text");
    assert_eq!((child.wait().expect("it ends").code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn an_unreadable_file_is_bad_input_that_is_named() {
    for command in [&["check"][..], &["policy", "matrix"]] {
        let mut args = command.to_vec();
        args.extend(["-f", "/nonexistent/pods.yaml"]);
        let output = podplane(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains("/nonexistent/pods.yaml"), "{}", text(&output.stderr));
    }
}

#[test]
fn no_colour_without_a_terminal() {
    assert!(!podplane(&["check", "-f", "/nonexistent"]).stderr.contains(&0x1b));
    assert!(!podplane(&["--help"]).stdout.contains(&0x1b));
}
