//! A plain Linux `vxlan` device is a peer: the test plays the node `linux` with one, in the lab's `world`.

mod support;

use std::time::Duration;
use support::{Lab, has_program, labs_can_run, stdout, wait_for};

const VTEP_NODE1: &str = "02:70:00:00:00:01";
const VTEP_LINUX: &str = "02:70:00:00:00:99";

const MANIFESTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1, annotations: {podplane.io/vtep-mac: '02:70:00:00:00:01'}}
---
apiVersion: v1
kind: Node
metadata:
  name: linux
  annotations: {podplane.io/vtep-mac: '02:70:00:00:00:99', lab.podplane.io/unmanaged: 'true'}
spec: {podCIDR: 10.99.0.0/24, podCIDRs: [10.99.0.0/24, 'fd00:99::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.100}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: e2e}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
";

/// Length of each transfer.
const TRANSFER_BYTES: usize = 1 << 20;

/// Sets up the kernel's side: the device, its peer in the FDB and as neighbors, and the addresses of a pod.
fn linux_node(lab: &Lab, pod_ipv4: &str, pod_ipv6: &str) {
    lab.sh(
        "world",
        &format!(
            "ip link add vxlan0 address {VTEP_LINUX} mtu 1450 type vxlan id 1 dstport 4789 local 172.30.0.100 nolearning
             ip link set vxlan0 up
             ip addr add 10.99.0.5/32 dev vxlan0
             ip addr add fd00:99::5/128 dev vxlan0 nodad
             bridge fdb append {VTEP_NODE1} dev vxlan0 dst 172.30.0.11
             ip neigh add 169.254.0.1 lladdr {VTEP_NODE1} dev vxlan0
             ip neigh add fe80::1 lladdr {VTEP_NODE1} dev vxlan0
             ip route add {pod_ipv4}/32 via 169.254.0.1 dev vxlan0 src 10.99.0.5 onlink
             ip route add {pod_ipv6}/128 via fe80::1 dev vxlan0 src fd00:99::5 onlink"
        ),
    );
}

/// Sends a megabyte over TCP and compares what arrived.
fn transfer(lab: &Lab, from: &str, to: &str, address: &str) {
    let (family, target) =
        if address.contains(':') { ("6", format!("[{address}]")) } else { ("4", address.to_owned()) };
    let listen = format!("TCP{family}-LISTEN:7400,reuseaddr");
    let receive = lab.spawn(to, &["sh", "-c", &format!("socat -u {listen} STDOUT | sha256sum")]);
    wait_for("the receiver listens", Duration::from_secs(10), || {
        lab.exec_ok(to, &["ss", "-Htln", "sport = :7400"]).contains(":7400").then_some(())
    });
    let sent = lab.sh(
        from,
        &format!(
            "f=$(mktemp); head -c {TRANSFER_BYTES} /dev/urandom >$f; sha256sum <$f
             socat -u STDIN TCP{family}:{target}:7400 <$f; rm $f"
        ),
    );
    assert_eq!(stdout(receive.finish()), sent, "{from} to {to} ({address})");
}

/// As a kernel sets the device up, and as a wire would carry it: on veth nobody finishes checksums and segments.
fn interoperate(offloads: bool) {
    if !labs_can_run() || !has_program("socat") || !has_program("ethtool") {
        return;
    }
    let lab = Lab::up(MANIFESTS, &[]);
    let (pod_ipv4, pod_ipv6) = (lab.address("e2e/client", false), lab.address("e2e/client", true));
    linux_node(&lab, &pod_ipv4, &pod_ipv6);
    if !offloads {
        lab.exec_ok("world", &["ethtool", "-K", "vxlan0", "tx", "off"]);
    }
    for address in ["10.99.0.5", "fd00:99::5"] {
        lab.exec_ok("e2e/client", &["ping", "-c", "3", "-i", "0.2", "-W", "5", address]);
    }
    for address in [&pod_ipv4, &pod_ipv6] {
        lab.exec_ok("world", &["ping", "-c", "3", "-i", "0.2", "-W", "5", address]);
    }
    for address in ["10.99.0.5", "fd00:99::5"] {
        transfer(&lab, "e2e/client", "world", address);
    }
    for address in [&pod_ipv4, &pod_ipv6] {
        transfer(&lab, "world", "e2e/client", address);
    }
}

#[test]
fn a_linux_vxlan_device_is_a_peer_node() {
    interoperate(true);
}

#[test]
fn a_linux_vxlan_device_without_offloads_is_a_peer_node() {
    interoperate(false);
}
