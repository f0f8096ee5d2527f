//! ICMP errors across the uplink, both ways, of every type and about every kind of translation (S17, B17): outer and quoted
//! packet are the ones of the receiver. And what the switch itself says to the outside.

use crate::bytes::{self, Sketch};
use crate::scene::{Scene, ports};

const CLUSTER: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web udp 53 to 5353 node-port=30053 lb=200: near
    service dns udp 53 to 5353 node-port=30054: far
    service own udp 53 to 5353 node-port=30055: node1
    service rem udp 53 to 5353 node-port=30056: node2
    service ext udp 53 to 5353 node-port=30057: outside
    uplinks 50000-50999
";

/// Type, code and last two bytes of every ICMP error that quotes a packet, and its name in scenes. Source quench is none any
/// more (RFC 6633).
const ERRORS: [((u8, u8, u16), &str); 7] = [
    ((3, 0, 0), "net-unreachable"),
    ((3, 1, 0), "host-unreachable"),
    ((3, 3, 0), "port-unreachable"),
    ((3, 4, 1300), "too-big 1300"),
    ((3, 13, 0), "icmp-error"),
    ((11, 0, 0), "ttl-exceeded"),
    ((12, 0, 0), "icmp-error"),
];

/// The same for ICMPv6.
const ERRORS_V6: [((u8, u8, u16), &str); 7] = [
    ((1, 0, 0), "net-unreachable"),
    ((1, 1, 0), "icmp-error"),
    ((1, 3, 0), "host-unreachable"),
    ((1, 4, 0), "port-unreachable"),
    ((2, 0, 1300), "too-big 1300"),
    ((3, 0, 0), "ttl-exceeded"),
    ((4, 1, 0), "icmp-error"),
];

/// Every error of a family.
fn errors(version: &str) -> Vec<((u8, u8, u16), &'static str)> {
    if version.is_empty() { ERRORS.to_vec() } else { ERRORS_V6.to_vec() }
}

/// The packet that `words` say was received, as its receiver saw it.
fn seen(scene: &Scene, version: &str, words: &str) -> Sketch {
    let (_, packet) = words.split_once(": ").unwrap();
    let [protocol, src, ">", dst, ..] = packet.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{words}") };
    let (name, port) = src.rsplit_once(':').unwrap();
    scene.sketch(&format!("client: {protocol}{version} {port} > {dst} from={name}")).1
}

/// `teller` says an error about the packet `about`, from the address of `from`.
fn tell(scene: &mut Scene, teller: &str, from: &str, kind: (u8, u8, u16), about: &Sketch) -> String {
    let mut error = scene.error(teller, kind, about);
    let v6 = about.src.is_ipv6();
    if from != teller {
        let sketch = Sketch {
            src_mac: scene.entry(teller).3,
            src: scene.address(from, v6),
            dst: about.src,
            ttl: 60,
            protocol: if v6 { wire::Protocol::ICMPV6 } else { wire::Protocol::ICMP },
            l4: bytes::icmp_error(kind.0, kind.1, kind.2, &about.bytes()),
            ..scene.sketch(&format!("{teller}: udp{} 1 > node1:1", if v6 { "6" } else { "" })).1
        };
        error = wire::Frame::from_bytes(&sketch.bytes());
    }
    scene.send_frame(teller, &mut error)
}

#[test]
fn b17_errors_about_what_a_client_outside_sent_speak_of_what_it_sent() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        // Who answers, the frontend, and where the backend's own errors come in.
        for (backend, frontend, teller) in [
            ("near", "node1:30053", "near"),
            ("near", "web-lb:53", "near"),
            ("far", "node1:30054", "far"),
            ("node1", "node1:30055", "node1"),
            ("node2", "node1:30056", "node2@node1"),
            ("outside", "node1:30057", "outside@node1"),
        ] {
            let sent = scene.send(&format!("world: udp{version} 5000 > {frontend}"));
            assert!(sent.starts_with(backend), "{sent}");
            let about = seen(&scene, version, &sent);
            let name = frontend.split(':').next().unwrap();
            for (kind, what) in errors(version) {
                assert_eq!(
                    tell(&mut scene, teller, teller, kind, &about),
                    format!("world@node1: {what} {name} > world about world:5000 > {frontend}"),
                    "{sent}"
                );
                scene.wait(1);
            }
        }
    }
}

#[test]
fn b17_errors_about_answers_to_a_client_outside_reach_the_server() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        for (backend, frontend) in [("near", "node1:30053"), ("far", "node1:30054"), ("near", "web-lb:53")] {
            let sent = scene.send(&format!("world: udp{version} 5000 > {frontend}"));
            let (port, _) = ports(&sent);
            let answer = scene.send(&format!("{backend}: udp{version} 5353 > world:{port}"));
            let about = seen(&scene, version, &answer);
            for (kind, what) in errors(version) {
                // The client itself, and a router on the way to it.
                for from in ["world", "elsewhere"] {
                    assert_eq!(
                        tell(&mut scene, "world@node1", from, kind, &about),
                        format!("{backend}: {what} {from} > {backend} about {backend}:5353 > world:{port}")
                    );
                }
            }
        }
    }
}

