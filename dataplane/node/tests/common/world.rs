//! A world namespace whose bridge is the underlay of two nodes, with one Service, and clients and servers for it.

use super::{A, CLUSTER, config, kernel_counter, sh, spec, start, within};
use node::{Dataplane, DataplaneConfig, TapMode, UplinkState};
use policy::cluster::Cluster;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Addresses of the world and of node1.
pub(crate) const WORLD: [&str; 2] = ["172.30.0.100", "fd00:172:30::64"];
pub(crate) const NODE1: [&str; 2] = ["172.30.0.11", "fd00:172:30::11"];
pub(crate) const NODE2: [&str; 2] = ["172.30.0.12", "fd00:172:30::12"];
/// Addresses of the load balancer.
pub(crate) const VIP: [&str; 2] = ["172.30.0.200", "fd00:172:30::200"];

pub(crate) const TCP_NODE_PORT: u16 = 30_080;
pub(crate) const UDP_NODE_PORT: u16 = 30_053;

/// One Service of every protocol, with pod a behind it.
pub(crate) const SERVICES: &str = r#"
---
kind: Service
apiVersion: v1
metadata: {name: web, namespace: test}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.80
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  ipFamilies: [IPv4, IPv6]
  ports:
  - {name: tcp, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: udp, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}
  - {name: sctp, protocol: SCTP, port: 90, targetPort: 9090, nodePort: 30090}
status: {loadBalancer: {ingress: [{ip: 172.30.0.200, ipMode: VIP}, {ip: "fd00:172:30::200", ipMode: VIP}]}}
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-4, namespace: test, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: tcp, port: 8080}, {name: udp, protocol: UDP, port: 5353}, {name: sctp, protocol: SCTP, port: 9090}]
endpoints: [{addresses: [POD4], nodeName: PODNODE}]
---
kind: EndpointSlice
apiVersion: discovery.k8s.io/v1
metadata: {name: web-6, namespace: test, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: tcp, port: 8080}, {name: udp, protocol: UDP, port: 5353}, {name: sctp, protocol: SCTP, port: 9090}]
endpoints: [{addresses: ["POD6"], nodeName: PODNODE}]
"#;

/// The tables of the cluster, with the Service's endpoint at `pod` on `node`.
pub(crate) fn tables_with_service(pod: [&str; 2], node: &str) -> Arc<policy::tables::Tables> {
    tables_of(&SERVICES.replace("POD4", pod[0]).replace("POD6", pod[1]).replace("PODNODE", node))
}

/// The same while the endpoint is not ready, so that the Service has no usable one.
pub(crate) fn tables_without_endpoint(pod: [&str; 2], node: &str) -> Arc<policy::tables::Tables> {
    let services = SERVICES.replace("POD4", pod[0]).replace("POD6", pod[1]).replace("PODNODE", node);
    tables_of(&services.replace("nodeName:", "conditions: {ready: false, serving: false}, nodeName:"))
}

fn tables_of(services: &str) -> Arc<policy::tables::Tables> {
    let parsed = policy::objects::parse("cluster.yaml", &(CLUSTER.to_owned() + services));
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert!(problems.is_empty(), "{problems:?}");
    let (tables, problems) = policy::compile::compile(&cluster, 1);
    assert!(problems.is_empty(), "{problems:?}");
    Arc::new(tables)
}

/// The namespaces of the world and of two nodes on its bridge, and of the pods.
pub(crate) fn make_world() {
    sh("mount -t tmpfs tmpfs /run; mkdir /run/netns
        for name in world node1 node2 a b c; do ip netns add $name; ip -n $name link set lo up; done
        ip -n world link add br0 type bridge mcast_snooping 0
        ip -n world address add 172.30.0.100/24 dev br0; ip -n world address add fd00:172:30::64/64 dev br0 nodad
        ip -n world link set br0 up
        for n in 1 2; do
          ip -n world link add under$n type veth peer name under0 netns node$n
          ip -n world link set under$n master br0 up
          ip -n node$n address add 172.30.0.1$n/24 dev under0
          ip -n node$n address add fd00:172:30::1$n/64 dev under0 nodad
          ip -n node$n link set under0 up
        done");
}

/// A node of the world with its routes, under the tables of [`tables_with_service`].
pub(crate) fn start_node(config: DataplaneConfig, tables: &Arc<policy::tables::Tables>) -> Dataplane {
    let node = start(config).expect("the node starts");
    assert_eq!(node.set_policy(tables.clone()).expect("the node runs"), []);
    let ranges = ["10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/48", "fd00:10:96::/112"];
    let vips = ["172.30.0.200/32", "fd00:172:30::200/128"];
    let routes: Vec<_> = ranges.iter().chain(&vips).map(|range| range.parse().expect("a range")).collect();
    node.set_routes(&routes).expect("the routes are set");
    node
}

/// node1 with pod a, which the Service leads to.
pub(crate) fn one_node(tap_mode: TapMode) -> Dataplane {
    make_world();
    let node = start_node(config("node1", tap_mode), &tables_with_service(A, "node1"));
    assert_eq!(node.uplink_status().state, UplinkState::Up);
    node.attach(spec("a", A)).expect("a is attached");
    node
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

/// A TCP server in `name` that tells each client its address, and ends after `clients` of them.
pub(crate) fn serve_tcp(name: &str, address: SocketAddr, clients: usize) -> thread::JoinHandle<()> {
    let listener = within(name, || TcpListener::bind(address)).expect("the port is free");
    thread::spawn(move || {
        for _ in 0..clients {
            let (mut stream, client) = listener.accept().expect("a client comes");
            stream.write_all(client.ip().to_string().as_bytes()).expect("it is told");
        }
    })
}

/// What a TCP server tells a client in `name`.
pub(crate) fn ask_tcp(name: &str, server: SocketAddr) -> std::io::Result<String> {
    within(name, || {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    })
}

/// A UDP server in `name` that tells each client its address, and ends after `datagrams` of them.
pub(crate) fn serve_udp(name: &str, address: SocketAddr, datagrams: usize) -> thread::JoinHandle<()> {
    let socket = within(name, || UdpSocket::bind(address)).expect("the port is free");
    thread::spawn(move || {
        for _ in 0..datagrams {
            let (_, client) = socket.recv_from(&mut [0; 100]).expect("a datagram comes");
            socket.send_to(client.ip().to_string().as_bytes(), client).expect("it is answered");
        }
    })
}

/// What a UDP server tells a client in `name`; the answer has to come from where the question went.
pub(crate) fn ask_udp(name: &str, server: SocketAddr) -> std::io::Result<String> {
    within(name, || {
        let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send(b"who am I?")?;
        let mut answer = [0; 100];
        let len = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..len]).into_owned())
    })
}

/// What the kernel of `name` has answered on its own: TCP resets and ICMP errors.
pub(crate) fn kernel_answers(name: &str) -> [u64; 2] {
    [kernel_counter(name, "Tcp", "OutRsts"), kernel_counter(name, "Icmp", "OutDestUnreachs")]
}
