//! A dataplane ends and another one goes on with its devices and flows (R02, W08). Ends in order here; what a killed process leaves
//! is in the tests of the command line.

mod common;

use common::world::{VIP, WORLD, at, make_world, start_node, tables_with_service};
use common::*;
use node::{Dataplane, DataplaneConfig, Leftover, PortSpec, TapMode, remove_leftover};
use policy::tables::Tables;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Address of the Service.
const CLUSTER_IP: [&str; 2] = ["10.96.0.80", "fd00:10:96::80"];

fn kept(node: &str, tap_mode: TapMode, shards: u16) -> DataplaneConfig {
    let state_dir = Some(PathBuf::from(format!("/run/{node}.state")));
    DataplaneConfig { state_dir, shards, seed: 7, ..config(node, tap_mode) }
}

/// Starts a node that goes on with what one before it has left of `pods`.
fn again(config: DataplaneConfig, pods: Vec<PortSpec>, tables: &Arc<Tables>) -> Dataplane {
    let node = start(config).expect("the node starts");
    for adopted in node.adopt(pods).expect("the node runs") {
        adopted.expect("the pod is taken over");
    }
    node.set_policy(tables.clone()).expect("the node runs");
    node
}

/// A connection and its other end.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// From `client` to `to`, where `server` listens at `listen`.
    fn open(client: &str, to: SocketAddr, server: &str, listen: SocketAddr) -> Connection {
        let listener = within(server, || TcpListener::bind(listen)).expect("the port is free");
        let client = within(client, || TcpStream::connect_timeout(&to, Duration::from_secs(20))).expect("it opens");
        let (server, _) = listener.accept().expect("a connection comes");
        for end in [&client, &server] {
            end.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        }
        Connection { client, server }
    }

    /// Each end says something, `first` the server.
    fn check(&mut self, first: &str) {
        for (server_speaks, words) in [(true, first), (false, "and back"), (true, "again")] {
            let (from, to) = match server_speaks {
                true => (&mut self.server, &mut self.client),
                false => (&mut self.client, &mut self.server),
            };
            from.write_all(words.as_bytes()).expect("it is written");
            let mut heard = vec![0; words.len()];
            to.read_exact(&mut heard).expect("it is heard");
            assert_eq!(heard, words.as_bytes());
        }
    }
}

