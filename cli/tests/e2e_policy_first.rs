//! From the first packet: what a pod sends in the first milliseconds of its life, and what is sent to it, is judged by the policies
//! that are there, whoever of interface, object and tables came first (N13, B13, B14).

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::ChildStdout;
use std::time::Duration;
use support::policies::{run_dir, socket};
use support::services::{at, cluster, datagrams_in, udp_count};
use support::{Background, Lab, PODPLANE, labs_can_run, podplane, stdout, wait_for, wait_until};

/// Attempts that the issue asks for.
const ATTEMPTS: u64 = 10_000;

/// Servers let in whoever is a talker; who is isolated and no talker lets nobody out.
const POLICIES: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mute, namespace: e2e}
spec: {podSelector: {matchLabels: {role: mute}}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: talkers, namespace: e2e}
spec:
  podSelector: {matchLabels: {role: talker}}
  policyTypes: [Ingress, Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 8080}, {port: 8080, protocol: UDP}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: e2e}
spec: {podSelector: {matchLabels: {role: closed}}, policyTypes: [Ingress]}
";

/// A pod with given addresses: the `number`th of its node.
struct Newcomer {
    name: String,
    node: usize,
    number: u16,
}

impl Newcomer {
    fn new(name: &str, node: usize, number: u16) -> Newcomer {
        Newcomer { name: name.to_owned(), node, number }
    }

    fn addresses(&self) -> [String; 2] {
        [format!("10.244.{}.{}", self.node, self.number), format!("fd00:10:244:{}::{:x}", self.node, self.number)]
    }

    fn manifest(&self, role: &str, annotations: &Value) -> String {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "namespace": "e2e", "labels": {"role": role}, "annotations": annotations},
            "spec": {
                "nodeName": format!("node{}", self.node),
                "containers": [{"name": "main", "image": "none", "ports": [
                    {"containerPort": 8080}, {"containerPort": 8080, "protocol": "UDP"},
                ]}],
            },
            "status": {"podIPs": self.addresses().map(|ip| json!({"ip": ip}))},
        });
        format!("---\n{pod}\n")
    }
}

/// Addresses of both servers on port 8080.
fn servers(lab: &Lab) -> Vec<String> {
    let pods = [("e2e/near", false), ("e2e/far", true), ("e2e/far", false), ("e2e/near", true)];
    pods.iter().map(|(pod, ipv6)| at(&lab.address(pod, *ipv6), 8080)).collect()
}

/// Somebody who knocks, and what is said about it.
struct Knocker {
    _background: Background,
    output: BufReader<ChildStdout>,
}

impl Knocker {
    /// Ready to knock at `place`, or in the pod that is to come.
    fn start(lab: &Lab, place: &str, knock: Value) -> Knocker {
        let mut background = lab.spawn(place, &[PODPLANE, "lab", "internal", "traffic", &knock.to_string()]);
        let output = BufReader::new(background.take_stdout());
        let mut knocker = Knocker { _background: background, output };
        assert!(knocker.line()["prepared"].as_u64() > Some(0));
        knocker
    }

