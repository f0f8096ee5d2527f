//! ICMP errors about translated packets: outer and embedded header name what their receiver knows, as tshark sees it, and the
//! receiver's kernel acts on them.

mod support;

use std::time::Duration;
use support::capture::{COMPLAINTS, capture, tshark, tshark_fields};
use support::services::{NODES, WORLD, at, cluster, probe, service};
use support::{Folder, Lab, has_program, labs_can_run, stdout, wait_for};

/// A port on which nobody listens.
const CLOSED: u16 = 9;

/// A network behind a router with a link of MTU 1280, and its one host.
const BEHIND: [&str; 2] = ["198.18.0.2", "2001:db8:18::2"];

/// Length of each transfer.
const TRANSFER_BYTES: usize = 1 << 20;

/// Service to the port 8081 of `far`, on which nobody listens.
const CLOSED_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: closed, namespace: e2e}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.0.50
  clusterIPs: [10.96.0.50, 'fd00:10:96::50']
  selector: {where: far}
  ports: [{name: udp, protocol: UDP, port: 80, targetPort: 8081, nodePort: 30050}]
";

/// Tests the errors in a capture at the asker: each has `own` as its receiver and as the source of the packet that it embeds,
/// and was sent by, and is about a packet to, `asked` and its port.
fn errors_name_what_the_asker_knows(file: &str, family: usize, own: &str, asked: &str, port: u16) {
    let filter = ["icmp.type == 3 && icmp.code == 3", "icmpv6.type == 1 && icmpv6.code == 4"][family];
    let fields = [["ip.src", "ip.dst", "udp.dstport"], ["ipv6.src", "ipv6.dst", "udp.dstport"]][family];
    let errors = tshark_fields(file, filter, &fields);
    assert!(!errors.is_empty(), "no error in {file}: {}", tshark(file, "icmp || icmpv6"));
    let expected = format!("{asked},{own}\t{own},{asked}\t{port}");
    for error in errors {
        assert_eq!(error, expected, "in {file}");
    }
    assert_eq!(tshark(file, COMPLAINTS), "", "in {file}");
}

#[test]
fn a_closed_port_outside_and_behind_a_service_is_told_in_the_asker_s_own_terms() {
    if !labs_can_run() || !has_program("tshark") {
        return;
    }
    let lab = Lab::up(&cluster(CLOSED_SERVICE), &["--tap-mode", "plain"]);
    lab.sh("e2e/client", "ethtool -K eth0 tx off gso off tso off >/dev/null 2>&1 || true");
    for place in ["world", "node:node1", "node:node2"] {
        lab.sh(place, "ethtool -K eth0 tx off gso off tso off tx-udp-segmentation off >/dev/null 2>&1 || true");
    }
    for family in [0, 1] {
        let client = lab.address("e2e/client", family == 1);
        let cases = [
            // A pod and the outside: the error comes back through the source translation.
            ("e2e/client", client.as_str(), WORLD[family], CLOSED),
            // A pod and a ClusterIP: the error of the backend on the other node becomes one of the ClusterIP.
            ("e2e/client", client.as_str(), ["10.96.0.50", "fd00:10:96::50"][family], 80),
            // The outside and a nodePort, at the node of the backend and at another one.
            ("world", WORLD[family], NODES[1][family], 30_050),
            ("world", WORLD[family], NODES[0][family], 30_050),
        ];
        for (from, own, asked, port) in cases {
            let folder = Folder::new();
            let file = capture(&lab, &folder, from, &format!("host {asked}"), || {
                let report = probe(&lab, from, &at(asked, port), "udp");
                assert_eq!(report["outcome"], "refused", "the kernel acts on the error: {report:#}");
            });
            errors_name_what_the_asker_knows(&file, family, own, asked, port);
        }
    }
}