#[test]
fn b17_errors_about_what_a_pod_sent_outside_reach_the_pod() {
    for shards in [1, 3] {
        let mut scene = Scene::with_shards(shards, CLUSTER);
        for version in ["", "6"] {
            for (to, name) in [("outside:99", "outside"), ("ext:53", "ext")] {
                let sent = scene.send(&format!("client: udp{version} 5000 > {to}"));
                let about = seen(&scene, version, &sent);
                for (kind, what) in errors(version) {
                    assert_eq!(
                        tell(&mut scene, "outside@node1", "outside", kind, &about),
                        format!("client: {what} {name} > client about client:5000 > {to}")
                    );
                    assert_eq!(
                        tell(&mut scene, "outside@node1", "elsewhere", kind, &about),
                        format!("client: {what} elsewhere > client about client:5000 > {to}")
                    );
                }
            }
            scene.send(&format!("client: ping{version} 7 > outside"));
            scene.send(&format!("near: ping{version} 7 > outside"));
            let about = scene.sketch(&format!("client: ping{version} 8 > outside from=node1")).1;
            assert_eq!(
                tell(&mut scene, "outside@node1", "elsewhere", errors(version)[0].0, &about),
                "near: net-unreachable elsewhere > near about near:7 > outside:7"
            );
        }
    }
}

#[test]
fn b17_errors_about_answers_from_outside_leave_with_the_nodes_address() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        for (to, server) in [("outside:99", "outside:99"), ("ext:53", "outside:5353")] {
            let sent = scene.send(&format!("client: udp{version} 5000 > {to}"));
            let (port, _) = ports(&sent);
            let server_port = server.split(':').nth(1).unwrap();
            let answer = scene.send(&format!("outside: udp{version} {server_port} > node1:{port}"));
            let about = seen(&scene, version, &answer);
            for (kind, what) in errors(version) {
                assert_eq!(
                    tell(&mut scene, "client", "client", kind, &about),
                    format!("outside@node1: {what} node1 > outside about {server} > node1:{port}")
                );
            }
        }
    }
}

#[test]
fn errors_about_what_nobody_sent_are_the_kernels() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        let about = scene.sketch(&format!("client: udp{version} 50001 > outside:99 from=node1")).1;
        for (kind, _) in errors(version) {
            assert_eq!(tell(&mut scene, "outside@node1", "outside", kind, &about), "drop left-to-kernel");
        }
    }
}

#[test]
fn a_client_outside_learns_the_size_that_the_tunnel_takes() {
    let mut scene = Scene::new(CLUSTER);
    for (version, fits) in [("", 1422), ("6", 1402)] {
        scene.check(&format!("world: udp{version} 5000 > node1:30054 len={fits}"), "far: udp world:5000 > far:5353");
        scene.check(
            &format!("world: udp{version} 5000 > node1:30054 len={}", fits + 1),
            "world@node1: too-big 1450 node1 > world about world:5000 > node1:30054",
        );
    }
}

#[test]
fn a_pod_learns_a_path_of_1280_bytes_behind_a_service_on_another_node() {
    let mut scene = Scene::new(CLUSTER);
    let peer = overlay::peers::PeerId(0);
    let now = scene.now;
    scene.send("client: udp 5000 > dns:53 len=1400");
    scene.nodes[0].shards[0].learn_path_mtu(now, peer, 1_280);
    for (version, fits) in [("", 1252), ("6", 1232)] {
        scene.check(&format!("client: udp{version} 5000 > dns:53 len={fits}"), "far: udp client:5000 > far:5353");
        scene.check(
            &format!("client: udp{version} 5000 > dns:53 len={}", fits + 1),
            "client: too-big 1280 gateway1 > client about client:5000 > dns:53",
        );
        scene.check(
            &format!("world: udp{version} 5000 > node1:30054 len={}", fits + 1),
            "world@node1: too-big 1280 node1 > world about world:5000 > node1:30054",
        );
    }
}

#[test]
fn a_hop_limit_that_ends_here_is_said_only_about_what_is_ours() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        scene.check(
            &format!("world: udp{version} 5000 > node1:30054 ttl=1"),
            "world@node1: ttl-exceeded node1 > world about world:5000 > node1:30054",
        );
        scene.check(&format!("world: udp{version} 5000 > node1:30054 ttl=2"), "far: udp world:5000 > far:5353");
        scene.check(&format!("world: udp{version} 5000 > node1:33434 ttl=1"), "drop left-to-kernel");
    }
}
