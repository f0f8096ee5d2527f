//! Two real nodes in private namespaces: TAPs, netlink and the tunnel against the kernel's TCP/IP.

mod common;

use common::*;
use node::{AttachError, TapKind, TapMode};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;

#[test]
fn everybody_pings_everybody_in_both_families() {
    namespace::run(|| {
        let lab = lab(TapMode::Auto, 1);
        assert!(lab.ports.iter().all(|port| port.tap == TapKind::Offload && port.mtu == 1_450));
        for family in [0, 1] {
            ping("a", B[family]);
            ping("a", C[family]);
            ping("c", B[family]);
        }
        for own in
            ["10.244.1.1", "fd00:10:244:1::1", "172.30.0.11", "fd00:172:30::11", "172.30.0.12", "fd00:172:30::12"]
        {
            ping("a", own);
        }
        for pod in [A, B, C].iter().flatten() {
            ping("node1", pod);
        }
        assert!(lab.node1.counters().switch.balance());
        assert!(lab.node2.counters().switch.balance());
    });
}

/// 64 MiB between nodes, 16 MiB on one node, both families.
fn move_bytes(tap_mode: TapMode, shards: u16) {
    let lab = lab(tap_mode, shards);
    let bytes = pattern(64 * MIB);
    transfer("a", "c", C[0], &bytes);
    transfer("a", "b", B[0], &bytes[..16 * MIB]);
    transfer("c", "b", B[1], &bytes[..16 * MIB]);
    for pod in ["a", "b", "c"] {
        assert_eq!(kernel_counter(pod, "Tcp", "InCsumErrors"), 0, "pod {pod} saw a wrong checksum");
        assert_eq!(kernel_counter(pod, "Tcp", "EstabResets"), 0, "pod {pod} saw a reset");
    }
    for node in [&lab.node1, &lab.node2] {
        let counters = node.counters();
        assert!(counters.switch.balance());
        assert_eq!(counters.switch.total().drops_of(switch::DropReason::BadChecksum), 0);
    }
}

#[test]
fn offload_taps_move_64_mib_unharmed() {
    namespace::run(|| move_bytes(TapMode::Offload, 1));
}

#[test]
fn plain_taps_move_64_mib_unharmed() {
    namespace::run(|| move_bytes(TapMode::Plain, 1));
}

#[test]
fn shards_hand_frames_to_each_other() {
    namespace::run(|| {
        move_bytes(TapMode::Auto, 2);
    });
}

#[test]
fn an_offload_node_and_a_plain_node_understand_each_other() {
    namespace::run(|| {
        make_namespaces();
        let node1 = start(config("node1", TapMode::Offload)).expect("the node starts");
        let node2 = start(config("node2", TapMode::Plain)).expect("the node starts");
        node1.set_policy(tables()).expect("the node runs");
        node2.set_policy(tables()).expect("the node runs");
        assert_eq!(node1.attach(spec("a", A)).expect("a is attached").tap, TapKind::Offload);
        assert_eq!(node2.attach(spec("c", C)).expect("c is attached").tap, TapKind::Plain);
        let bytes = pattern(16 * MIB);
        transfer("a", "c", C[0], &bytes);
        transfer("c", "a", A[1], &bytes);
    });
}

#[test]
fn fragments_and_large_datagrams_cross_the_tunnel() {
    namespace::run(|| {
        let _lab = lab(TapMode::Auto, 1);
        for to in [C[0], C[1], B[0]] {
            within("a", || sh(&format!("ping -q -n -c 2 -i 0.01 -s 9000 -W 5 {to} > /dev/null")));
        }
    });
}

