//! NetworkPolicies as the switch applies them; what they mean is the policy crate's.

use crate::scene::Scene;
use switch::DropReason;

const PODS: &str = "
    pod client on node1
    pod server on node1
    pod db on node2
";

#[test]
fn ingress_is_judged_where_the_receiver_is() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress server: client tcp/8080\n ingress db: client tcp/5432");
    scene.check("client: tcp 40000 > server:8080 syn", "server: tcp client:40000 > server:8080 syn");
    scene.check("client: tcp 40000 > server:8081 syn", "drop denied-by-ingress-policy");
    scene.check("db: tcp6 40000 > server:8080 syn", "drop denied-by-ingress-policy");
    scene.check("server: tcp 40000 > db:5432 syn", "drop denied-by-ingress-policy");
    scene.check("client: tcp6 40000 > db:5432 syn", "db: tcp client:40000 > db:5432 syn");
    assert_eq!(scene.drops(2, DropReason::DeniedByIngressPolicy), 1);
}

#[test]
fn egress_is_judged_where_the_sender_is() {
    let mut scene = Scene::new(PODS);
    scene.change("egress client: db tcp/5432");
    scene.check("client: tcp 40000 > db:5432 syn", "db: tcp client:40000 > db:5432 syn");
    scene.check("client: udp 40000 > db:5432", "drop denied-by-egress-policy");
    scene.check("client: tcp 40000 > server:8080 syn", "drop denied-by-egress-policy");
    scene.check("client: tcp 40000 > node1:10250 syn", "drop denied-by-egress-policy");
    assert_eq!(scene.drops(1, DropReason::DeniedByEgressPolicy), 3);
}

#[test]
fn replies_of_an_allowed_flow_pass_both_ends_isolated() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress client:\n egress db:\n ingress db: client");
    scene.check("client: tcp 40000 > db:5432 syn", "db: tcp client:40000 > db:5432 syn");
    scene.check("db: tcp 5432 > client:40000 syn-ack", "client: tcp db:5432 > client:40000 syn-ack");
    scene.check("client: ping 7 > db", "db: ping 7 client > db");
    scene.check("db: pong 7 > client", "client: pong 7 db > client");
    scene.check("db: tcp 5433 > client:40000 syn", "drop denied-by-egress-policy");
}

#[test]
fn a_ping_is_no_reply_to_a_ping() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress client:");
    scene.check("client: ping 7 > server", "server: ping 7 client > server");
    scene.check("server: pong 7 > client", "client: pong 7 server > client");
    scene.check("server: ping 7 > client", "drop denied-by-ingress-policy");
}

#[test]
fn a_node_always_reaches_its_own_pods_and_another_node_does_not() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress server:");
    scene.check("node1: tcp 40000 > server:8080 syn", "server: tcp node1:40000 > server:8080 syn");
    scene.check("server: tcp 8080 > node1:40000 syn-ack", "node1: tcp server:8080 > node1:40000 syn-ack");
    scene.check("gateway1: tcp6 40000 > server:8080 syn", "server: tcp gateway1:40000 > server:8080 syn");
    scene.check("node2: tcp 40000 > server:8080 syn", "drop denied-by-ingress-policy");
}

#[test]
fn a_policy_change_cuts_a_live_flow_at_its_next_packet_and_no_other() {
    let mut scene = Scene::new(PODS);
    for pod in ["server", "db"] {
        scene.check(&format!("client: tcp 40000 > {pod}:80 syn"), &format!("{pod}: tcp client:40000 > {pod}:80 syn"));
        scene.check(
            &format!("{pod}: tcp 80 > client:40000 syn-ack"),
            &format!("client: tcp {pod}:80 > client:40000 syn-ack"),
        );
    }
    scene.change("ingress db: server");
    scene.check("client: tcp 40000 > db:80 data", "drop denied-by-ingress-policy");
    scene.check("client: tcp 40000 > server:80 data", "server: tcp client:40000 > server:80 data");
    scene.change("egress client: db");
    scene.check("client: tcp 40000 > server:80 data", "drop denied-by-egress-policy");
    scene.check("server: tcp 80 > client:40000 data", "drop denied-by-egress-policy");
}

#[test]
fn a_cut_stops_both_ends_and_neither_revives_the_flow_as_its_own() {
    for (rule, reason) in
        [("ingress db:", "drop denied-by-ingress-policy"), ("egress client:", "drop denied-by-egress-policy")]
    {
        let mut scene = Scene::new(PODS);
        scene.check("client: tcp 40000 > db:80 syn", "db: tcp client:40000 > db:80 syn");
        scene.check("db: tcp 80 > client:40000 syn-ack", "client: tcp db:80 > client:40000 syn-ack");
        scene.check("client: tcp 40000 > db:80 ack", "db: tcp client:40000 > db:80 ack");
        scene.check("client: udp 5000 > db:53", "db: udp client:5000 > db:53");
        scene.change(rule);
        for _ in 0..3 {
            for packet in ["tcp 40000 > db:80 data", "tcp 40000 > db:80 syn", "udp 5000 > db:53"] {
                scene.check(&format!("client: {packet}"), reason);
            }
            for packet in ["tcp 80 > client:40000 data", "tcp 80 > client:40000 fin", "udp 53 > client:5000"] {
                scene.check(&format!("db: {packet}"), reason);
            }
            scene.wait(20);
        }
    }
}

#[test]
fn a_flow_that_was_cut_goes_on_when_the_policy_goes() {
    let mut scene = Scene::new(PODS);
    scene.check("client: tcp 40000 > db:80 syn", "db: tcp client:40000 > db:80 syn");
    scene.check("db: tcp 80 > client:40000 syn-ack", "client: tcp db:80 > client:40000 syn-ack");
    scene.change("ingress db:");
    scene.check("client: tcp 40000 > db:80 ack", "drop denied-by-ingress-policy");
    scene.remove("ingress db");
    scene.check("client: tcp 40000 > db:80 ack", "db: tcp client:40000 > db:80 ack");
    scene.check("db: tcp 80 > client:40000 data", "client: tcp db:80 > client:40000 data");
}

#[test]
fn a_denied_flow_opens_when_the_policy_goes() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress db:");
    scene.check("client: tcp 40000 > db:80 syn", "drop denied-by-ingress-policy");
    scene.remove("ingress db");
    scene.check("client: tcp 40000 > db:80 syn", "db: tcp client:40000 > db:80 syn");
}
