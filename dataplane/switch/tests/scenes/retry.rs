//! Connection attempts that are led to another backend when the chosen one does not answer (S29, W21).

use crate::scene::Scene;
use policy::tables::ServiceId;
use switch::{DropReason, ServiceHits};
use wire::{Frame, Protocol};

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080 retry=250: near, far
    service plain tcp 80 to 8080: near, far
";

fn receiver(words: &str) -> String {
    words.split_once(':').unwrap_or_else(|| panic!("{words}")).0.to_owned()
}

fn other(pod: &str) -> &'static str {
    if pod == "near" { "far" } else { "near" }
}

fn hits(scene: &Scene, service: &str) -> ServiceHits {
    let id = ServiceId::of("default", service).port(Protocol::TCP, 80);
    let all = scene.nodes[0].shards[0].service_hits();
    all.into_iter().find(|(of, _)| *of == id).map(|(_, hits)| hits).unwrap_or_default()
}

#[test]
fn s29_a_syn_that_is_not_answered_in_time_goes_to_another_backend() {
    let mut scene = Scene::new(PODS);
    for (port, version) in [(40_000, ""), (40_001, "6")] {
        let first = receiver(&scene.send(&format!("client: tcp{version} {port} > web:80 syn")));
        let second = other(&first);
        scene.wait_ms(249);
        scene.expire();
        assert_eq!(scene.released(), [""; 0]);
        scene.wait_ms(1);
        scene.expire();
        assert_eq!(scene.released(), [format!("{second}: tcp client:{port} > {second}:8080 syn")]);
        scene.check(
            &format!("{second}: tcp{version} 8080 > client:{port} syn-ack"),
            &format!("client: tcp web:80 > client:{port} syn-ack"),
        );
        scene.check(
            &format!("client: tcp{version} {port} > web:80 ack"),
            &format!("{second}: tcp client:{port} > {second}:8080 ack"),
        );
        scene.wait(10);
        scene.expire();
        assert_eq!(scene.released(), [""; 0], "an answered connection is left alone");
    }
    assert_eq!(hits(&scene, "web"), ServiceHits { opened: 4, refused: 0, retried: 2 });
}

#[test]
fn s29_a_refusal_is_not_passed_on_while_there_is_another_backend() {
    let mut scene = Scene::new(PODS);
    for (port, version, unreachable) in [(40_000, "", (3, 1, 0)), (40_001, "6", (1, 3, 0))] {
        let first = receiver(&scene.send(&format!("client: tcp{version} {port} > web:80 syn")));
        let second = other(&first);
        scene.check(&format!("{first}: tcp{version} 8080 > client:{port} rst-ack"), "drop retried-elsewhere");
        assert_eq!(scene.released(), [format!("{second}: tcp client:{port} > {second}:8080 syn")]);
        // The second refuses too, and that is what the client hears.
        scene.check(
            &format!("{second}: tcp{version} 8080 > client:{port} rst-ack"),
            &format!("client: tcp web:80 > client:{port} rst-ack"),
        );
        let port = port + 10;
        let first = receiver(&scene.send(&format!("client: tcp{version} {port} > web:80 syn")));
        let second = other(&first);
        let about = scene.sketch(&format!("client: tcp{version} {port} > {first}:8080 syn")).1;
        let mut error = scene.error(&first, unreachable, &about);
        assert_eq!(scene.send_frame(&first, &mut error), "drop retried-elsewhere");
        assert_eq!(scene.released(), [format!("{second}: tcp client:{port} > {second}:8080 syn")]);
    }
    let swallowed: u64 = [1, 2].iter().map(|node| scene.drops(*node, DropReason::RetriedElsewhere)).sum();
    assert_eq!((swallowed, hits(&scene, "web").retried), (4, 4));
}

#[test]
fn s29_a_repeated_syn_stays_with_its_backend_and_a_late_answer_of_the_first_is_not_the_services() {
    let mut scene = Scene::new(PODS);
    let first = receiver(&scene.send("client: tcp 40000 > web:80 syn"));
    let second = other(&first);
    assert_eq!(receiver(&scene.send("client: tcp 40000 > web:80 syn")), first);
    scene.wait_ms(250);
    scene.expire();
    assert_eq!(scene.released(), [format!("{second}: tcp client:40000 > {second}:8080 syn")]);
    assert_eq!(receiver(&scene.send("client: tcp 40000 > web:80 syn")), second);
    let late = scene.send(&format!("{first}: tcp 8080 > client:40000 syn-ack"));
    assert!(!late.contains("web"), "{late}");
    scene.check(&format!("{second}: tcp 8080 > client:40000 syn-ack"), "client: tcp web:80 > client:40000 syn-ack");
}

