//! What packets look like to others: fragments and large datagrams between two nodes, TCP's options, the client's address,
//! and what tshark says about the tunnel and about a pod's eth0.

mod support;

use std::time::Duration;
use support::capture::{COMPLAINTS, capture, malformed_whatever_the_checksum, tshark};
use support::manifests::{SERVERS, THREE_PODS};
use support::{Folder, Lab, has_program, labs_can_run, text, wait_for};

/// Larger than any MTU here and than one super-frame's segment, smaller than a UDP datagram may be.
const LARGE_BYTES: usize = 20_000;

#[test]
fn datagrams_above_the_mtu_and_fragments_pass_between_two_nodes() {
    if !labs_can_run() || !has_program("socat") {
        return;
    }
    let lab = Lab::up(THREE_PODS, &[]);
    let folder = Folder::new();
    let sent: String = (0..LARGE_BYTES).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let sent_file = folder.write("datagram", &sent);
    for (server, ipv6) in [("e2e/near", false), ("e2e/near", true), ("e2e/far", false), ("e2e/far", true)] {
        let address = lab.address(server, ipv6);
        lab.exec_ok("e2e/client", &["ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", "8000", &address]);

        let (listen, send) = if ipv6 {
            ("UDP6-RECVFROM:7001".to_owned(), format!("UDP6-SENDTO:[{address}]:7001"))
        } else {
            ("UDP4-RECVFROM:7001".to_owned(), format!("UDP4-SENDTO:{address}:7001"))
        };
        let receive = lab.spawn(server, &["socat", "-u", "-b", "65000", &listen, "STDOUT"]);
        wait_for("the receiver listens", Duration::from_secs(10), || {
            lab.exec_ok(server, &["ss", "-Huln", "sport = :7001"]).contains(":7001").then_some(())
        });
        lab.sh("e2e/client", &format!("socat -u -b 65000 STDIN {send} < {sent_file}"));
        let received = receive.finish();
        assert_eq!(received.stdout.len(), LARGE_BYTES, "{server} {address}: {}", text(&received.stderr));
        assert!(received.stdout == sent.as_bytes(), "{server} {address}: the datagram was changed");
    }
    let reassembled = lab.sh("e2e/far", "grep Ip6ReasmOKs /proc/net/snmp6");
    assert!(!reassembled.trim().ends_with(" 0"), "no fragment was reassembled: {reassembled}");
}

#[test]
fn tcp_keeps_its_options_between_two_nodes() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    let folder = Folder::new();
    let file = capture(&lab, &folder, "e2e/far", "tcp", || {
        assert_eq!(lab.outcome("e2e/client", &format!("{}:8080", lab.address("e2e/far", false))), "connected");
    });
    let syn = tshark(&file, "tcp.flags.syn == 1 && tcp.options.sack_perm && tcp.options.timestamp.tsval");
    assert_eq!(syn.lines().count(), 2, "SYN and SYN-ACK with SACK and timestamps: {syn}");
}

#[test]
fn the_server_sees_the_client_s_own_address() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(SERVERS, &[]);
    for ipv6 in [false, true] {
        let client = lab.address("e2e/client", ipv6);
        for server in ["e2e/near", "e2e/far"] {
            let address = lab.address(server, ipv6);
            let to = if ipv6 { format!("[{address}]:8080") } else { format!("{address}:8080") };
            let probe = lab.probe("e2e/client", &to);
            assert_eq!(probe["outcome"], "connected", "{probe}");
            assert_eq!(probe["client_ip"], client.as_str(), "{probe}");
            assert_eq!(probe["server"], server, "{probe}");
        }
    }
    // Through the Service the client's address is kept too, on either node.
    let mut servers = std::collections::BTreeSet::new();
    wait_for("both backends of the Service have answered", Duration::from_secs(20), || {
        let probe = lab.probe("e2e/client", "10.96.0.80:80");
        assert_eq!(probe["outcome"], "connected", "{probe}");
        assert_eq!(probe["client_ip"], lab.address("e2e/client", false).as_str(), "{probe}");
        servers.insert(probe["server"].to_string());
        (servers.len() == 2).then_some(())
    });
}