    fn of_newcomer(lab: &Lab, pod: &Newcomer, targets: &[String], protocol: &str, more: Value) -> Knocker {
        let mut knock = json!({
            "kind": "knock", "protocol": protocol, "targets": targets, "sources": pod.addresses(),
            "netns": format!("{}/netns/pod-e2e_{}", run_dir(lab), pod.name),
        });
        knock.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Knocker::start(lab, &format!("node:node{}", pod.node), knock)
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

/// IP packets that the kernel of `place` has been given, of both families.
fn packets_in(lab: &Lab, place: &str) -> u64 {
    let [packets, _] = received(lab, place);
    packets
}

/// IP packets that the kernel of `place` has been given, and the ICMP messages among them.
fn received(lab: &Lab, place: &str) -> [u64; 2] {
    let text = lab.exec_ok(place, &["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
    let lines: Vec<&str> = text.lines().collect();
    let ipv4 = |protocol: &str, counter: &str| {
        let pair = lines.windows(2).find(|pair| pair.iter().all(|line| line.starts_with(protocol)));
        let [names, values] = pair.expect("two lines of the protocol") else { unreachable!("a window of two") };
        let mut both = names.split_whitespace().zip(values.split_whitespace());
        both.find(|(name, _)| *name == counter).expect("the counter").1.parse::<u64>().expect("a number")
    };
    let ipv6 = |counter: &str| {
        let value = lines.iter().find_map(|line| line.strip_prefix(counter)).expect("the counter");
        value.trim().parse::<u64>().expect("a number")
    };
    [ipv4("Ip: ", "InReceives") + ipv6("Ip6InReceives "), ipv4("Icmp: ", "InMsgs") + ipv6("Icmp6InMsgs ")]
}

/// What a node says to `podplane COMMAND -o json`.
fn ask(lab: &Lab, node: &str, command: &str) -> Value {
    let output = podplane(&[command, "-o", "json", "--socket", &socket(lab, node)]);
    serde_json::from_str(&stdout(output)).expect("JSON")
}

/// Frames that the node has taken from the pod, and those of them that it dropped.
fn frames_of(lab: &Lab, pod: &Newcomer) -> [u64; 2] {
    let ports = ask(lab, &format!("node{}", pod.node), "ports");
    let port = ports.as_array().expect("ports").iter().find(|port| port["name"] == pod.name.as_str());
    ["rx_packets", "rx_dropped"].map(|counter| port.and_then(|port| port[counter].as_u64()).expect("a counter"))
}

/// Frames that the node dropped for `reason`.
fn dropped(lab: &Lab, node: &str, reason: &str) -> u64 {
    let drops = ask(lab, node, "drops");
    let drops = drops.as_array().or(drops["counters"].as_array()).expect("drops");
    drops.iter().find(|drop| drop["reason"] == reason).map_or(0, |drop| drop["count"].as_u64().expect("a count"))
}

#[test]
fn nothing_arrives_of_what_a_denied_pod_sends_from_its_first_moment_on() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&(cluster("") + POLICIES), &[]);
    let targets = servers(&lab);
    let pods = [1, 2, 1, 2].into_iter().zip(200..).map(|(node, n)| Newcomer::new(&format!("mute{n}"), node, n));
    let pods: Vec<Newcomer> = pods.collect();
    let protocols = ["UDP", "TCP", "TCP", "UDP"];
    let mut knockers: Vec<Knocker> = pods
        .iter()
        .zip(protocols)
        .map(|(pod, protocol)| {
            Knocker::of_newcomer(&lab, pod, &targets, protocol, json!({"count": ATTEMPTS, "forever": true}))
        })
        .collect();
    let before = ["e2e/near", "e2e/far"].map(|server| packets_in(&lab, server));
    lab.apply(&pods.iter().map(|pod| pod.manifest("mute", &json!({}))).collect::<String>());
    let reports: Vec<Value> = knockers.iter_mut().map(Knocker::line).collect();
    // An attempt that an interface took is judged, or was too many for its queue.
    let judged = wait_for("10,000 attempts are judged", Duration::from_secs(20), || {
        let judged: u64 = pods.iter().map(|pod| frames_of(&lab, pod)[1]).sum();
        (judged >= ATTEMPTS).then_some(judged)
    });
    let after = ["e2e/near", "e2e/far"].map(|server| packets_in(&lab, server));
    assert_eq!(before, after, "packets at the servers; {judged} attempts judged: {reports:?}");
    eprintln!("{judged} attempts judged, none arrived: {reports:?}");
}

#[test]
fn nothing_fails_of_what_an_allowed_pod_sends_once_it_is_ready() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&(cluster("") + POLICIES), &[]);
    let targets = servers(&lab);
    // Two pods that do nothing but connect as soon as they run: UDP to one server, TCP to the other.
    let pods = [Newcomer::new("talker1", 1, 210), Newcomer::new("talker2", 2, 211)];
    let (udp, tcp) = (ATTEMPTS / 2 - 500, 500);
    let manifests = pods.iter().zip([0, 2]).map(|(pod, first)| {
        let flows = |protocol: &str, target: &str, count: u64| {
            let flows = json!({"kind": "flows", "protocol": protocol, "target": target, "count": count, "rounds": 1});
            format!("{PODPLANE} lab internal traffic '{flows}'; ")
        };
        let command = flows("UDP", &targets[first], udp) + &flows("TCP", &targets[first + 1], tcp);
        pod.manifest("talker", &json!({"lab.podplane.io/command": command}))
    });
    let before = ["e2e/near", "e2e/far"].map(|server| datagrams_in(&lab, server));
    lab.apply(&manifests.collect::<String>());
    let mut resent = [0; 2];
    for (pod, resent) in pods.iter().zip(&mut resent) {
        let lines = wait_for("both reports", Duration::from_secs(60), || {
            let log = lab.json("logs", &[&format!("e2e/{}", pod.name)]);
            let lines: Vec<Value> = log["lines"].as_array().expect("lines").clone();
            (lines.len() >= 2).then_some(lines)
        });
        let reports: Vec<Value> =
            lines.iter().map(|line| serde_json::from_str(line.as_str().expect("a line")).expect("JSON")).collect();
        for (report, count) in reports.iter().zip([udp, tcp]) {
            assert_eq!(
                [&report["answered"], &report["lost"], &report["refused"]],
                [&json!(count), &json!(0), &json!(0)]
            );
        }
        *resent = reports[0]["resent"].as_u64().expect("a count");
    }
    // On a busy machine a client may have asked again before the answer came; nothing was lost on the way.
    for (server, (before, resent)) in ["e2e/near", "e2e/far"].iter().zip(before.into_iter().zip(resent)) {
        assert_eq!(datagrams_in(&lab, server) - before, udp + resent, "datagrams at {server}");
    }
}