#[test]
fn s29_it_is_for_those_who_ask_for_it() {
    let mut scene = Scene::new(PODS);
    let first = receiver(&scene.send("client: tcp 40000 > plain:80 syn"));
    scene.wait_ms(500);
    scene.expire();
    assert_eq!(scene.released(), [""; 0]);
    scene.check(&format!("{first}: tcp 8080 > client:40000 rst-ack"), "client: tcp plain:80 > client:40000 rst-ack");
}

#[test]
fn s29_an_only_backend_is_left_to_the_clients_own_patience() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 retry=250: far");
    scene.check("client: tcp 40000 > web:80 syn", "far: tcp client:40000 > far:8080 syn");
    scene.wait_ms(300);
    scene.expire();
    assert_eq!(scene.released(), [""; 0]);
    scene.check("far: tcp 8080 > client:40000 syn-ack", "client: tcp web:80 > client:40000 syn-ack");
    scene.check("client: tcp 40001 > web:80 syn", "far: tcp client:40001 > far:8080 syn");
    scene.check("far: tcp 8080 > client:40001 rst-ack", "client: tcp web:80 > client:40001 rst-ack");
    scene.wait_ms(250);
    scene.expire();
    assert_eq!(scene.nodes[0].shards[0].deadline(), None);
}

#[test]
fn s29_a_backend_whose_pod_is_gone_is_passed_over_at_once() {
    let mut scene = Scene::new(PODS);
    scene.detach("near");
    for port in 40_000..40_040 {
        scene.check(&format!("client: tcp {port} > web:80 syn"), &format!("far: tcp client:{port} > far:8080 syn"));
    }
}

#[test]
fn s29_affinity_goes_with_the_backend_that_answers() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080 retry=250 affinity=3600: near, far");
    let first = receiver(&scene.send("client: tcp 40000 > web:80 syn"));
    scene.send(&format!("{first}: tcp 8080 > client:40000 rst-ack"));
    scene.released();
    for port in 40_001..40_010 {
        assert_eq!(receiver(&scene.send(&format!("client: tcp {port} > web:80 syn"))), other(&first));
    }
}

#[test]
fn s29_attempts_are_bounded_and_forgotten() {
    let mut scene = Scene::new(PODS);
    for port in 0..3_000 {
        scene.send(&format!("client: tcp {} > web:80 syn", 10_000 + port));
    }
    scene.wait_ms(250);
    scene.expire();
    // A port holds 1,000 flows, so only that many attempts are left to try again.
    assert_eq!(scene.released().len(), 1_000);
    for _ in 0..8 {
        scene.wait(1);
        scene.expire();
    }
    assert_eq!(scene.nodes[0].shards[0].deadline(), None);
}

#[test]
fn a_syn_that_is_retried_keeps_the_bytes_that_the_client_sent() {
    let mut scene = Scene::new(PODS);
    let (sender, mut sketch, _) = scene.sketch("client: tcp 40000 > web:80 syn");
    // The maximum segment size option.
    sketch.l4[12] = 0x60;
    sketch.l4.extend([2, 4, 5, 180]);
    let first = receiver(&scene.send_frame(&sender, &mut Frame::from_bytes(&sketch.bytes())));
    scene.wait_ms(250);
    scene.expire();
    let second = other(&first);
    assert_eq!(scene.released(), [format!("{second}: tcp client:40000 > {second}:8080 syn")]);
}

#[test]
fn the_syn_that_is_sent_again_is_the_clients_latest() {
    let mut scene = Scene::new(PODS);
    let (sender, mut sketch, _) = scene.sketch("client: tcp 40000 > web:80 syn");
    scene.send_frame(&sender, &mut Frame::from_bytes(&sketch.bytes()));
    // The client gave up and begins anew from the same port.
    sketch.l4[4..8].copy_from_slice(&77_777u32.to_be_bytes());
    scene.send_frame(&sender, &mut Frame::from_bytes(&sketch.bytes()));
    scene.wait_ms(250);
    let mut frame = Frame::with_capacity(2_000);
    let switch = &mut scene.nodes[0].shards[0];
    switch.expire(scene.now, 100);
    switch.release(scene.now, &mut frame).expect("it is sent again");
    assert_eq!(frame.bytes()[38..42], 77_777u32.to_be_bytes());
}
