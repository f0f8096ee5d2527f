//! Traffic from and to the outside on real devices: a world namespace whose bridge is the underlay of two nodes.

mod common;

use common::world::*;
use common::*;
use node::{ClaimFailure, Dataplane, TapMode, UplinkState};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind::{AddrInUse, ConnectionRefused};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Both directions between pod a and the world, both families; the pod has the node's address.
fn move_bytes(tap_mode: TapMode, mib: usize) {
    let node = one_node(tap_mode);
    let bytes = pattern(mib * MIB);
    for family in [0, 1] {
        for pod_sends in [true, false] {
            let server = at(WORLD[family], 7_000);
            let listener = within("world", || TcpListener::bind(server)).expect("the port is free");
            thread::scope(|scope| {
                let (bytes, receive) = (&bytes, |mut stream: TcpStream| {
                    let mut received = Vec::with_capacity(bytes.len());
                    stream.read_to_end(&mut received).expect("it is read");
                    assert!(received == *bytes, "{} of {} bytes arrived, or others", received.len(), bytes.len());
                });
                let send = |mut stream: TcpStream| {
                    stream.write_all(bytes).expect("it is written");
                    stream.shutdown(Shutdown::Write).expect("it is ended");
                    stream
                };
                let world = scope.spawn(move || {
                    let (stream, client) = listener.accept().expect("the pod connects");
                    assert_eq!(client.ip().to_string(), NODE1[family], "the pod has the node's address outside");
                    if pod_sends { receive(stream) } else { drop(send(stream)) }
                });
                within("a", || {
                    let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("it connects");
                    if pod_sends { drop(send(stream)) } else { receive(stream) }
                });
                world.join().expect("the world is content");
            });
        }
    }
    assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
    for name in ["a", "world"] {
        assert_eq!(kernel_counter(name, "Tcp", "InCsumErrors"), 0, "{name} saw a wrong checksum");
    }
    let counters = node.counters();
    assert!(counters.switch.balance());
}

#[test]
fn p03_a_pod_moves_64_mib_out_and_in_with_offloads() {
    namespace::run(|| move_bytes(TapMode::Offload, 64));
}

#[test]
fn p03_a_pod_moves_64_mib_out_and_in_on_a_plain_tap() {
    namespace::run(|| move_bytes(TapMode::Plain, 64));
}

#[test]
fn p03_a_pod_speaks_udp_and_pings_outside() {
    namespace::run(|| {
        let _node = one_node(TapMode::Auto);
        for family in [0, 1] {
            let server = at(WORLD[family], 5_000);
            let serving = serve_udp("world", server, 3);
            for _ in 0..3 {
                assert_eq!(ask_udp("a", server).expect("the world answers"), NODE1[family]);
            }
            serving.join().expect("the server ends well");
            ping("a", WORLD[family]);
        }
        assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
    });
}

#[test]
fn s02_s28_a_client_outside_reaches_a_node_port_with_its_own_address() {
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        for family in [0, 1] {
            let tcp = serve_tcp("a", at(A[family], 8_080), 3);
            let udp = serve_udp("a", at(A[family], 5_353), 3);
            for _ in 0..3 {
                assert_eq!(ask_tcp("world", at(NODE1[family], TCP_NODE_PORT)).expect("it is served"), WORLD[family]);
                assert_eq!(ask_udp("world", at(NODE1[family], UDP_NODE_PORT)).expect("it is served"), WORLD[family]);
            }
            tcp.join().expect("the server ends well");
            udp.join().expect("the server ends well");
        }
        assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
        assert_eq!(node.uplink_status().claimed_ports, 6);
    });
}

#[test]
fn s28_a_node_without_the_pod_keeps_the_clients_address_through_the_tunnel() {
    namespace::run(|| {
        make_world();
        let tables = tables_with_service(C, "node2");
        let _node1 = start_node(config("node1", TapMode::Auto), &tables);
        let node2 = start_node(config("node2", TapMode::Auto), &tables);
        node2.attach(spec("c", C)).expect("c is attached");
        for family in [0, 1] {
            let tcp = serve_tcp("c", at(C[family], 8_080), 2);
            for node in [NODE1, NODE2] {
                let told = ask_tcp("world", at(node[family], TCP_NODE_PORT)).expect("it is served");
                assert_eq!(told, WORLD[family], "through {}", node[family]);
            }
            tcp.join().expect("the server ends well");
        }
        assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
        assert_eq!(kernel_answers("node2"), [0, 0], "the kernel kept quiet");
    });
}