#[test]
fn b08_a_packet_over_the_mtu_is_refused_with_the_mtu() {
    namespace::run(|| {
        let _lab = lab(TapMode::Auto, 1);
        // The pod's own kernel must not know better than the path.
        within("a", || sh("ip link set eth0 mtu 1500; ip route change default via 10.244.1.1 mtu lock 1500"));
        let output = within("a", || {
            std::process::Command::new("ping")
                .args(["-n", "-c", "1", "-W", "5", "-M", "do", "-s", "1460", C[0]])
                .output()
                .expect("ping starts")
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("mtu = 1450") || text.contains("mtu=1450"), "{text}");
    });
}

#[test]
fn o08_a_path_mtu_that_shrinks_is_learned_and_told_to_the_sender() {
    namespace::run(|| {
        let lab = lab(TapMode::Auto, 1);
        ping("a", C[0]);
        for node in ["node1", "node2"] {
            within(node, || sh("ip link set under0 mtu 1400"));
        }
        // One packet is lost to learn from; the next is answered.
        let output = within("a", || {
            std::process::Command::new("ping")
                .args(["-n", "-c", "4", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1400", C[0]])
                .output()
                .expect("ping starts")
        });
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("mtu = 1350") || text.contains("mtu=1350"), "{text}");
        assert!(lab.node1.counters().io.tunnel_tx_too_big > 0);
        // TCP adapts, and what may be cut is cut.
        let bytes = pattern(4 * MIB);
        transfer("a", "c", C[0], &bytes);
        transfer("c", "a", A[1], &bytes);
        within("a", || sh(&format!("ping -q -n -c 2 -i 0.1 -s 4000 -M dont -W 5 {} > /dev/null", C[0])));
    });
}

#[test]
fn shutdown_leaves_nothing() {
    namespace::run(|| {
        let lab = lab(TapMode::Auto, 2);
        ping("a", C[0]);
        lab.node1.shutdown();
        lab.node2.shutdown();
        for (name, interface) in
            [("node1", "podplane0"), ("node2", "podplane0"), ("a", "eth0"), ("b", "eth0"), ("c", "eth0")]
        {
            within(name, || sh(&format!("! ip link show {interface} 2> /dev/null")));
        }
        for node in ["node1", "node2"] {
            within(node, || sh("! ip route show | grep podplane0; ! ip -6 route show | grep podplane0"));
        }
        // And it starts again in the same place.
        start(config("node1", TapMode::Auto)).expect("the node starts again").shutdown();
    });
}

#[test]
fn an_idle_node_uses_no_processor() {
    namespace::run(|| {
        let _lab = lab(TapMode::Auto, 2);
        ping("a", B[0]);
        ping("a", C[0]);
        // A window of time is what is measured here.
        const WINDOW: Duration = Duration::from_secs(2);
        let window = Instant::now();
        let before = node_threads();
        assert_eq!(before.len(), 10, "two nodes of two shards, a keeper and two holders of source ports");
        while let Some(left) = WINDOW.checked_sub(window.elapsed()) {
            std::thread::park_timeout(left);
        }
        for (before, after) in before.iter().zip(node_threads()) {
            let wakes = after.1 - before.1;
            assert!(wakes <= 30, "thread {} woke {wakes} times in 2 s", after.0);
            let micros = (after.2 - before.2) / 1_000;
            assert!(micros < 20_000, "thread {} ran {micros} µs in 2 s", after.0);
        }
    });
}

/// The dataplanes' threads: number, times scheduled, nanoseconds run.
fn node_threads() -> Vec<(u32, u64, u64)> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task").expect("the threads are listed") {
        let path = entry.expect("a thread is listed").path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if !name.starts_with("podplane-") {
            continue;
        }
        let id = path.file_name().and_then(|id| id.to_str()).and_then(|id| id.parse().ok()).expect("a number");
        let statistics = std::fs::read_to_string(path.join("schedstat")).expect("the thread lives");
        let mut fields = statistics.split_whitespace().map(|field| field.parse::<u64>().expect("a number"));
        let (run, _, times) = (fields.next(), fields.next(), fields.next());
        threads.push((id, times.expect("three fields"), run.expect("three fields")));
    }
    threads.sort_unstable();
    threads
}