/// Shell functions for a router inside of a place: `make` makes a network namespace whose eth0 is the other end of `behind`,
/// and puts the process id of its keeper into $inner; `inside` runs a command there. Only the router's end has an MTU of 1280:
/// the host at the other end does not know, so it invites segments that are too big.
const ROUTER: &str = "
make() {
    unshare --net sleep 1000 >/dev/null 2>&1 &
    inner=$!
    until [ \"$(readlink /proc/$inner/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done
    ip link add behind type veth peer name eth0 netns $inner
    ip link set behind mtu 1280 up
    inside ip link set lo up
    inside ip link set eth0 up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
}
inside() { nsenter --net=/proc/$inner/ns/net \"$@\"; }
";

/// Makes `world` a router before the host [`BEHIND`]; gives the process id of the host's keeper.
fn host_behind_world(lab: &Lab) -> String {
    let [ipv4, ipv6] = BEHIND;
    lab.sh(
        "world",
        &format!(
            "{ROUTER}
             make
             ip addr add 198.18.0.1/24 dev behind
             ip addr add 2001:db8:18::1/64 dev behind nodad
             inside ip addr add {ipv4}/24 dev eth0
             inside ip addr add {ipv6}/64 dev eth0 nodad
             inside ip route add default via 198.18.0.1
             inside ip -6 route add default via 2001:db8:18::1
             # On the underlay everything is a neighbor, and the router answers for what is behind it.
             echo 1 >/proc/sys/net/ipv4/conf/eth0/proxy_arp
             echo 1 >/proc/sys/net/ipv6/conf/eth0/proxy_ndp
             ip -6 neigh add proxy {ipv6} dev eth0
             echo $inner"
        ),
    )
}

/// Makes the pod a router before its own addresses, as the sandbox of a virtual machine may be: the host behind has them, and
/// the router speaks with them. Gives the process id of the host's keeper.
fn pod_behind_itself(lab: &Lab, pod: &str) -> String {
    let (ipv4, ipv6) = (lab.address(pod, false), lab.address(pod, true));
    lab.sh(
        pod,
        &format!(
            "{ROUTER}
             gateway4=$(ip -4 route show default | sed 's/.*via \\([^ ]*\\).*/\\1/')
             gateway6=$(ip -6 route show default | sed 's/.*via \\([^ ]*\\).*/\\1/')
             make
             for one in all eth0 behind; do
                 echo 0 >/proc/sys/net/ipv4/conf/$one/rp_filter
                 echo 1 >/proc/sys/net/ipv4/conf/$one/accept_local
             done
             ip addr flush dev eth0 scope global
             ip addr add {ipv4}/32 dev lo
             ip -6 addr add {ipv6}/128 dev lo nodad
             ip route replace default via $gateway4 dev eth0 onlink
             ip -6 route replace default via $gateway6 dev eth0 onlink
             ip addr add 169.254.9.1/32 dev behind scope link
             ip -6 addr add fe80::9:1/64 dev behind nodad
             for family in -4 -6; do
                 ip $family rule add pref 5 iif eth0 lookup 100
                 ip $family rule add pref 50 lookup local
                 ip $family rule del pref 0
             done
             inside ip addr add {ipv4}/32 dev eth0
             inside ip -6 addr add {ipv6}/128 dev eth0 nodad
             inside ip -6 addr add fe80::9:2/64 dev eth0 nodad
             ip route add {ipv4}/32 dev behind table 100
             ip -6 route add {ipv6}/128 via fe80::9:2 dev behind table 100
             inside ip route add default via 169.254.9.1 dev eth0 onlink
             inside ip -6 route add default via fe80::9:1 dev eth0
             echo $inner"
        ),
    )
}

/// Sends a megabyte over TCP from `client` to `target`; it arrives at the port 8080 of the network namespace of the process
/// `inner` at `place`, and is compared there.
fn transfer(lab: &Lab, client: &str, target: &str, place: &str, inner: &str) {
    let family = if target.starts_with('[') { "6" } else { "4" };
    let enter = format!("--net=/proc/{}/ns/net", inner.trim());
    let listen = format!("socat -u TCP{family}-LISTEN:8080,reuseaddr STDOUT | sha256sum");
    let receive = lab.spawn(place, &["nsenter", &enter, "sh", "-c", &listen]);
    wait_for("the receiver listens", Duration::from_secs(10), || {
        lab.exec_ok(place, &["nsenter", &enter, "ss", "-Htln", "sport = :8080"]).contains(":8080").then_some(())
    });
    let sent = lab.sh(
        client,
        &format!(
            "f=$(mktemp); head -c {TRANSFER_BYTES} /dev/urandom >$f; sha256sum <$f
             timeout 20 socat -u STDIN TCP{family}:{target} <$f; rm $f"
        ),
    );
    assert_eq!(stdout(receive.finish()), sent, "{client} to {target}");
}

/// The path MTU that the kernel of `place` has learned for `address`.
fn path_mtu(lab: &Lab, place: &str, address: &str) -> String {
    let route = lab.exec_ok(place, &["ip", "route", "get", address]);
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1).unwrap_or("none").to_owned()
}

/// Every "too big" in the capture is about a packet from `own` to `asked`, and the last has the MTU of the link. Before it the
/// node may have said that its tunnel carries less than the underlay.
fn too_big_names_what_the_asker_knows(file: &str, family: usize, router: &str, own: &str, asked: &str) {
    let filter = ["icmp.type == 3 && icmp.code == 4", "icmpv6.type == 2"][family];
    let fields = [["ip.src", "ip.dst", "icmp.mtu"], ["ipv6.src", "ipv6.dst", "icmpv6.mtu"]][family];
    let errors = tshark_fields(file, filter, &fields);
    assert!(!errors.is_empty(), "no error in {file}: {}", tshark(file, "icmp || icmpv6"));
    let expected = |mtu: u16| format!("{router},{own}\t{own},{asked}\t{mtu}");
    for error in &errors {
        assert!([expected(1280), expected(1450)].contains(error), "{error} in {file}");
    }
    assert_eq!(errors.last(), Some(&expected(1280)), "in {file}");
}

#[test]
fn a_smaller_mtu_outside_is_learned_through_the_source_translation() {
    if !labs_can_run() || !has_program("tshark") || !has_program("socat") {
        return;
    }
    let lab = Lab::up(&cluster(""), &[]);
    let inner = host_behind_world(&lab);
    let folder = Folder::new();
    for family in [0, 1] {
        let client = lab.address("e2e/client", family == 1);
        let file = capture(&lab, &folder, "e2e/client", "icmp or icmp6", || {
            transfer(&lab, "e2e/client", &at(BEHIND[family], 8080), "world", &inner);
        });
        too_big_names_what_the_asker_knows(&file, family, WORLD[family], &client, BEHIND[family]);
        assert_eq!(path_mtu(&lab, "e2e/client", BEHIND[family]), "1280");
    }
}

#[test]
fn a_smaller_mtu_behind_a_cluster_ip_on_another_node_is_learned_for_the_cluster_ip() {
    if !labs_can_run() || !has_program("tshark") || !has_program("socat") {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "NodePort", 51, "where: far", "")), &[]);
    let inner = pod_behind_itself(&lab, "e2e/far");
    let folder = Folder::new();
    for family in [0, 1] {
        let cluster_ip = ["10.96.0.51", "fd00:10:96::51"][family];
        let client = lab.address("e2e/client", family == 1);
        let file = capture(&lab, &folder, "e2e/client", "icmp or icmp6", || {
            transfer(&lab, "e2e/client", &at(cluster_ip, 80), "e2e/far", &inner);
        });
        too_big_names_what_the_asker_knows(&file, family, cluster_ip, &client, cluster_ip);
        assert_eq!(path_mtu(&lab, "e2e/client", cluster_ip), "1280");
        // The same for a client outside, through a node without the backend.
        let file = capture(&lab, &folder, "world", "icmp or icmp6", || {
            transfer(&lab, "world", &at(NODES[0][family], 30_051), "e2e/far", &inner);
        });
        too_big_names_what_the_asker_knows(&file, family, NODES[0][family], WORLD[family], NODES[0][family]);
        assert_eq!(path_mtu(&lab, "world", NODES[0][family]), "1280");
    }
}