#[test]
fn s03_w20_the_node_reaches_its_node_ports_at_every_address_of_its_own() {
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        let addresses = [["127.0.0.1", "::1"], ["127.0.0.9", "::1"], NODE1];
        for family in [0, 1] {
            let tcp = serve_tcp("a", at(A[family], 8_080), addresses.len());
            let udp = serve_udp("a", at(A[family], 5_353), addresses.len());
            for address in addresses {
                let told = ask_tcp("node1", at(address[family], TCP_NODE_PORT)).expect("it is served");
                assert_eq!(told, NODE1[family], "at {}", address[family]);
                let told = ask_udp("node1", at(address[family], UDP_NODE_PORT)).expect("it is served");
                assert_eq!(told, NODE1[family], "at {}", address[family]);
            }
            tcp.join().expect("the server ends well");
            udp.join().expect("the server ends well");
        }
        let opened: Vec<u64> = node.service_hits().iter().map(|(_, hits)| hits.opened).collect();
        assert_eq!(opened, [6, 6], "every flow of both protocols is counted once");
        assert!(node.uplink_status().relayed > 0, "UDP sessions stay for a while");
    });
}

#[test]
fn s03_a_relayed_connection_moves_32_mib_each_way_and_ends_in_halves() {
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        let bytes = pattern(32 * MIB);
        let listener = within("a", || TcpListener::bind(at(A[0], 8_080))).expect("the port is free");
        thread::scope(|scope| {
            let echo = scope.spawn(|| {
                let (mut stream, _) = listener.accept().expect("a client comes");
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("the client ends first");
                stream.write_all(&received).expect("it is sent back");
            });
            within("node1", || {
                let mut stream = TcpStream::connect(at("127.0.0.1", TCP_NODE_PORT)).expect("it connects");
                stream.write_all(&bytes).expect("it is written");
                stream.shutdown(Shutdown::Write).expect("one half ends");
                let mut received = Vec::new();
                stream.read_to_end(&mut received).expect("the other half goes on");
                assert!(received == bytes, "{} of {} bytes came back, or others", received.len(), bytes.len());
            });
            echo.join().expect("the server ends well");
        });
        wait_until("the connection is forgotten", || node.uplink_status().relayed == 0);
    });
}

