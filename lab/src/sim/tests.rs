use super::*;

/// Two nodes; a client and a server on the first, a server on the second, a database that only the near server may use.
const CLUSTER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: demo, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: c, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: demo, labels: {app: server}}
spec:
  nodeName: node1
  containers:
  - name: c
    image: none
    ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}, {containerPort: 8080, protocol: SCTP}]
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: demo, labels: {app: far}}
spec:
  nodeName: node2
  containers:
  - name: c
    image: none
    ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}, {containerPort: 8080, protocol: SCTP}]
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: demo, labels: {app: db}}
spec: {nodeName: node2, containers: [{name: c, image: none, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: demo}
spec:
  clusterIP: 10.96.0.80
  selector: {app: far}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: sctp, port: 80, targetPort: 8080, protocol: SCTP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: demo}
spec:
  podSelector: {matchLabels: {app: db}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: 5432}]}]
"#;

/// Enough for a SYN that is sent again: smoltcp drops an answer for which it has to ask for the neighbor first.
const PATIENCE: Duration = Duration::from_secs(5);

fn cluster(config: SimConfig) -> Sim {
    let mut sim = Sim::new(config);
    let problems = sim.apply(CLUSTER);
    assert!(problems.is_empty(), "{problems:#?}");
    sim
}

fn pod(name: &str) -> Place {
    Place::pod("demo", name)
}

fn at(sim: &Sim, name: &str, port: u16, ipv4: bool) -> SocketAddr {
    let addr = sim.addresses(&pod(name)).iter().find(|addr| addr.is_ipv4() == ipv4).expect("both families");
    SocketAddr::new(*addr, port)
}

fn settled(sim: &Sim) {
    assert_eq!(sim.violations(), [] as [String; 0]);
    sim.check_balance().unwrap();
}

#[test]
fn pods_of_one_and_of_two_nodes_reach_each_other_in_both_families() {
    for shards in [1, 3] {
        let mut sim = cluster(SimConfig { shards, ..SimConfig::default() });
        for (name, ipv4) in [("near", true), ("near", false), ("far", true), ("far", false)] {
            let to = at(&sim, name, 8080, ipv4);
            for protocol in [ProbeProtocol::Tcp, ProbeProtocol::Udp, ProbeProtocol::Sctp, ProbeProtocol::Icmp] {
                let report = sim.probe(&pod("client"), to, protocol, PATIENCE);
                assert_eq!(report.outcome, Some(Outcome::Connected), "{protocol} to {to}\n{sim}");
            }
            for protocol in [ProbeProtocol::Tcp, ProbeProtocol::Udp, ProbeProtocol::Sctp] {
                let report = sim.probe(&pod("client"), to, protocol, PATIENCE);
                assert_eq!(report.server.as_deref(), Some(format!("demo/{name}").as_str()));
                assert_eq!(report.client.map(|c| c.ip()), Some(at(&sim, "client", 0, ipv4).ip()), "P01");
            }
        }
        settled(&sim);
    }
}

#[test]
fn a_cluster_ip_leads_to_its_backend_and_a_port_it_does_not_have_is_refused() {
    let mut sim = cluster(SimConfig::default());
    for protocol in [ProbeProtocol::Tcp, ProbeProtocol::Sctp] {
        let report = sim.probe(&pod("client"), "10.96.0.80:80".parse().unwrap(), protocol, PATIENCE);
        assert_eq!((report.outcome, report.server.as_deref()), (Some(Outcome::Connected), Some("demo/far")), "{sim}");
        let report = sim.probe(&pod("client"), "10.96.0.80:81".parse().unwrap(), protocol, PATIENCE);
        assert_eq!(report.outcome, Some(Outcome::Refused), "{protocol}");
    }
    settled(&sim);
}

#[test]
fn a_policy_holds_and_a_closed_port_is_refused() {
    let mut sim = cluster(SimConfig::default());
    let db = at(&sim, "db", 5432, true);
    let mut outcome = |from: &str, to| sim.probe(&pod(from), to, ProbeProtocol::Tcp, PATIENCE).outcome;
    assert_eq!(outcome("client", db), Some(Outcome::Timeout));
    assert_eq!(outcome("near", db), Some(Outcome::Connected));
    let closed = SocketAddr::new(sim.addresses(&pod("far"))[0], 9);
    assert_eq!(sim.probe(&pod("client"), closed, ProbeProtocol::Tcp, PATIENCE).outcome, Some(Outcome::Refused));
    assert_eq!(sim.probe(&pod("client"), closed, ProbeProtocol::Udp, PATIENCE).outcome, Some(Outcome::Refused));
    assert_eq!(sim.probe(&pod("client"), closed, ProbeProtocol::Sctp, PATIENCE).outcome, Some(Outcome::Refused));
    settled(&sim);
}

#[test]
fn a_node_reaches_its_own_pods_and_is_reached_by_them() {
    let mut sim = cluster(SimConfig::default());
    for name in ["near", "client"] {
        let to = SocketAddr::new(sim.addresses(&pod(name))[0], 0);
        let report = sim.probe(&Place::Node("node1".to_owned()), to, ProbeProtocol::Icmp, PATIENCE);
        assert_eq!(report.outcome, Some(Outcome::Connected), "{name}\n{sim}");
    }
    // Isolated, but not from its own node (N10).
    let db = at(&sim, "db", 5432, true);
    let report = sim.probe(&Place::Node("node2".to_owned()), db, ProbeProtocol::Tcp, PATIENCE);
    assert_eq!(report.outcome, Some(Outcome::Connected), "{sim}");
    settled(&sim);
}

