//! What a node serves to the outside beside traffic: word about ports that it cannot have, and health checks.

use namespace::sh;
use node_process::{CLUSTER, DEADLINE, podplane, private_run, start, status_when, terminate, text};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

#[path = "../../dataplane/node/tests/common/namespace.rs"]
mod namespace;
#[path = "support/node_process.rs"]
mod node_process;

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ports: [{name: free, port: 81, nodePort: 30081}, {name: taken, port: 80, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 30100
  clusterIP: 10.96.0.2
  clusterIPs: [10.96.0.2]
  ports: [{port: 80, nodePort: 30082}]
status: {loadBalancer: {ingress: [{ip: 172.30.0.200, ipMode: VIP}]}}
";

const ENDPOINTS: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: local-1, labels: {kubernetes.io/service-name: local}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- {addresses: [10.244.1.7], nodeName: node1, conditions: {ready: true}}
- {addresses: [10.244.1.8], nodeName: node1, conditions: {ready: READY}}
- {addresses: [10.244.2.7], nodeName: node2, conditions: {ready: true}}
";

/// A node whose address is on an Ethernet interface, as the uplink needs it.
fn private_node() -> std::path::PathBuf {
    let run = private_run();
    sh("ip address delete 172.30.0.11/24 dev lo && ip tuntap add dev under0 mode tap && ip link set under0 up \
        && ip address add 172.30.0.11/24 dev under0");
    fs::write(run.join("cluster/node.yaml"), CLUSTER).unwrap();
    run
}

fn problems(status: &Value) -> Vec<Value> {
    status["config"]["problems"].as_array().cloned().unwrap_or_default()
}

/// Head and body of an HTTP answer on the node.
fn get(port: u16, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.to_ascii_lowercase(), body.to_owned()))
}

/// Waits until `path` on `port` answers with `status` and `has` in its head.
fn wait_for_answer(port: u16, path: &str, status: &str, has: &str) -> String {
    let began = Instant::now();
    loop {
        let answer = get(port, path);
        if let Ok((head, body)) = &answer
            && head.starts_with(&format!("http/1.1 {status}"))
            && head.contains(has)
        {
            return body.clone();
        }
        assert!(began.elapsed() < DEADLINE, "{answer:?}");
    }
}

fn endpoints(run: &Path, ready: bool) {
    let hidden = run.join("cluster/.endpoints");
    fs::write(&hidden, ENDPOINTS.replace("READY", &ready.to_string())).unwrap();
    fs::rename(hidden, run.join("cluster/endpoints.yaml")).unwrap();
}

#[test]
fn a_node_port_that_another_process_has_is_told_on_its_service_and_the_rest_is_served() {
    namespace::run(|| {
        let run = private_node();
        let holder = TcpListener::bind("172.30.0.11:30080").unwrap();
        fs::write(run.join("cluster/services.yaml"), SERVICES).unwrap();
        let node = start(&run);
        let status = status_when(&run, |status| status["ready"] == true && !problems(status).is_empty());
        assert_eq!(status["dataplane"]["uplink"]["state"], "up", "{status}");
        let [problem] = &problems(&status)[..] else { panic!("{status}") };
        assert_eq!(
            (&problem["object"], &problem["field"]),
            (&"Service default/web".into(), &"spec.ports[1].nodePort".into())
        );
        assert!(problem["file"].as_str().unwrap().ends_with("services.yaml"), "{problem}");
        let message = problem["message"].as_str().unwrap();
        assert!(message.starts_with("TCP port 30080 of this node is in use by "), "{message}");
        assert!(message.contains(&format!("(pid {})", std::process::id())), "{message}");
        assert!(status["dataplane"]["uplink"]["claimed_ports"].as_u64().unwrap() >= 2, "{status}");

        status_when(&run, |status| status["dataplane"]["uplink"]["announced"][0] == "172.30.0.200");
        let services = control::api::Client::new("/run/node.sock").services().unwrap();
        assert_eq!((services[0].name.as_str(), services[1].name.as_str()), ("local", "web"));
        assert_eq!(services[1].ports[0].node_port, Some(30_081));
        let balanced = services[0].addresses.iter().find(|address| address.kind == "LoadBalancer").unwrap();
        assert_eq!(
            (balanced.address.to_string(), balanced.announced_by.as_deref()),
            ("172.30.0.200".to_owned(), Some("node1"))
        );
        let shown = podplane(&["status", "--socket", "/run/node.sock"]);
        assert!(text(&shown.stdout).contains("172.30.0.200"), "{}", text(&shown.stdout));

        drop(holder);
        // Any change is an occasion to try again; without one it is tried every few seconds.
        endpoints(&run, true);
        status_when(&run, |status| status["ready"] == true && problems(status).is_empty());
        assert_eq!(terminate(node), Some(0));
    });
}

#[test]
fn load_balancers_learn_how_many_endpoints_a_node_has_and_when_it_takes_no_more_traffic() {
    namespace::run(|| {
        let run = private_node();
        let node = start(&run);
        wait_for_answer(10256, "/healthz", "200", "nosniff");
        assert!(get(30100, "/").is_err(), "there is no such Service yet");
        fs::write(run.join("cluster/services.yaml"), SERVICES).unwrap();
        wait_for_answer(30100, "/", "503", "endpoint-weight: 0");
        endpoints(&run, true);
        let body = wait_for_answer(30100, "/", "200", "endpoint-weight: 2");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["service"]["name"], &body["localEndpoints"]), (&"local".into(), &2.into()));
        endpoints(&run, false);
        wait_for_answer(30100, "/", "200", "endpoint-weight: 1");

        let taint = "podCIDRs: [10.244.1.0/24], taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]";
        fs::write(run.join("cluster/node.yaml"), CLUSTER.replace("podCIDRs: [10.244.1.0/24]", taint)).unwrap();
        let body = wait_for_answer(10256, "/healthz", "503", "application/json");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["nodeEligible"], false);
        wait_for_answer(10256, "/livez", "200", "application/json");
        fs::remove_file(run.join("cluster/services.yaml")).unwrap();
        let began = Instant::now();
        while get(30100, "/").is_ok() {
            assert!(began.elapsed() < DEADLINE, "the port outlives its Service");
        }
        assert_eq!(terminate(node), Some(0));
        assert!(get(10256, "/healthz").is_err());
    });
}