#[test]
fn s11_a_node_process_is_reset_when_nobody_listens() {
    namespace::run(|| {
        let _node = one_node(TapMode::Auto);
        let error = ask_tcp("node1", at("127.0.0.1", TCP_NODE_PORT)).expect_err("nobody listens in the pod");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

/// An unready endpoint: new connections are refused, old ones go on (S13).
#[test]
fn s11_a_node_process_is_refused_while_no_endpoint_is_usable_and_served_again_then() {
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        let (usable, unusable) = (tables_with_service(A, "node1"), tables_without_endpoint(A, "node1"));
        let listener = within("a", || TcpListener::bind(at(A[0], 8_080))).expect("the port is free");
        let mut old = within("world", || TcpStream::connect(at(NODE1[0], TCP_NODE_PORT))).expect("it is served");
        let (mut served, _) = listener.accept().expect("a client comes");
        drop(listener);
        for _ in 0..2 {
            assert_eq!(node.set_policy(unusable.clone()).expect("the node runs"), []);
            let resets = kernel_counter("node1", "Tcp", "OutRsts");
            for address in ["127.0.0.1", "127.0.0.9", "::1", NODE1[0], NODE1[1]] {
                let refused = |error: std::io::Error| assert_eq!(error.kind(), ConnectionRefused, "at {address}");
                refused(ask_tcp("node1", at(address, TCP_NODE_PORT)).expect_err("there is no endpoint"));
                refused(ask_udp("node1", at(address, UDP_NODE_PORT)).expect_err("there is no endpoint"));
                let claimed =
                    within("node1", || TcpListener::bind(at(address, TCP_NODE_PORT))).expect_err("it is held");
                assert_eq!(claimed.kind(), AddrInUse);
                let claimed = within("node1", || UdpSocket::bind(at(address, UDP_NODE_PORT))).expect_err("it is held");
                assert_eq!(claimed.kind(), AddrInUse);
            }
            let error = ask_tcp("world", at(NODE1[0], TCP_NODE_PORT)).expect_err("there is no endpoint");
            assert_eq!(error.kind(), ConnectionRefused, "by the switch");
            old.write_all(b"x").expect("it is written");
            served.read_exact(&mut [0]).expect("an old connection goes on");
            assert_eq!(kernel_counter("node1", "Tcp", "OutRsts"), resets, "the kernel resets nothing itself");

            assert_eq!(node.set_policy(usable.clone()).expect("the node runs"), []);
            for family in [0, 1] {
                let tcp = serve_tcp("a", at(A[family], 8_080), 2);
                let udp = serve_udp("a", at(A[family], 5_353), 2);
                for address in [["127.0.0.1", "::1"][family], NODE1[family]] {
                    let told = ask_tcp("node1", at(address, TCP_NODE_PORT)).expect("it is served");
                    assert_eq!(told, NODE1[family], "at {address}");
                    let told = ask_udp("node1", at(address, UDP_NODE_PORT)).expect("it is served");
                    assert_eq!(told, NODE1[family], "at {address}");
                }
                tcp.join().expect("the server ends well");
                udp.join().expect("the server ends well");
            }
        }
        let refused: Vec<u64> = node.service_hits().iter().map(|(_, hits)| hits.refused).collect();
        assert!(refused.iter().all(|refused| *refused >= 10), "{refused:?}");
    });
}

#[test]
fn a_node_port_in_use_is_named_and_the_rest_works() {
    namespace::run(|| {
        make_world();
        let other = within("node1", || TcpListener::bind(at("0.0.0.0", TCP_NODE_PORT))).expect("the port is free");
        let node = start(config("node1", TapMode::Auto)).expect("the node starts");
        let tables = tables_with_service(A, "node1");
        let failures = node.set_policy(tables.clone()).expect("the node runs");
        let [ClaimFailure { namespace, name, port: TCP_NODE_PORT, error, .. }] = &failures[..] else {
            panic!("{failures:?}");
        };
        assert_eq!((&**namespace, &**name, *error), ("test", "web", std::io::ErrorKind::AddrInUse));
        let text = failures[0].to_string();
        assert!(text.contains("test/web") && text.contains("30080/TCP") && text.contains("another process"), "{text}");
        node.attach(spec("a", A)).expect("a is attached");
        let udp = serve_udp("a", at(A[0], 5_353), 1);
        assert_eq!(ask_udp("world", at(NODE1[0], UDP_NODE_PORT)).expect("it is served"), WORLD[0]);
        udp.join().expect("the server ends well");
        // The other process goes on as before.
        within("world", || TcpStream::connect_timeout(&at(NODE1[0], TCP_NODE_PORT), Duration::from_secs(5)))
            .expect("the other process is reached");
        other.accept().expect("it has a connection");
        drop(other);
        assert_eq!(node.set_policy(tables).expect("the node runs"), [], "the port is free again");
    });
}

#[test]
fn s04_an_announced_address_is_answered_and_moves() {
    namespace::run(|| {
        make_world();
        let tables = tables_with_service(A, "node1");
        let node1 = start_node(config("node1", TapMode::Auto), &tables);
        let node2 = start_node(config("node2", TapMode::Auto), &tables);
        node1.attach(spec("a", A)).expect("a is attached");
        let vips: BTreeSet<IpAddr> = VIP.iter().map(|vip| vip.parse().expect("an address")).collect();
        let neighbor = |vip: &str| {
            let output = within("world", || std::process::Command::new("ip").args(["neigh", "show", vip]).output());
            String::from_utf8_lossy(&output.expect("ip runs").stdout).into_owned()
        };
        let mac_of = |node: &Dataplane| node.uplink_status().interfaces[0].mac.to_string();
        node1.announce(&vips).expect("the node runs");
        for family in [0, 1] {
            let tcp = serve_tcp("a", at(A[family], 8_080), 1);
            assert_eq!(ask_tcp("world", at(VIP[family], 80)).expect("it is served"), WORLD[family]);
            tcp.join().expect("the server ends well");
            assert!(neighbor(VIP[family]).contains(&mac_of(&node1)));
        }
        node1.announce(&BTreeSet::new()).expect("the node runs");
        node2.announce(&vips).expect("the node runs");
        for family in [0, 1] {
            let moved = || neighbor(VIP[family]).contains(&mac_of(&node2));
            wait_until("the neighbors know the other node", moved);
            let tcp = serve_tcp("a", at(A[family], 8_080), 1);
            assert_eq!(ask_tcp("world", at(VIP[family], 80)).expect("it is served"), WORLD[family]);
            tcp.join().expect("the server ends well");
        }
        assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
        assert_eq!(kernel_answers("node2"), [0, 0], "the kernel kept quiet");
    });
}

#[test]
fn b04_60_000_parallel_flows_to_one_destination() {
    const FLOWS: usize = 60_000;
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        let server = within("world", || UdpSocket::bind(at(WORLD[0], 5_000))).expect("the port is free");
        let serving = thread::spawn(move || {
            let mut flow_of_port = BTreeMap::new();
            while flow_of_port.len() < FLOWS {
                let mut flow = [0; 2];
                let (_, client) = server.recv_from(&mut flow).expect("a datagram comes");
                assert_eq!(client.ip().to_string(), NODE1[0]);
                let known = *flow_of_port.entry(client.port()).or_insert(flow);
                assert_eq!(known, flow, "two flows have port {}", client.port());
                server.send_to(&flow, client).expect("it is answered");
            }
        });
        within("a", || {
            // A flow lives on in the switch when its socket is closed, so that this process needs one at a time.
            for port in (1_024..).take(FLOWS) {
                let socket = UdpSocket::bind(at(A[0], port)).expect("the port is free");
                socket.connect(at(WORLD[0], 5_000)).expect("it has a route");
                socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout may be set");
                let mut answer = [0; 2];
                // A datagram is lost if it comes before the port that it needs.
                let answered = (0..20).any(|_| {
                    socket.send(&port.to_be_bytes()).expect("it is sent");
                    socket.recv(&mut answer).is_ok()
                });
                assert!(answered, "port {port}; source ports {:?}", node.uplink_status().source_ports);
                assert_eq!(answer, port.to_be_bytes());
            }
        });
        serving.join().expect("the server ends well");
        assert!(node.uplink_status().source_ports[1] >= 60_000);
        assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
    });
}

