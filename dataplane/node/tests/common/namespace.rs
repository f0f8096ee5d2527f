//! Runs a test in namespaces of its own, so that it needs no privileges and leaves nothing behind.
//!
//! The test process starts itself again under unshare(1) (util-linux) with only that test, in new user, network and mount
//! namespaces. Whatever it makes there vanishes with it.

use std::process::{Command, Stdio};

/// Set in the process that runs inside.
const INSIDE: &str = "PODPLANE_TEST_INSIDE";

/// Runs `body` inside. `body` must be a closure written in the test function itself: its type's name tells the test's name.
///
/// Where namespaces or TAPs are not to be had the test says so and passes, except in CI (`CI` is set), where it fails.
pub(crate) fn run<F: FnOnce()>(body: F) {
    match namespace_flags() {
        Some(flags) => run_under(flags, &[], body),
        None => cannot_run("unshare(1) gives no network namespace"),
    }
}

/// Like [`run`], in a user namespace that has no say over the network namespace, which stays that of the caller.
#[allow(dead_code)]
pub(crate) fn run_without_net_admin<F: FnOnce()>(body: F) {
    run_under(&["--user", "--map-root-user"], &[], body);
}

/// Like [`run`], without CAP_NET_RAW.
#[allow(dead_code)]
pub(crate) fn run_without_net_raw<F: FnOnce()>(body: F) {
    match namespace_flags() {
        Some(flags) => run_under(flags, &["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"], body),
        None => cannot_run("unshare(1) gives no network namespace"),
    }
}

fn run_under<F: FnOnce()>(flags: &[&str], before: &[&str], body: F) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return cannot_run(&format!("/dev/net/tun cannot be opened: {error}"));
    }
    // "crate::module::test::{{closure}}"; libtest leaves the crate out.
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = path.split_once("::").expect("a test has a path");
    let status = Command::new("unshare")
        .args(flags)
        .args(["--mount", "--fork", "--kill-child", "--"])
        .args(before)
        .arg(std::env::current_exe().expect("the test binary has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare starts");
    assert!(status.success(), "inside its namespaces {test} ended with {status}");
}

/// The arguments with which unshare(1) gives us a network namespace that we may configure.
fn namespace_flags() -> Option<&'static [&'static str]> {
    if std::env::var_os(INSIDE).is_some() {
        return Some(&[]);
    }
    const CHOICES: [&[&str]; 2] = [&["--user", "--map-root-user", "--net"], &["--net"]];
    CHOICES.into_iter().find(|flags| {
        let tried = Command::new("unshare").args(*flags).args(["--mount", "true"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

fn cannot_run(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "this test cannot run here, and in CI it must: {why}");
    eprintln!("not run: {why}");
}

/// Runs a command line and fails the test if it fails.
pub(crate) fn sh(line: &str) {
    let status = Command::new("sh").args(["-e", "-c", line]).status().expect("a shell starts");
    assert!(status.success(), "`{line}` ended with {status}");
}
