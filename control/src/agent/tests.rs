//! The agent with a real dataplane, in namespaces of the test's own.

use super::*;
use crate::api::{AttachRequest, Client, ClientError};
use crate::controller::{self, LabNetwork};
use crate::directory::{self, Directory};
use namespace::sh;
use policy::objects::{Object, Sourced, parse};
use tempfile::TempDir;

#[path = "../../../dataplane/node/tests/common/namespace.rs"]
mod namespace;

/// Two pods and one that the node's own network is for, on the first of two nodes; a policy keeps everyone from `closed`.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: open, labels: {app: open}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: closed, labels: {app: closed}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec: {nodeName: node2, containers: [{name: c, image: i}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: closed}}, policyTypes: [Ingress]}
";

struct Bench {
    folder: TempDir,
    agent: Arc<Agent>,
    directory: Directory,
    objects: Vec<Sourced<Object>>,
    _server: Server,
    client: Client,
}

impl Bench {
    /// An agent for node1 that has not looked at its cluster directory yet, on a loopback underlay.
    fn new() -> Bench {
        Bench::with(|_| {})
    }

    /// The same with another configuration.
    fn with(change: impl FnOnce(&mut AgentConfig)) -> Bench {
        sh(
            "ip link set lo up && ip address add 172.30.0.11/24 dev lo && ip address add fd00:172:30::b/64 dev lo nodad",
        );
        sh("mount -t tmpfs tmpfs /run && ip netns add open && ip netns add closed");
        let folder = TempDir::new().unwrap();
        let (cluster, socket) = (folder.path().join("cluster"), folder.path().join("node.sock"));
        let mut config = AgentConfig {
            underlay_mtu: Some(1500),
            cni_conf_dir: Some(folder.path().join("net.d")),
            ..AgentConfig::new("node1", cluster.as_path(), &socket)
        };
        change(&mut config);
        let agent = Arc::new(Agent::new(config).unwrap());
        let parsed = parse("test.yaml", MANIFESTS);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let filled = controller::fill(&parsed.objects, &[], &LabNetwork::default());
        assert!(filled.problems.is_empty(), "{:?}", filled.problems);
        Bench {
            directory: Directory::open(&cluster).unwrap(),
            objects: filled.objects,
            _server: Server::start(&socket, None, agent.clone()).unwrap(),
            client: Client::new(socket),
            agent,
            folder,
        }
    }

    /// Writes the objects that `keep` takes to the cluster directory and has the agent look at it.
    fn write(&mut self, keep: impl Fn(&Object) -> bool) -> String {
        let objects: Vec<Object> =
            self.objects.iter().map(|s| s.object.clone()).filter(|object| keep(object)).collect();
        let written = directory::write(&self.folder.path().join("cluster"), &objects).unwrap();
        let generation = self.directory.refresh().unwrap();
        self.agent.apply(generation).unwrap();
        written.digest.to_string()
    }
}

fn request(name: &str) -> AttachRequest {
    AttachRequest {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        container_id: format!("id-of-{name}"),
        netns: format!("/run/netns/{name}").into(),
        ifname: "eth0".to_owned(),
        addresses: None,
    }
}