#[test]
fn a_failed_attach_leaves_nothing() {
    namespace::run(|| {
        make_namespaces();
        let node = start(config("node1", TapMode::Auto)).expect("the node starts");
        node.set_policy(tables()).expect("the node runs");
        node.set_routes(&["10.244.0.0/16".parse().expect("a range")]).expect("the routes are set");
        let attached = node.attach(spec("a", A)).expect("a is attached");

        let error = node.attach(spec("a", B)).expect_err("eth0 exists");
        assert!(matches!(&error, AttachError::InterfaceExists(name) if name == "eth0"), "{error}");
        let error = node.attach(spec("b", A)).expect_err("the addresses are a's");
        assert!(error.to_string().contains("in use by pod test/a"), "{error}");
        let mut nowhere = spec("b", B);
        nowhere.netns = "/run/netns/missing".into();
        let error = node.attach(nowhere).expect_err("no such namespace");
        assert!(matches!(error, AttachError::Namespace(..)), "{error}");
        let mut long = spec("b", B);
        long.ifname = "sixteen-bytes-xx".to_owned();
        assert!(matches!(node.attach(long), Err(AttachError::Invalid(_))));
        // The kernel refuses a MAC of zeroes when the device exists already.
        let mut late = spec("b", B);
        late.mac = Some(wire::MacAddr([0; 6]));
        let error = node.attach(late).expect_err("no such MAC");
        assert!(matches!(error, AttachError::Step(..)), "{error}");

        within("b", || sh("! ip link show eth0 2> /dev/null"));
        assert_eq!(node.ports().len(), 3, "the host port, the uplink and a");
        ping("node1", A[0]);

        assert_eq!(node.detach(attached.id), Ok(true));
        assert_eq!(node.detach(attached.id), Ok(false), "a second time there is nothing to do");
        within("a", || sh("! ip link show eth0 2> /dev/null"));
        node.attach(spec("a", A)).expect("a is attached again");
        ping("node1", A[0]);
    });
}

#[test]
fn a_deleted_interface_loses_its_port_and_nothing_else() {
    namespace::run(|| {
        let lab = lab(TapMode::Auto, 1);
        within("b", || sh("ip link delete eth0"));
        wait_until("the port is lost", || lab.node1.counters().io.ports_lost == 1);
        ping("a", C[0]);
        assert_eq!(lab.node1.detach(lab.ports[1].id), Ok(true));
        lab.node1.attach(spec("b", B)).expect("b is attached again");
        ping("a", B[0]);
    });
}

#[test]
fn routes_are_reconciled() {
    namespace::run(|| {
        make_namespaces();
        let node = start(config("node1", TapMode::Auto)).expect("the node starts");
        let set = |ranges: &[&str]| {
            let ranges: Vec<_> = ranges.iter().map(|range| range.parse().expect("a range")).collect();
            node.set_routes(&ranges).expect("the routes are set");
        };
        set(&["10.244.0.0/16", "10.96.0.0/16", "fd00:10:244::/48"]);
        within("node1", || {
            sh("ip route show dev podplane0 | grep '^10.244.0.0/16 .*src 172.30.0.11 .*mtu 1450'
                ip -6 route show dev podplane0 | grep '^fd00:10:244::/48'");
        });
        // A route of somebody else is left alone.
        within("node1", || sh("ip route add 198.51.100.0/24 dev podplane0"));
        set(&["10.244.0.0/16", "10.97.0.0/16"]);
        within("node1", || {
            sh("test $(ip route show dev podplane0 proto 112 | wc -l) = 2
                ip route show | grep 10.97.0.0/16; ! ip route show | grep 10.96.0.0/16
                ! ip -6 route show | grep fd00:10:244::/48; ip route show | grep 198.51.100.0/24");
        });
    });
}

#[test]
fn p19_ipv6_works_at_once() {
    namespace::run(|| {
        let _lab = lab(TapMode::Auto, 1);
        within("a", || {
            sh("! ip -6 address show dev eth0 tentative | grep inet6
                test $(cat /proc/sys/net/ipv6/conf/eth0/accept_ra) = 0
                ip -6 route show default | grep 'via fd00:10:244:1::1 dev eth0'
                ip route show default | grep 'via 10.244.1.1 dev eth0'
                ip address show dev eth0 | grep 'inet 10.244.1.2/32'");
        });
    });
}

#[test]
fn b45_a_fresh_underlay_address_is_waited_for() {
    namespace::run(|| {
        make_namespaces();
        within("node1", || {
            sh("ip address delete fd00:172:30::11/64 dev under0; ip address add fd00:172:30::11/64 dev under0");
            sh("ip -6 address show dev under0 tentative | grep fd00:172:30::11");
        });
        start(config("node1", TapMode::Auto)).expect("the node starts");
    });
}

#[test]
fn shards_share_the_ports() {
    namespace::run(|| {
        let lab = lab(TapMode::Auto, 2);
        let shards: Vec<_> = lab.node1.ports().iter().map(|port| port.shard.0).collect();
        assert_eq!(shards, [0, 0, 1, 1], "host, uplink, a, b");
    });
}
