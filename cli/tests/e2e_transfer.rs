//! Large transfers arrive whole: 2 GiB over one TCP connection, on one node and between two, with offloads and without,
//! with nothing reset and no checksum error at the receiver.

mod support;

use std::collections::HashMap;
use std::time::Duration;
use support::manifests::THREE_PODS;
use support::{Folder, Lab, has_program, labs_can_run, stdout, wait_for};

/// Length of the block that is sent again and again, and how often: 2 GiB in all.
const BLOCK_BYTES: u64 = 64 << 20;
const BLOCKS: u64 = 32;

/// Writes the random block and gives its path and the SHA-256 of all that will be sent.
fn block(folder: &Folder) -> (String, String) {
    let path = folder.path().join("block").to_str().expect("a UTF-8 path").to_owned();
    let script = format!(
        "head -c {BLOCK_BYTES} /dev/urandom > {path}; for i in $(seq {BLOCKS}); do cat {path}; done | sha256sum"
    );
    let output = std::process::Command::new("sh").args(["-ec", &script]).output().expect("sh runs");
    (path, stdout(output))
}

/// The counters of `/proc/net/snmp` in `place`, such as `Tcp.InErrs`.
fn snmp(lab: &Lab, place: &str) -> HashMap<String, u64> {
    let text = lab.exec_ok(place, &["cat", "/proc/net/snmp"]);
    let lines: Vec<&str> = text.lines().collect();
    let mut counters = HashMap::new();
    for pair in lines.chunks_exact(2) {
        let (protocol, names) = pair[0].split_once(':').expect("a protocol");
        let (_, values) = pair[1].split_once(':').expect("a protocol");
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            counters.insert(format!("{protocol}.{name}"), value.parse().unwrap_or(0));
        }
    }
    counters
}

fn transfer(lab: &Lab, path: &str, sum: &str, server: &str) {
    let receive = lab.spawn(server, &["sh", "-c", "socat -u TCP4-LISTEN:7000,reuseaddr STDOUT | sha256sum"]);
    wait_for("the receiver listens", Duration::from_secs(10), || {
        lab.exec_ok(server, &["ss", "-Htln", "sport = :7000"]).contains(":7000").then_some(())
    });
    let address = lab.address(server, false);
    let send = format!("for i in $(seq {BLOCKS}); do cat {path}; done | socat -u -b 262144 STDIN TCP4:{address}:7000");
    lab.sh("e2e/client", &send);
    assert_eq!(stdout(receive.finish()), sum, "{server}: what arrived is not what was sent");
    for place in ["e2e/client", server] {
        let counters = snmp(lab, place);
        for name in ["Tcp.InErrs", "Tcp.InCsumErrors", "Tcp.EstabResets", "Tcp.OutRsts", "Ip.InHdrErrors"] {
            assert_eq!(counters[name], 0, "{place}: {name} after a transfer to {server}");
        }
    }
}

fn transfers(tap_mode: &str) {
    if !labs_can_run() || !has_program("socat") {
        return;
    }
    let folder = Folder::new();
    let (path, sum) = block(&folder);
    let lab = Lab::up(THREE_PODS, &["--tap-mode", tap_mode]);
    transfer(&lab, &path, &sum, "e2e/near");
    transfer(&lab, &path, &sum, "e2e/far");
}

#[test]
fn two_gibibytes_arrive_whole_with_offloads() {
    transfers("offload");
}

#[test]
fn two_gibibytes_arrive_whole_on_plain_taps() {
    transfers("plain");
}