/// Links, addresses, routes and rules of a namespace; whether an interface has a carrier is left out, and what the kernel makes itself
/// in its own time.
fn described(name: &str) -> String {
    let output = within(name, || {
        let show = "ip -o link show; ip -o address show; ip route show table all; ip -6 route show table all; ip rule; ip -6 rule";
        Command::new("sh").args(["-c", show]).output().expect("a shell starts")
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let changing = ["NO-CARRIER,", ",LOWER_UP", "linkdown", "state UP", "state DOWN", "state UNKNOWN", " "];
    let text = changing.iter().fold(text, |text, word| text.replace(word, ""));
    text.lines()
        .filter(|line| !line.contains("fe80:") && !line.contains("ff00:"))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn resets(name: &str) -> [u64; 2] {
    [kernel_counter(name, "Tcp", "OutRsts"), kernel_counter(name, "Tcp", "EstabResets")]
}

fn connections_survive(tap_mode: TapMode, shards: u16) {
    make_namespaces();
    let tables = tables_with_service(C, "node2");
    let pods = [("node1", vec![spec("a", A), spec("b", B)]), ("node2", vec![spec("c", C)])];
    let first = pods.clone().map(|(node, pods)| {
        let started = start_node(kept(node, tap_mode, shards), &tables);
        pods.into_iter().for_each(|pod| drop(started.attach(pod).expect("it is attached")));
        started
    });
    let mut connections = Vec::new();
    for family in [0, 1] {
        let listen = |pod: [&str; 2], port| at(pod[family], port);
        let service = at(CLUSTER_IP[family], 80);
        connections.push(Connection::open("a", service, "c", listen(C, 8080)));
        connections.push(Connection::open("a", listen(B, 7_000), "b", listen(B, 7_000)));
        connections.push(Connection::open("c", listen(A, 7_001), "a", listen(A, 7_001)));
        connections.push(Connection::open("node1", service, "c", listen(C, 8080)));
    }
    let before = ["a", "b", "c"].map(described);
    connections.iter_mut().for_each(|connection| connection.check("before"));

    drop(first);
    assert_eq!(["a", "b", "c"].map(described), before, "while no node runs");
    let second = pods.map(|(node, pods)| again(kept(node, tap_mode, shards), pods, &tables));
    assert_eq!(["a", "b", "c"].map(described), before, "with the node that came after");
    let restored = second.each_ref().map(Dataplane::restored);
    // On node1 at a 3, b 1 and host 1 for each family; on node2 at c 3.
    assert_eq!(restored.each_ref().map(|restored| (restored.flows, restored.rejected)), [(10, 0), (6, 0)]);
    connections.iter_mut().for_each(|connection| connection.check("after"));
    for name in ["a", "b", "c", "node1"] {
        assert_eq!(resets(name), [0, 0], "{name}");
    }
    for node in &second {
        assert!(node.counters().switch.balance());
        assert_eq!(node.counters().io.flow_writes_failed, 0);
    }
}

#[test]
fn r02_connections_survive_a_restart_of_both_nodes() {
    namespace::run(|| connections_survive(TapMode::Auto, 1));
}

#[test]
fn r02_connections_survive_a_restart_on_plain_taps_and_two_shards() {
    namespace::run(|| connections_survive(TapMode::Plain, 2));
}

#[test]
fn r02_a_connection_out_of_the_cluster_keeps_its_source_port_and_nobody_else_gets_it() {
    namespace::run(|| {
        make_world();
        let tables = tables_with_service(A, "node1");
        let first = start_node(kept("node1", TapMode::Auto, 1), &tables);
        first.attach(spec("a", A)).expect("a is attached");
        let mut connections: Vec<_> = WORLD
            .iter()
            .flat_map(|world| (7_000..7_003).map(|port| at(world, port)))
            .map(|to| Connection::open("a", to, "world", to))
            .collect();
        let peers = |connections: &[Connection]| -> Vec<_> {
            connections.iter().map(|connection| connection.server.peer_addr().expect("a peer")).collect()
        };
        let before = peers(&connections);
        drop(first);
        let second = again(kept("node1", TapMode::Auto, 1), vec![spec("a", A)], &tables);
        assert_eq!(second.restored().flows, 2 * before.len());
        connections.iter_mut().for_each(|connection| connection.check("after"));
        connections.extend(WORLD.iter().flat_map(|world| (7_003..7_200).map(|port| at(world, port))).map(|to| {
            // All to one address and port of the world, where two connections with one source port would be one.
            Connection::open("a", to, "world", to)
        }));
        let sources: std::collections::HashSet<_> = connections
            .iter()
            .map(|connection| (connection.server.local_addr().ok(), connection.server.peer_addr().ok()))
            .collect();
        assert_eq!(sources.len(), connections.len());
        assert_eq!(peers(&connections[..before.len()]), before);
        assert_eq!(resets("world"), [0, 0]);
    });
}

#[test]
fn r02_a_client_outside_keeps_its_connection_to_a_load_balancer() {
    namespace::run(|| {
        make_world();
        let tables = tables_with_service(A, "node1");
        let config = || kept("node1", TapMode::Auto, 1);
        let announced = VIP.iter().map(|vip| vip.parse().expect("an address")).collect();
        let first = start_node(config(), &tables);
        first.announce(&announced).expect("the node runs");
        first.attach(spec("a", A)).expect("a is attached");
        let mut connections: Vec<_> =
            [0, 1].map(|family| Connection::open("world", at(VIP[family], 80), "a", at(A[family], 8080))).into();
        drop(first);
        let second = again(config(), vec![spec("a", A)], &tables);
        second.announce(&announced).expect("the node runs");
        connections.iter_mut().for_each(|connection| connection.check("after"));
        assert_eq!(resets("world"), [0, 0]);
    });
}

#[test]
fn flows_of_a_pod_that_is_gone_are_forgotten() {
    namespace::run(|| {
        make_namespaces();
        let config = || kept("node1", TapMode::Auto, 1);
        let first = start_node(config(), &tables());
        for pod in [spec("a", A), spec("b", B)] {
            first.attach(pod).expect("it is attached");
        }
        let _connection = Connection::open("a", at(B[0], 7_000), "b", at(B[0], 7_000));
        drop(first);
        sh("ip -n b link delete eth0");
        let second = again(config(), vec![spec("a", A)], &tables());
        assert_eq!(second.restored().flows, 1, "that of a");
        // Somebody else gets the address, and none of the flows that were there.
        second.attach(spec("b", B)).expect("b is attached");
        assert_eq!(second.flows(100).len(), 1);
        drop(second);
        assert_eq!(again(config(), vec![spec("a", A), spec("b", B)], &tables()).restored().flows, 1);
    });
}

#[test]
fn what_is_missing_of_an_interface_is_made_again() {
    namespace::run(|| {
        make_namespaces();
        let config = || kept("node1", TapMode::Auto, 1);
        let first = start_node(config(), &tables());
        for pod in [spec("a", A), spec("b", B)] {
            first.attach(pod).expect("it is attached");
        }
        let before = described("a");
        drop(first);
        sh("ip -n a address flush dev eth0; ip -n a link set eth0 down; ip -n b link delete eth0");
        let _second = again(config(), vec![spec("a", A), spec("b", B)], &tables());
        ping("a", B[0]);
        ping("b", A[1]);
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&described("a")), sorted(&before));
    });
}

#[test]
fn an_interface_that_is_in_use_is_left_alone() {
    namespace::run(|| {
        make_namespaces();
        let config = || kept("node1", TapMode::Auto, 1);
        let first = start_node(config(), &tables());
        first.attach(spec("a", A)).expect("it is attached");
        let other_port = DataplaneConfig { vxlan_port: 4_800, ..config() };
        let error = start(other_port).err().expect("podplane0 is in use");
        assert!(error.to_string().contains("another podplane node runs"), "{error}");
        let host_tap = Leftover::HostTap("podplane0".to_owned());
        let error = within("node1", || remove_leftover(&host_tap)).expect_err("it is in use");
        assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
        ping("node1", A[0]);
    });
}

#[test]
fn r06_what_is_left_can_be_removed_and_then_nothing_is_there() {
    namespace::run(|| {
        make_namespaces();
        let before = ["node1", "a"].map(described);
        let first = start_node(kept("node1", TapMode::Auto, 1), &tables());
        first.attach(spec("a", A)).expect("it is attached");
        drop(first);
        let left = [
            Leftover::HostTap("podplane0".to_owned()),
            Leftover::Rules,
            Leftover::Interface(netns("a"), "eth0".to_owned()),
            Leftover::Flows("/run/node1.state".into()),
        ];
        for expected in [true, false] {
            for leftover in &left {
                assert_eq!(
                    within("node1", || remove_leftover(leftover)).expect("it can be removed"),
                    expected,
                    "{leftover:?}"
                );
            }
        }
        assert_eq!(["node1", "a"].map(described), before);
        assert!(!PathBuf::from("/run/node1.state/flows").exists());
        let other = Leftover::Interface(netns("a"), "lo".to_owned());
        assert!(remove_leftover(&other).is_err(), "it is none of ours");
    });
}

#[test]
fn a_node_without_a_state_folder_takes_its_devices_away() {
    namespace::run(|| {
        make_namespaces();
        let before = described("node1");
        drop(start_node(kept("node1", TapMode::Auto, 1), &tables()));
        assert_ne!(described("node1"), before);
        drop(start_node(config("node1", TapMode::Auto), &tables()));
        assert_eq!(described("node1"), before);
    });
}
