//! Services from the outside: a cluster that has one of every kind, and what its clients need.

use super::{Background, Lab, PODPLANE, stdout};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Addresses of both nodes on the underlay, IPv4 and IPv6.
pub const NODES: [[&str; 2]; 2] = [["172.30.0.11", "fd00:172:30::b"], ["172.30.0.12", "fd00:172:30::c"]];

/// Addresses of `world` on the underlay.
pub const WORLD: [&str; 2] = ["172.30.0.100", "fd00:172:30::64"];

/// Addresses far away that `world` can take on.
pub const STRANGER: [&str; 2] = ["203.0.113.9", "2001:db8:9::9"];

/// What a lab with [`cluster`] is started with.
pub const EXTERNAL_IPS: [&str; 2] = ["--external-ips", "198.51.100.0/24,2001:db8:7::/64"];

/// The address and the port, as a URL and `lab probe` write them.
pub fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The other nodes' name of the node `index`.
pub fn node(index: usize) -> String {
    format!("node:node{}", index + 1)
}

/// Namespace `e2e`, `client` (node1) without a server, `near` (node1) and `far` (node2) with the built-in server on 8080 for
/// TCP, UDP and SCTP, and `services` on top.
pub fn cluster(services: &str) -> String {
    format!("{PODS}---\n{services}")
}

/// A pod with the built-in server on port 8080 of every protocol. `labels` are those of a YAML flow mapping.
pub fn server(name: &str, node: &str, labels: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: e2e, labels: {{{labels}}}}}\nspec:\n  nodeName: {node}\n  \
         containers:\n  - name: main\n    image: none\n    ports: [{{containerPort: 8080}}, \
         {{containerPort: 8080, protocol: UDP}}, {{containerPort: 8080, protocol: SCTP}}]\n---\n"
    )
}

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: e2e}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: e2e, labels: {app: web, where: near}}
spec:
  nodeName: node1
  containers:
  - name: main
    image: none
    ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}, {containerPort: 8080, protocol: SCTP}]
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: e2e, labels: {app: web, where: far}}
spec:
  nodeName: node2
  containers:
  - name: main
    image: none
    ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}, {containerPort: 8080, protocol: SCTP}]
";

/// A dual-stack Service on port 80 of TCP, UDP and SCTP for the pods that `selector` (of a YAML flow mapping) selects.
/// `number` ends its addresses and its nodePort: 10.96.0.N, fd00:10:96::N and 300NN. `more` are further lines of its spec.
pub fn service(name: &str, kind: &str, number: u16, selector: &str, more: &str) -> String {
    let ports: Vec<String> = ["TCP", "UDP", "SCTP"]
        .map(|protocol| {
            let node_port =
                if kind == "ClusterIP" { String::new() } else { format!(", nodePort: {}", 30_000 + number) };
            format!(
                "{{name: {}, port: 80, targetPort: 8080, protocol: {protocol}{node_port}}}",
                protocol.to_lowercase()
            )
        })
        .into();
    let more: String = more.lines().map(|line| format!("  {}\n", line.trim())).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: e2e}}\nspec:\n  type: {kind}\n  \
         ipFamilyPolicy: RequireDualStack\n  clusterIP: 10.96.0.{number}\n  clusterIPs: ['10.96.0.{number}', \
         'fd00:10:96::{number}']\n  selector: {{{selector}}}\n  ports: [{}]\n{more}---\n",
        ports.join(", ")
    )
}

/// The Service as it stands in the cluster directory, as text.
pub fn manifest(lab: &Lab, name: &str) -> String {
    let status = lab.json("status", &[]);
    let mut folders = vec![Path::new(status["run_dir"].as_str().expect("the run directory")).join("cluster")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            let is_it = ["kind: Service", &format!("  name: {name}")]
                .iter()
                .all(|line| text.lines().any(|other| other == *line));
            if is_it {
                return text;
            }
        }
    }
    panic!("no Service {name}");
}

/// The LoadBalancer addresses of a Service, IPv4 and IPv6.
pub fn load_balancer_ips(lab: &Lab, name: &str) -> [String; 2] {
    let text = manifest(lab, name);
    let found = text.lines().filter_map(|line| line.trim().strip_prefix("- ip: "));
    let found: Vec<String> = found.map(|ip| ip.trim_matches(['\'', '"']).to_owned()).collect();
    let of_family = |ipv6| found.iter().find(|ip| ip.contains(':') == ipv6).cloned();
    [false, true].map(|ipv6| of_family(ipv6).unwrap_or_else(|| panic!("no address of one family: {text}")))
}

/// Where the packets of `world` go that are for `address`: to the node with the address `node`.
pub fn route_from_world(lab: &Lab, address: &str, node: &str) {
    let family = if address.contains(':') { "-6" } else { "-4" };
    lab.exec_ok("world", &["ip", family, "route", "replace", address, "via", node]);
}