#[test]
fn tshark_finds_valid_vxlan_and_nothing_malformed_on_plain_taps() {
    tshark_accepts("plain");
}

#[test]
fn tshark_finds_valid_vxlan_and_nothing_malformed_where_super_frames_are_cut() {
    tshark_accepts("offload");
}

fn tshark_accepts(tap_mode: &str) {
    if !labs_can_run() || !has_program("tshark") || !has_program("socat") || !has_program("ethtool") {
        return;
    }
    let lab = Lab::up(SERVERS, &["--tap-mode", tap_mode]);
    let folder = Folder::new();
    // A packet that the kernel hands to a device with checksum or segmentation offload is not finished yet when a capture
    // sees it. So that the underlay's capture is what a wire would carry, those offloads are off there. A pod on an offload TAP
    // keeps them, because its super-frames are what the node is to cut; then its own eth0 shows unfinished checksums.
    let pods: &[&str] = if tap_mode == "plain" { &["e2e/client", "e2e/far"] } else { &[] };
    for place in ["node:node1", "node:node2"].iter().chain(pods) {
        // A device may have some of these fixed; what stays on shows as a complaint below.
        lab.sh(place, "ethtool -K eth0 tx off gso off tso off tx-udp-segmentation off >/dev/null 2>&1 || true");
    }
    let traffic = || {
        for ipv6 in [false, true] {
            let address = lab.address("e2e/far", ipv6);
            let to = if ipv6 { format!("[{address}]") } else { address.clone() };
            lab.exec_ok("e2e/client", &["ping", "-c", "3", "-i", "0.2", "-W", "5", &address]);
            lab.exec_ok("e2e/client", &["ping", "-c", "2", "-i", "0.2", "-W", "5", "-s", "4000", &address]);
            assert_eq!(lab.outcome("e2e/client", &format!("{to}:8080")), "connected");
            // Enough for full segments and acknowledgements in both directions.
            lab.sh(
                "e2e/client",
                &format!("head -c 300000 /dev/zero | socat -t 0.2 - TCP:{to}:8080 >/dev/null || true"),
            );
        }
        assert_eq!(lab.outcome("e2e/client", "10.96.0.80:80"), "connected");
    };
    let underlay = capture(&lab, &folder, "node:node1", "udp port 4789", || {
        let pod = capture(&lab, &folder, "e2e/client", "", traffic);
        if tap_mode == "plain" {
            assert_eq!(tshark(&pod, COMPLAINTS), "", "on the pod's eth0");
        } else {
            assert_eq!(malformed_whatever_the_checksum(&pod), "", "on the pod's eth0");
            assert_ne!(tshark(&pod, "tcp.len > 2000"), "", "no super-frame on the pod's eth0");
        }
        assert_ne!(tshark(&pod, "tcp.len > 1000"), "", "nothing large on the pod's eth0");
    });
    assert_eq!(tshark(&underlay, COMPLAINTS), "", "on the underlay");
    assert_eq!(tshark(&underlay, "!vxlan"), "", "not VXLAN on port 4789");
    assert_eq!(tshark(&underlay, "vxlan.vni != 1 || vxlan.flag_i != 1"), "", "another VNI, or none");
    for (what, filter) in [("TCP", "vxlan && tcp.len > 1000"), ("ping", "vxlan && icmp"), ("IPv6", "vxlan && ipv6")] {
        assert_ne!(tshark(&underlay, filter), "", "no {what} in the tunnel");
    }
    // O06: flows differ in the tunnel's source port, which stays in the dynamic range.
    assert_eq!(tshark(&underlay, "udp.dstport == 4789 && udp.srcport < 32768"), "", "source ports");
}
