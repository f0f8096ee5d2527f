//! Changes of a running lab: in force within a second, and nothing else notices.

mod support;

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::manifests::SERVERS;
use support::{Lab, has_program, labs_can_run, wait_for};

/// What the issue asks for.
const IN_FORCE: Duration = Duration::from_secs(1);

/// Only TCP 8080 from the client may enter the servers.
const ONLY_8080: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: only-8080, namespace: e2e}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: 8080}]
";

/// A connection that lives beside the test: `cat` in the server's pod sends back what comes.
struct Conversation {
    client: Child,
    _server: support::Background,
}

impl Conversation {
    fn start(lab: &Lab, server: &str, port: u16) -> Conversation {
        let listen = format!("TCP4-LISTEN:{port},reuseaddr");
        let background = lab.spawn(server, &["socat", &listen, "EXEC:cat"]);
        wait_for("the server listens", Duration::from_secs(10), || {
            let filter = format!("sport = :{port}");
            lab.exec_ok(server, &["ss", "-Htln", &filter]).contains(&format!(":{port}")).then_some(())
        });
        let to = format!("TCP4:{}:{port}", lab.address(server, false));
        let client = lab
            .command("e2e/client", &["socat", "STDIO", &to])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("podplane runs");
        let mut conversation = Conversation { client, _server: background };
        conversation.exchange();
        conversation
    }

    /// Sends a word and reads it back.
    fn exchange(&mut self) {
        let stdin = self.client.stdin.as_mut().expect("stdin is piped");
        stdin.write_all(b"still here\n").and_then(|()| stdin.flush()).expect("the connection takes a word");
        let mut answer = [0; 11];
        let stdout = self.client.stdout.as_mut().expect("stdout is piped");
        stdout.read_exact(&mut answer).expect("the connection gives the word back");
        assert_eq!(&answer, b"still here\n");
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

fn probe(lab: &Lab, to: &str) -> String {
    let probe = lab.json("probe", &["--from", "e2e/client", "--to", to, "--timeout", "100"]);
    probe["outcome"].as_str().expect("an outcome").to_owned()
}

/// Runs `change` and waits until a probe of `to` has the outcome `expected`; both together may take [`IN_FORCE`].
fn in_force(lab: &Lab, to: &str, expected: &str, change: impl FnOnce()) {
    let start = Instant::now();
    change();
    let mut begun = Instant::now();
    wait_for(&format!("{to}: {expected}"), Duration::from_secs(30), || {
        begun = Instant::now();
        (probe(lab, to) == expected).then_some(())
    });
    // A probe that must time out takes its time, but judges the moment at which it began.
    let took = begun.duration_since(start);
    assert!(took < IN_FORCE, "{to}: {expected} only after {took:?}");
}

#[test]
fn a_changed_policy_is_in_force_within_a_second_and_cuts_nothing_else() {
    if !labs_can_run() || !has_program("socat") {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let mut lives_on = [Conversation::start(&lab, "e2e/near", 7100), Conversation::start(&lab, "e2e/far", 7100)];
    for server in ["e2e/near", "e2e/far"] {
        assert_eq!(probe(&lab, &format!("{}:9090", lab.address(server, false))), "connected");
    }
    // The policy that comes allows these two conversations' port as well.
    let policy = ONLY_8080.replace("ports: [{port: 8080}]", "ports: [{port: 8080}, {port: 7100}]");
    for server in ["e2e/near", "e2e/far"] {
        let to = format!("{}:9090", lab.address(server, false));
        in_force(&lab, &to, "timeout", || lab.apply(&policy));
        lives_on.iter_mut().for_each(Conversation::exchange);
        in_force(&lab, &to, "connected", || lab.delete(&policy));
        lives_on.iter_mut().for_each(Conversation::exchange);
    }
}

#[test]
fn a_policy_cuts_the_live_connection_that_it_forbids() {
    if !labs_can_run() || !has_program("socat") {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    for server in ["e2e/near", "e2e/far"] {
        let mut conversation = Conversation::start(&lab, server, 7200);
        let filter = "dport = :7200";
        lab.apply(ONLY_8080);
        let stdin = conversation.client.stdin.as_mut().expect("stdin is piped");
        // The word is sent again and again, and never acknowledged.
        wait_for("a retransmission", Duration::from_secs(20), || {
            stdin.write_all(b"anyone?\n").and_then(|()| stdin.flush()).expect("the socket takes a word");
            let sockets = lab.exec_ok("e2e/client", &["ss", "-Htin", filter]);
            sockets.contains("retrans:").then_some(())
        });
        lab.delete(ONLY_8080);
    }
}

#[test]
fn a_changed_service_is_in_force_within_a_second_and_cuts_nothing_else() {
    if !labs_can_run() || !has_program("socat") {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let mut lives_on = Conversation::start(&lab, "e2e/far", 7300);
    assert_eq!(probe(&lab, "10.96.0.80:80"), "connected");
    let service = SERVERS.rsplit("---").next().expect("the Service is the last object");
    // The Service selects nothing, and then the servers again.
    let empty = service.replace("selector: {app: web}", "selector: {app: none}");
    in_force(&lab, "10.96.0.80:80", "refused", || lab.apply(&empty));
    lives_on.exchange();
    in_force(&lab, "10.96.0.80:80", "connected", || lab.apply(service));
    lives_on.exchange();
}