/// One HTTP request by curl at `place`: what the built-in server says, or curl's exit code (7 refused, 28 timeout).
pub fn curl(lab: &Lab, place: &str, target: &str, options: &[&str]) -> Result<Value, i32> {
    let url = format!("http://{target}/");
    let source: Vec<&str> = place.strip_prefix("world:").map(|ip| vec!["--interface", ip]).unwrap_or_default();
    let fixed = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "3"];
    let output = lab.exec(place, &[&fixed, &source[..], options, &[&url]].concat());
    match output.status.code() {
        Some(0) => Ok(serde_json::from_slice(&output.stdout).expect("the built-in server's answer")),
        code => Err(code.expect("curl ends by itself")),
    }
}

/// One probe of `lab probe` with a protocol.
pub fn probe(lab: &Lab, from: &str, to: &str, protocol: &str) -> Value {
    lab.json("probe", &["--from", from, "--to", to, "--protocol", protocol, "--timeout", "3000"])
}

/// A probe whose outcome is what matters, and which may take `timeout_ms`.
pub fn outcome(lab: &Lab, from: &str, to: &str, protocol: &str, timeout_ms: u32) -> String {
    let timeout = timeout_ms.to_string();
    let report = lab.json("probe", &["--from", from, "--to", to, "--protocol", protocol, "--timeout", &timeout]);
    report["outcome"].as_str().expect("an outcome").to_owned()
}

/// Runs `traffic` (see `lab::traffic`) at `place` to its end.
pub fn traffic(lab: &Lab, place: &str, traffic: &Value) -> Value {
    let output = lab.exec(place, &[PODPLANE, "lab", "internal", "traffic", &traffic.to_string()]);
    serde_json::from_str(&stdout(output)).expect("JSON")
}

/// A conversation over one socket that runs beside the test.
pub struct Talk {
    _background: Background,
    events: mpsc::Receiver<(Instant, Value)>,
    last_answer: Instant,
    /// What was told so far.
    pub seen: Vec<Value>,
}

impl Talk {
    /// Starts to ask `target` every `interval_ms`, from `source` if given.
    pub fn start(lab: &Lab, place: &str, protocol: &str, target: &str, source: Option<&str>, interval_ms: u32) -> Talk {
        let wanted = json!({
            "kind": "conversation", "protocol": protocol, "target": target, "source": source, "interval_ms": interval_ms
        });
        let mut background = lab.spawn(place, &[PODPLANE, "lab", "internal", "traffic", &wanted.to_string()]);
        let (send, events) = mpsc::channel();
        let lines = BufReader::new(background.take_stdout()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).expect("an event");
                if send.send((Instant::now(), event)).is_err() {
                    return;
                }
            }
        });
        Talk { _background: background, events, last_answer: Instant::now(), seen: Vec::new() }
    }

    /// The next event that `wanted` takes, of those that were not looked at yet.
    pub fn wait(&mut self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let Ok(told) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                let last: Vec<&Value> = self.seen.iter().rev().take(10).collect();
                panic!("waited for {what}; the last events, backwards: {last:#?}");
            };
            let event = self.take(told);
            if wanted(&event) {
                return event;
            }
        }
    }

    /// Events that have come and were not looked at yet.
    pub fn rest(&mut self) -> Vec<Value> {
        let rest: Vec<(Instant, Value)> = self.events.try_iter().collect();
        rest.into_iter().map(|told| self.take(told)).collect()
    }

    fn take(&mut self, (at, event): (Instant, Value)) -> Value {
        if event["event"] == "answer" {
            self.last_answer = at;
        }
        self.seen.push(event.clone());
        event
    }

    /// When the last answer came, once none has come for `quiet`, which is longer than any answer takes.
    pub fn wait_silence(&mut self, quiet: Duration) -> Instant {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.rest();
        while let Some(left) = (self.last_answer + quiet).checked_duration_since(Instant::now()) {
            assert!(Instant::now() < deadline, "still answered: {:?}", self.seen.last());
            if let Ok(told) = self.events.recv_timeout(left) {
                self.take(told);
            }
        }
        self.last_answer
    }

    /// Waits for an answer of `server`.
    pub fn wait_answer(&mut self, server: &str) -> Value {
        self.wait(&format!("{server} answers"), |event| event["event"] == "answer" && event["server"] == server)
    }
}

/// Datagrams that the kernel of `place` has taken or refused for its UDP sockets of both families.
pub fn datagrams_in(lab: &Lab, place: &str) -> u64 {
    udp_count(lab, place, &["InDatagrams", "NoPorts", "InErrors"])
}

/// Sum of these UDP counters of the kernel of `place`, of both families.
pub fn udp_count(lab: &Lab, place: &str, counters: &[&str]) -> u64 {
    let text = lab.exec_ok(place, &["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
    let mut sum = 0;
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2).filter(|pair| pair[0].starts_with("Udp:") && pair[1].starts_with("Udp:")) {
        let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        sum +=
            names.zip(values).filter(|(name, _)| counters.contains(name)).map(|(_, value)| number(value)).sum::<u64>();
    }
    for line in lines.iter().filter(|line| line.starts_with("Udp6")) {
        let mut words = line.split_whitespace();
        let name = words.next().expect("a name").trim_start_matches("Udp6");
        sum += words.next().filter(|_| counters.contains(&name)).map_or(0, number);
    }
    sum
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
