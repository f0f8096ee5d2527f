//! ICMP errors that the switch sends, and those that it does not.

use crate::scene::Scene;
use switch::DropReason;

const PODS: &str = "
    pod client on node1
    pod server on node1
    pod far on node2
    service web tcp 80 to 8080: far
";

#[test]
fn a_hop_limit_that_ends_here_is_answered_by_the_gateway() {
    let mut scene = Scene::new(PODS);
    for version in ["", "6"] {
        scene.check(
            &format!("client: udp{version} 5000 > far:33434 ttl=1"),
            "client: ttl-exceeded gateway1 > client about client:5000 > far:33434",
        );
        scene.check(&format!("client: udp{version} 5000 > far:33434 ttl=2"), "far: udp client:5000 > far:33434");
    }
    scene.check(
        "client: tcp 40000 > web:80 syn ttl=1",
        "client: ttl-exceeded gateway1 > client about client:40000 > web:80",
    );
}

#[test]
fn an_address_outside_or_of_nobody_is_unreachable() {
    let mut scene = Scene::new(PODS);
    for version in ["", "6"] {
        scene.check(
            &format!("client: udp{version} 5000 > outside:53"),
            "client: net-unreachable gateway1 > client about client:5000 > outside:53",
        );
        scene.check(
            &format!("client: tcp{version} 40000 > nobody1:80 syn"),
            "client: host-unreachable gateway1 > client about client:40000 > nobody1:80",
        );
    }
}

#[test]
fn a_packet_too_big_for_the_tunnel_is_answered_with_the_size_that_fits() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > far:53 len=1422", "far: udp client:5000 > far:53");
    scene.check(
        "client: udp 5000 > far:53 len=1423",
        "client: too-big 1450 gateway1 > client about client:5000 > far:53",
    );
    scene.check(
        "client: udp6 5000 > far:53 len=1403",
        "client: too-big 1450 gateway1 > client about client:5000 > far:53",
    );
    scene.check(
        "client: tcp 40000 > web:80 data len=1411",
        "client: too-big 1450 gateway1 > client about client:40000 > web:80",
    );
    scene.check(
        "client: udp 5000 > server:53 len=1423",
        "client: too-big 1450 gateway1 > client about client:5000 > server:53",
    );
}

#[test]
fn a_packet_that_may_be_cut_is_not_refused_for_its_size() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > far:53 len=4000 may-be-cut", "far: udp client:5000 > far:53");
}

#[test]
fn a_super_frame_is_as_big_as_its_segments() {
    let mut scene = Scene::new(PODS);
    scene.check(
        "client: tcp 40000 > server:80 data len=30000 segments=1410",
        "server: tcp client:40000 > server:80 data",
    );
    scene.check(
        "client: tcp 40000 > far:80 data len=30000 segments=1411",
        "client: too-big 1450 gateway1 > client about client:40000 > far:80",
    );
}

#[test]
fn the_host_hears_errors_from_the_destination_because_the_gateway_is_itself() {
    let mut scene = Scene::new(PODS);
    scene
        .check("node1: udp 5000 > nobody1:53", "node1: host-unreachable nobody1 > node1 about node1:5000 > nobody1:53");
}

#[test]
fn errors_are_rationed_per_port() {
    let mut scene = Scene::new(PODS);
    let words = "client: udp 5000 > outside:53";
    let answered = (0..200).filter(|_| scene.send(words).starts_with("client: net-unreachable")).count();
    assert_eq!(answered, 50);
    assert_eq!(scene.drops(1, DropReason::NoRoute), 150);
    assert!(scene.send("server: udp 5000 > outside:53").starts_with("server: net-unreachable"));
    scene.wait(1);
    assert!(scene.send(words).starts_with("client: net-unreachable"));
}

#[test]
fn errors_are_never_answered_with_errors() {
    let mut scene = Scene::new(PODS);
    scene.send("client: udp 5000 > far:53");
    let about = scene.sketch("far: udp 53 > client:5000").1;
    let mut error = scene.error("client", (3, 3, 0), &about);
    error.bytes_mut()[22] = 1;
    // The header checksum follows the lower hop limit.
    let sum: u32 = error.bytes()[14..34]
        .chunks(2)
        .enumerate()
        .filter(|(word, _)| *word != 5)
        .map(|(_, w)| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let field = !((folded & 0xffff) + (folded >> 16)) as u16;
    error.bytes_mut()[24..26].copy_from_slice(&field.to_be_bytes());
    assert_eq!(scene.send_frame("client", &mut error), "drop ttl-exceeded");
}

#[test]
fn a_denied_packet_is_dropped_without_a_word() {
    let mut scene = Scene::new(PODS);
    scene.change("egress client:");
    scene.check("client: udp 5000 > outside:53", "drop denied-by-egress-policy");
}
