//! What happens when a table is full, and when time passes.

use crate::scene::{FLOWS_MAX, Scene};
use std::time::Duration;
use switch::DropReason;

const PODS: &str = "
    pod client on node1
    pod other on node1
    pod far on node2
";

#[test]
fn a_flood_of_half_open_connections_harms_neither_live_ones_nor_other_pods() {
    let mut scene = Scene::new(PODS);
    scene.send("client: tcp 1000 > far:80 syn");
    scene.send("far: tcp 80 > client:1000 syn-ack");
    scene.send("client: tcp 1000 > far:80 ack");
    scene.send("other: tcp 1000 > far:80 syn");
    for port in 2_000..2_000 + 3 * FLOWS_MAX {
        scene.send(&format!("client: tcp {port} > outside:80 syn"));
        scene.send(&format!("client: tcp {port} > far:80 syn"));
    }
    assert!(scene.flows(1) <= FLOWS_MAX as usize + 1);
    scene.check("far: tcp 80 > client:1000 data", "client: tcp far:80 > client:1000 data");
    scene.check("far: tcp 80 > other:1000 syn-ack", "other: tcp far:80 > other:1000 syn-ack");
}

#[test]
fn a_table_full_of_live_connections_refuses_more_and_says_so() {
    let mut scene = Scene::new(PODS);
    for port in 2_000..2_000 + FLOWS_MAX {
        scene.send(&format!("client: tcp {port} > far:80 syn"));
        scene.send(&format!("far: tcp 80 > client:{port} syn-ack"));
        scene.send(&format!("client: tcp {port} > far:80 ack"));
    }
    scene.check("client: tcp 1000 > far:80 syn", "drop flow-table-full");
    assert_eq!(scene.drops(1, DropReason::FlowTableFull), 1);
    scene.check("client: tcp 2000 > far:80 data", "far: tcp client:2000 > far:80 data");
}

#[test]
fn flows_are_forgotten_when_their_time_is_up_and_the_shell_is_told_when_to_look() {
    let mut scene = Scene::new(PODS);
    scene.send("client: udp 5000 > far:53");
    scene.send("client: tcp 5000 > far:80 syn");
    let switch = &mut scene.nodes[0].shards[0];
    let start = scene.now;
    let next = switch.expire(start, 100).expect("flows wait for their end");
    assert_eq!(next, start + Duration::from_secs(30));
    assert_eq!(switch.counters().flows, 2);
    let next = switch.expire(next, 100).expect("the connection is left");
    assert_eq!((next, switch.counters().flows), (start + Duration::from_secs(60), 1));
    assert_eq!(switch.expire(next, 100), None);
    assert_eq!(switch.counters().flows, 0);
}

#[test]
fn flows_are_listed_with_both_directions_and_their_counts() {
    let mut scene = Scene::new(PODS);
    scene.change("service web tcp 80 to 8080: far");
    scene.send("client: tcp 5000 > web:80 syn");
    scene.send("far: tcp 8080 > client:5000 syn-ack");
    scene.wait(2);
    let flows = scene.nodes[0].shards[0].flows(scene.now, 10);
    let [flow] = &flows[..] else { panic!("one flow: {flows:?}") };
    assert_eq!(flow.original.to_string(), "TCP 10.244.1.11:5000 -> 10.96.0.1:80");
    assert_eq!(flow.reply.to_string(), "TCP 10.244.2.11:8080 -> 10.244.1.11:5000");
    assert_eq!((flow.state, flow.original_count.0, flow.reply_count.0), ("syn-received", 1, 1));
    assert_eq!(flow.idle, Duration::from_secs(2));
    let names = [&flow.opener, &flow.service, &flow.answerer].map(|name| name.as_deref().unwrap_or("nobody"));
    assert_eq!(names, ["default/client", "default/web", "default/far"]);
    assert_eq!(scene.nodes[0].shards[0].flows(scene.now, 0).len(), 0);
}

#[test]
fn counters_say_where_frames_went() {
    let mut scene = Scene::new(PODS);
    scene.send("client: udp 5000 > other:53");
    scene.send("client: udp 5000 > outside:53");
    scene.send("client: udp 5000 > other:53 from=far");
    let counters = scene.nodes[0].shards[0].counters();
    let total = counters.total();
    assert_eq!(
        (total.received.frames, total.forwarded.frames, total.answered.frames, total.dropped.frames),
        (3, 1, 1, 1)
    );
    assert_eq!(total.drops().collect::<Vec<_>>(), [(DropReason::SpoofedSource, 1)]);
    assert_eq!(total.delivered.frames, 2);
}