fn refusal(result: Result<crate::api::Port, ClientError>) -> ApiError {
    match result {
        Err(ClientError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn pings(from: &str, to: &str) -> bool {
    let arguments = ["netns", "exec", from, "ping", "-c", "1", "-W", "1", to];
    std::process::Command::new("ip").args(arguments).stdout(std::process::Stdio::null()).status().unwrap().success()
}

#[test]
fn the_container_runtime_gets_its_configuration_when_the_node_forwards() {
    namespace::run(|| {
        let mut bench = Bench::new();
        let conflist = bench.folder.path().join("net.d").join(crate::installation::CONFLIST_FILE);
        bench.write(|object| !matches!(object, Object::Node(_)));
        bench.agent.retry();
        assert!(!conflist.exists());
        bench.write(|_| true);
        let text = std::fs::read_to_string(&conflist).unwrap();
        assert!(text.contains(&*bench.agent.config.socket.to_string_lossy()), "{text}");
    });
}

#[test]
fn pods_are_attached_judged_listed_and_detached() {
    namespace::run(|| {
        let mut bench = Bench::new();
        bench.write(|object| !matches!(object, Object::Node(node) if node.metadata.name.as_deref() == Some("node1")));
        assert!(!bench.client.is_ready());
        let waiting = bench.client.status().unwrap().waiting_for.unwrap();
        assert!(waiting.contains("there is no Node node1"), "{waiting}");

        let early = {
            let client = bench.client.clone();
            std::thread::spawn(move || client.attach(&request("open")))
        };
        let digest = bench.write(|_| true);
        let open = early.join().unwrap().expect("an attach waits for its pod");
        assert_eq!(open.addresses[0].to_string(), "10.244.1.3");
        assert!(bench.client.is_ready());
        let status = bench.client.status().unwrap();
        assert_eq!(status.config.digest, digest);
        assert_eq!((status.config.nodes, status.config.policies, status.config.problems.len()), (2, 1, 0));
        assert_eq!(status.dataplane.unwrap().pod_mtu, 1450, "peers are spoken to over IPv4");
        let closed = bench.client.attach(&request("closed")).unwrap();

        assert_eq!(refusal(bench.client.attach(&request("open"))).code, ErrorCode::AlreadyAttached);
        assert_eq!(refusal(bench.client.attach(&request("host"))).code, ErrorCode::BadRequest);

        for (to, from) in [(&open, "closed"), (&closed, "open")] {
            for address in &to.addresses {
                assert_eq!(pings(from, &address.to_string()), to.name == "open", "from {from} to {address}");
            }
        }
        let flows = bench.client.flows().unwrap();
        assert!(flows.iter().any(|flow| flow.from.owner.as_deref() == Some("default/closed")), "{flows:?}");
        let drops = bench.client.drops().unwrap();
        let denied = drops.iter().find(|drop| drop.reason == "denied-by-ingress-policy").expect("a drop");
        assert!(denied.count > 0, "{drops:?}");
        let [v6, v4] = &denied.recent[..] else { panic!("one record per address: {denied:?}") };
        for (record, address) in [(v4, &closed.addresses[0]), (v6, &closed.addresses[1])] {
            assert_eq!(
                (record.owner.as_deref(), record.direction.as_deref()),
                (Some("default/closed"), Some("ingress"))
            );
            assert_eq!(record.from.as_ref().and_then(|end| end.owner.as_deref()), Some("default/open"));
            assert_eq!(record.to.as_ref().map(|end| end.address), Some(*address));
            assert!(
                record.why.starts_with(
                    "ingress policy of default/closed denies it (dropped, not refused): default/closed spec."
                ),
                "{}",
                record.why
            );
            assert!(record.first_unix_ms <= record.last_unix_ms && !record.dry_run, "{record:?}");
        }
        let since = |unix_ms| bench.client.drops_since(unix_ms).unwrap().into_iter().flat_map(|drop| drop.recent);
        assert!(since(v6.last_unix_ms.saturating_sub(1_000)).any(|record| record.is_same(v6)));
        assert_eq!(since(v6.last_unix_ms + 60_000).count(), 0);

        let policies = bench.client.policies().unwrap();
        let [policy] = &policies[..] else { panic!("{policies:?}") };
        assert_eq!((policy.kind.as_str(), policy.name.as_str(), policy.pods), ("NetworkPolicy", "closed", 1));
        assert_eq!((policy.default_denied, policy.rules.len()), (denied.count, 0));

        let ports = bench.client.ports().unwrap();
        let names: Vec<&str> = ports.iter().map(|port| port.container_id.as_str()).collect();
        assert_eq!(names, ["", "id-of-open", "id-of-closed"]);
        assert!(ports[1].rx_packets > 0 && ports[1].tx_bytes > 0, "{ports:?}");

        assert!(bench.client.detach("id-of-open", "eth0").unwrap());
        assert!(!bench.client.detach("id-of-open", "eth0").unwrap());
        assert_eq!(bench.client.ports().unwrap().len(), 2);
        bench.client.attach(&request("open")).expect("the name is free again");
    });
}

#[test]
fn the_last_tables_stay_when_the_own_node_vanishes_and_a_wrong_pod_is_refused_in_time() {
    namespace::run(|| {
        let mut bench = Bench::new();
        bench.write(|_| true);
        let epoch = bench.client.status().unwrap().config.epoch;
        bench.write(|object| !matches!(object, Object::Node(_)));
        let status = bench.client.status().unwrap();
        assert_eq!((status.ready, status.config.epoch), (true, epoch));
        let problems: Vec<&str> = status.config.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(problems.iter().any(|message| message.starts_with("there is no Node node1: ")), "{problems:?}");

        let client = bench.client.clone();
        let wrong = AttachRequest { addresses: Some(vec!["10.9.9.9".parse().unwrap()]), ..request("open") };
        let wrong = std::thread::spawn(move || refusal(client.attach(&wrong)));
        let elsewhere = refusal(bench.client.attach(&request("elsewhere")));
        assert_eq!(elsewhere.code, ErrorCode::PodNotInForce);
        assert_eq!(elsewhere.message, "Pod default/elsewhere is scheduled on node node2, this is node1");
        let wrong = wrong.join().unwrap();
        assert!(wrong.message.contains("[10.244.1.3, "), "{wrong}");
    });
}

#[test]
fn changes_follow_each_other_without_waiting_for_what_runs_beside_them() {
    namespace::run(|| {
        let mut bench = Bench::new();
        bench.write(|_| true);
        // Each takes milliseconds; threads of the agent wake up by themselves once a second.
        let began = Instant::now();
        for change in 0..10 {
            bench.write(|object| !matches!(object, Object::NetworkPolicy(_)) || change % 2 == 1);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(bench.client.status().unwrap().config.epoch, 11);
    });
}

/// A pod as a kubelet has it added: nobody has said an address.
const UNADDRESSED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: late, uid: u1, labels: {app: late}}
spec: {nodeName: node1, containers: [{name: c, image: i}]}
";

impl Bench {
    /// An agent to which a sandbox without a Pod is a mistake, as where Kubernetes is.
    fn of_kubernetes() -> Bench {
        Bench::with(|config| config.implicit_pods = false)
    }

    /// Writes `text` beside the other objects and has the agent look at it.
    fn write_with(&mut self, text: &str) {
        let parsed = parse("late.yaml", text);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let objects: Vec<Object> =
            self.objects.iter().chain(&parsed.objects).map(|sourced| sourced.object.clone()).collect();
        directory::write(&self.folder.path().join("cluster"), &objects).unwrap();
        let generation = self.directory.refresh().unwrap();
        self.agent.apply(generation).unwrap();
    }
}

fn cni_add(id: &str, uid: &str) -> ::cni::api::Add {
    let pod = ::cni::api::PodArgs {
        namespace: Some("default".to_owned()),
        name: Some("late".to_owned()),
        uid: Some(uid.to_owned()),
    };
    ::cni::api::Add {
        network: "podplane".to_owned(),
        container_id: id.to_owned(),
        ifname: "eth0".to_owned(),
        netns: "/run/netns/open".into(),
        pod,
        ..::cni::api::Add::default()
    }
}

#[test]
fn n13_a_pod_gets_its_addresses_before_its_object_has_them_and_they_hold_whatever_that_says() {
    namespace::run(|| {
        let mut bench = Bench::of_kubernetes();
        bench.write(|_| true);
        let early = {
            let agent = bench.agent.clone();
            std::thread::spawn(move || agent.cni_add(&cni_add("c1", "u1")))
        };
        bench.write_with(UNADDRESSED);
        let added = early.join().unwrap().expect("an add waits for the pod's object");
        let addresses: Vec<IpAddr> = added.addresses.iter().map(|address| address.address).collect();
        assert_eq!(addresses.len(), 2, "one of each family");
        let known = |bench: &Bench| {
            let tables = bench.agent.lock().in_force.as_ref().unwrap().tables.clone();
            tables.find_pod("default", "late").map(|index| tables.pod(index).addresses.clone())
        };
        assert_eq!(known(&bench).as_ref(), Some(&addresses));
        // What the kubelet reported of a sandbox before.
        bench.write_with(&format!("{UNADDRESSED}status: {{podIPs: [{{ip: 10.244.1.99}}]}}\n"));
        assert_eq!(known(&bench).as_ref(), Some(&addresses));
        let check = ::cni::api::Check {
            container_id: "c1".to_owned(),
            ifname: "eth0".to_owned(),
            netns: "/run/netns/open".into(),
            addresses: addresses.clone(),
            gateways: Vec::new(),
        };
        bench.agent.cni_check(&check).unwrap();

        // The pod is made again under its name: what is attached is another pod's.
        let again = UNADDRESSED.replace("u1", "u2");
        bench.write_with(&again);
        assert_eq!(known(&bench), Some(Vec::new()));
        let late = bench.agent.cni_add(&::cni::api::Add { netns: "/run/netns/closed".into(), ..cni_add("c0", "u1") });
        let late = late.unwrap_err();
        assert_eq!(
            (late.code, late.message.as_str()),
            (ErrorCode::PodNotInForce, "Pod default/late with uid u1 is not known to node node1 yet")
        );
        let next = bench.agent.cni_add(&::cni::api::Add { netns: "/run/netns/closed".into(), ..cni_add("c2", "u2") });
        let next: Vec<IpAddr> = next.unwrap().addresses.iter().map(|address| address.address).collect();
        assert!(next.iter().all(|address| !addresses.contains(address)), "{next:?} {addresses:?}");
        assert_eq!(known(&bench).as_ref(), Some(&next));
        bench.agent.cni_del("c1", "eth0").unwrap();
        assert_eq!(known(&bench).as_ref(), Some(&next), "a late end of the old sandbox changes nothing (B10)");
        bench.agent.cni_del("c2", "eth0").unwrap();
        assert_eq!(known(&bench), Some(Vec::new()));
    });
}