#[test]
fn whatever_an_allowed_pod_gets_through_is_answered() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&(cluster("") + POLICIES), &[]);
    let targets = servers(&lab);
    let pods = [Newcomer::new("early1", 1, 220), Newcomer::new("early2", 2, 221)];
    // Slow enough for the servers, and for the queues of their interfaces.
    let pace = json!({"count": 2000, "pause_us": 100});
    let mut knockers: Vec<Knocker> =
        pods.iter().map(|pod| Knocker::of_newcomer(&lab, pod, &targets, "UDP", pace.clone())).collect();
    let servers = ["e2e/near", "e2e/far"];
    // What a server has read it answers, as long as its interface's queue takes the answer.
    let asked = || -> u64 { servers.iter().map(|server| udp_count(&lab, server, &["InDatagrams"])).sum() };
    let too_many = || -> u64 { servers.iter().map(|server| dropped_on_the_way_out(&lab, server)).sum() };
    let before = (asked(), too_many());
    lab.apply(&pods.iter().map(|pod| pod.manifest("talker", &json!({}))).collect::<String>());
    let reports: Vec<Value> = knockers.iter_mut().map(Knocker::line).collect();
    let counts = || {
        // The kernel of a pod that is a millisecond old may have no route yet and drop an answer; it has been given it.
        let answers = pods.iter().map(|pod| received(&lab, &format!("e2e/{}", pod.name)));
        let answered: u64 = answers.map(|[packets, icmp]| packets - icmp).sum();
        (asked() - before.0, answered + too_many() - before.1)
    };
    let answered = wait_until(Duration::from_secs(10), || {
        let (asked, answered) = counts();
        // Those of the first moments may have come before the pod was known.
        (asked == answered && asked > 2000).then_some(asked)
    });
    let answered = answered.unwrap_or_else(|| {
        let nodes = ["node1", "node2"];
        let drops = nodes.map(|node| ask(&lab, node, "drops"));
        let errors = nodes.map(|node| lab.exec_ok(&format!("node:{node}"), &["grep", "^Udp", "/proc/net/snmp"]));
        panic!("asked and answered: {:?}; {reports:?}; {drops:#?}; {errors:#?}", counts())
    });
    eprintln!("{answered} of 4000 asked and answered: {reports:?}");
}

/// Packets that the interface of `place` did not take, because its queue was full.
fn dropped_on_the_way_out(lab: &Lab, place: &str) -> u64 {
    let count = lab.exec_ok(place, &["cat", "/sys/class/net/eth0/statistics/tx_dropped"]);
    count.trim().parse().expect("a number")
}

#[test]
fn nothing_arrives_at_a_new_server_that_is_isolated() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&(cluster("") + POLICIES), &[]);
    let server = Newcomer::new("closed", 2, 230);
    let targets: Vec<String> = server.addresses().iter().map(|address| at(address, 8080)).collect();
    let clients = [("e2e/client", "UDP"), ("e2e/far", "UDP"), ("e2e/near", "TCP")];
    let _knockers = clients.map(|(client, protocol)| {
        let sources: Vec<IpAddr> =
            [false, true].iter().map(|ipv6| lab.address(client, *ipv6).parse().expect("an address")).collect();
        let knock = json!({
            "kind": "knock", "protocol": protocol, "targets": targets, "sources": sources, "count": 5000, "forever": true
        });
        Knocker::start(&lab, client, knock)
    });
    let denied = || dropped(&lab, "node2", "denied-by-ingress-policy");
    let before = denied();
    lab.apply(&server.manifest("closed", &json!({})));
    wait_for("10,000 attempts are denied", Duration::from_secs(20), || (denied() >= before + ATTEMPTS).then_some(()));
    assert_eq!(packets_in(&lab, "e2e/closed"), 0, "packets at the server since its namespace was made");
}