/// Connections from pod a to one server outside, all open at the same time and all in use.
#[test]
fn b04_parallel_connections_outgrow_the_first_source_ports() {
    const CONNECTIONS: usize = 4_000;
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        let server = at(WORLD[0], 7_000);
        let listener = within("world", || TcpListener::bind(server)).expect("the port is free");
        let accepting = thread::spawn(move || {
            let mut ports = BTreeSet::new();
            let accept = |_| {
                let (mut stream, client) = listener.accept().expect("a client comes");
                assert_eq!(client.ip().to_string(), NODE1[0]);
                assert!(ports.insert(client.port()), "two connections have port {}", client.port());
                stream.write_all(b"x").expect("it is told");
                stream
            };
            (0..CONNECTIONS).map(accept).collect::<Vec<_>>()
        });
        within("a", || {
            let open = |n: usize| {
                TcpStream::connect_timeout(&server, Duration::from_secs(10)).unwrap_or_else(|error| {
                    panic!("connection {n}: {error}; source ports {:?}", node.uplink_status().source_ports)
                })
            };
            let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(open).collect();
            let told = |stream: &mut TcpStream| stream.read_exact(&mut [0]).expect("every connection is in use");
            streams.iter_mut().for_each(told);
            drop(accepting.join().expect("the server ends well"));
        });
        assert!(node.uplink_status().source_ports[0] >= CONNECTIONS as u32);
        assert_eq!(kernel_answers("node1"), [0, 0], "the kernel kept quiet");
    });
}

#[test]
fn nothing_is_left_behind() {
    namespace::run(|| {
        let node = one_node(TapMode::Auto);
        let sockets = || {
            within("node1", || {
                let count = |file: &str| {
                    let text =
                        std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).expect("it is readable");
                    text.lines().count() - 1
                };
                ["tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"].map(count)
            })
        };
        wait_until("source ports are held", || sockets().iter().sum::<usize>() > 1_000);
        drop(node);
        assert_eq!(sockets(), [0; 7]);
        within("node1", || sh("! ip link show podplane0 2> /dev/null"));
    });
}

#[test]
fn w01_a_node_without_raw_sockets_says_so_and_runs() {
    namespace::run_without_net_raw(|| {
        make_world();
        let node = start_node(config("node1", TapMode::Auto), &tables_with_service(A, "node1"));
        let UplinkState::Missing(why) = node.uplink_status().state else { panic!("raw sockets were opened") };
        assert!(why.contains("CAP_NET_RAW"), "{why}");
        node.attach(spec("a", A)).expect("a is attached");
        let tcp = serve_tcp("a", at(A[0], 8_080), 1);
        assert_eq!(ask_tcp("node1", at(A[0], 8_080)).expect("it is served"), NODE1[0]);
        tcp.join().expect("the server ends well");
    });
}