#[test]
fn the_matrix_is_what_the_manifests_say() {
    let mut sim = cluster(SimConfig::default());
    let matrix = sim.matrix(ProbeProtocol::Tcp, 5432, PATIENCE);
    assert_eq!(matrix.len(), 12);
    for (from, to, outcome) in matrix {
        let expected = match (from == pod("near"), to == pod("db")) {
            (true, true) => Outcome::Connected,
            (false, true) => Outcome::Timeout,
            _ => Outcome::Refused,
        };
        assert_eq!(outcome, expected, "{from} to {to}");
    }
}

#[test]
fn a_transfer_between_nodes_is_cut_and_merged_and_arrives_unchanged() {
    for offload in [true, false] {
        let mut sim = cluster(SimConfig { offload, ..SimConfig::default() });
        let to = at(&sim, "far", 8080, false);
        let task = sim.start(&pod("client"), Task::Transfer { to, bytes: 1 << 20 }, PATIENCE * 60);
        let report = sim.finish(task).clone();
        assert_eq!((report.outcome, report.echoed_bytes), (Some(Outcome::Connected), 1 << 20), "{sim}");
        assert_eq!(report.first_wrong_byte, None);
        let merged: u64 = sim.nodes.iter().map(|node| node.kernel.datagrams - node.kernel.frames).sum();
        assert!(merged > 100, "super-frames were made: {merged}");
        settled(&sim);
    }
}

#[test]
fn corrupt_datagrams_are_dropped_and_counted_and_tcp_recovers() {
    let link = LinkConfig { corrupt: 50, ..LinkConfig::default() };
    let mut sim = cluster(SimConfig { link, ..SimConfig::default() });
    let to = at(&sim, "far", 8080, true);
    let task = sim.start(&pod("client"), Task::Transfer { to, bytes: 300_000 }, PATIENCE * 600);
    let report = sim.finish(task).clone();
    assert_eq!((report.outcome, report.first_wrong_byte), (Some(Outcome::Connected), None), "{sim}");
    let inner: u64 = sim.nodes.iter().map(|node| node.kernel.bad_checksum).sum();
    assert!(inner > 0, "some were damaged so that only the inner checksum tells");
    settled(&sim);
}

#[test]
fn a_partition_cuts_and_heals() {
    let mut sim = cluster(SimConfig::default());
    let to = at(&sim, "far", 8080, true);
    let partitioned = LinkConfig { partitioned: true, ..LinkConfig::default() };
    sim.set_link("node1", "node2", partitioned);
    assert_eq!(sim.probe(&pod("client"), to, ProbeProtocol::Tcp, PATIENCE).outcome, Some(Outcome::Timeout));
    sim.set_link("node1", "node2", LinkConfig::default());
    assert_eq!(sim.probe(&pod("client"), to, ProbeProtocol::Tcp, PATIENCE).outcome, Some(Outcome::Connected));
    settled(&sim);
}

#[test]
fn a_fragmented_datagram_arrives_and_a_removed_pod_is_gone() {
    let mut sim = cluster(SimConfig::default());
    let to = at(&sim, "far", 8080, true);
    let task = sim.start(&pod("client"), Task::Datagram { to, payload_bytes: 10_000 }, PATIENCE);
    let report = sim.finish(task).clone();
    assert_eq!((report.outcome, report.echoed_bytes), (Some(Outcome::Connected), 10_000), "{sim}");
    let without_far: Vec<&str> = CLUSTER.split("---").filter(|document| !document.contains("name: far, ")).collect();
    sim.apply(&without_far.join("---"));
    assert_eq!(sim.probe(&pod("client"), to, ProbeProtocol::Tcp, PATIENCE).outcome, Some(Outcome::Timeout));
    settled(&sim);
}

#[test]
fn the_world_reaches_a_node_port_of_either_node_and_the_pod_sees_its_address() {
    let mut sim = Sim::new(SimConfig { world: true, ..SimConfig::default() });
    let node_port = CLUSTER
        .replace("  clusterIP:", "  type: NodePort\n  ipFamilyPolicy: RequireDualStack\n  clusterIP:")
        .replace("{name: http, port: 80, ", "{name: http, port: 80, nodePort: 30080, ");
    let problems = sim.apply(&node_port);
    assert!(problems.is_empty(), "{problems:#?}");
    for node in ["node1", "node2"] {
        // The underlay addresses, without the gateways.
        let addresses = sim.addresses(&Place::Node(node.to_owned()))[..2].to_vec();
        for addr in addresses {
            let to = SocketAddr::new(addr, 30_080);
            let report = sim.probe(&Place::World, to, ProbeProtocol::Tcp, PATIENCE);
            assert_eq!(
                (report.outcome, report.server.as_deref()),
                (Some(Outcome::Connected), Some("demo/far")),
                "{sim}"
            );
            let seen = report.client.expect("the server says whom it saw").ip();
            assert!(sim.addresses(&Place::World).contains(&seen), "{to}: {seen}");
        }
    }
    settled(&sim);
}
