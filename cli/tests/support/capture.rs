//! Captures by tcpdump while something happens, and tshark's judgement of them.

use super::{Folder, Lab, stdout, wait_for, wait_until};
use std::process::Command;
use std::time::Duration;

/// Every check that tshark can make of its own, and what it complains about.
pub const COMPLAINTS: &str = "_ws.malformed || ip.checksum.status == Bad || udp.checksum.status == Bad || \
                              tcp.checksum.status == Bad || icmp.checksum.status == Bad || icmpv6.checksum.status == Bad";

/// The packets of `file` that `filter` takes, a line each, with every checksum checked.
pub fn tshark(file: &str, filter: &str) -> String {
    stdout(command(file, filter).output().expect("tshark runs"))
}

/// Some fields of the packets of `file` that `filter` takes: a line for each packet, fields separated by tabs, several values
/// of one field (of an outer and an embedded header) by commas.
pub fn tshark_fields(file: &str, filter: &str, fields: &[&str]) -> Vec<String> {
    let mut command = command(file, filter);
    command.args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    stdout(command.output().expect("tshark runs")).lines().map(str::to_owned).collect()
}

fn command(file: &str, filter: &str) -> Command {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", file, "-Y", filter]);
    for check in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE", "tcp.check_checksum:TRUE"] {
        command.args(["-o", check]);
    }
    command
}

/// The packets that tshark finds malformed in a capture with unfinished checksums. It must not look at those: what follows a
/// wrong checksum it does not put together, and then calls the rest of a message malformed.
pub fn malformed_whatever_the_checksum(file: &str) -> String {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", file, "-Y", "_ws.malformed", "-o", "tcp.check_checksum:FALSE"]);
    stdout(command.output().expect("tshark runs"))
}

/// Captures `place`'s eth0 to a file while `traffic` runs; gives the file.
pub fn capture(lab: &Lab, folder: &Folder, place: &str, filter: &str, traffic: impl FnOnce()) -> String {
    let file = folder.path().join(place.replace(['/', ':'], "-")).to_str().expect("a UTF-8 path").to_owned();
    let script = format!(
        "echo $$ >{file}.pid; exec tcpdump -Z root -i eth0 -U --immediate-mode -B 16384 -w {file} {filter} 2>{file}.log"
    );
    let tcpdump = lab.spawn(place, &["sh", "-c", &script]);
    let log = || std::fs::read_to_string(format!("{file}.log")).unwrap_or_default();
    wait_for("tcpdump listens", Duration::from_secs(10), || log().contains("listening on").then_some(()));
    traffic();
    // Asked by SIGUSR1, tcpdump says what its filter has seen and what it has written.
    let mut said = String::new();
    let done = wait_until(Duration::from_secs(10), || {
        lab.sh(place, &format!("kill -USR1 $(cat {file}.pid)"));
        said = log();
        let (captured, received) = (last_count(&said, "captured"), last_count(&said, "received by filter"));
        (captured > 0 && captured == received).then_some(())
    });
    assert!(done.is_some(), "not all packets are written: {said}");
    drop(tcpdump);
    file
}

/// The last `N packets WHAT` of tcpdump's messages.
fn last_count(log: &str, what: &str) -> u64 {
    let mut count = 0;
    for end in log.match_indices(what).map(|(at, _)| at) {
        let words: Vec<&str> = log[..end].split_whitespace().collect();
        if let [.., number, _packets] = words[..] {
            count = number.parse().unwrap_or(0);
        }
    }
    count
}
