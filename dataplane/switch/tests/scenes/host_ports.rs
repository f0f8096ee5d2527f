//! hostPort: a port of a node that leads to one of its pods (P04).

use crate::scene::Scene;

const CLUSTER: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    host-port near tcp 8080 at 80
    host-port near udp 5353 at 53
    host-port far sctp 9999 at 99
    host-port far tcp 8080 at 80
    uplinks 50000-50999
";

#[test]
fn p04_the_outside_reaches_the_pod_at_its_nodes_port_and_is_seen_with_its_own_address() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        for client in ["world", "outside"] {
            scene.check(
                &format!("{client}: tcp{version} 40000 > node1:80 syn"),
                &format!("near: tcp {client}:40000 > near:8080 syn"),
            );
            scene.check(
                &format!("near: tcp{version} 8080 > {client}:40000 syn-ack"),
                &format!("{client}@node1: tcp node1:80 > {client}:40000 syn-ack"),
            );
            scene.check(
                &format!("{client}: udp{version} 5000 > node1:53"),
                &format!("near: udp {client}:5000 > near:5353"),
            );
            scene.check(
                &format!("{client}: sctp{version} 5000 > node2:99"),
                &format!("far: sctp {client}:5000 > far:9999 chunk 1"),
            );
        }
    }
}

#[test]
fn p04_a_port_of_one_node_is_not_one_of_the_others() {
    let mut scene = Scene::new(CLUSTER);
    scene.check("world: udp 5000 > node2:53", "drop left-to-kernel");
    scene.check("world: tcp 40000 > node2:80 syn", "far: tcp world:40000 > far:8080 syn");
    scene.check("client: tcp 40000 > node2:80 syn", "far: tcp client:40000 > far:8080 syn");
    scene.check("far: tcp 8080 > client:40000 syn-ack", "client: tcp node2:80 > client:40000 syn-ack");
}

#[test]
fn p04_a_pod_reaches_itself_through_its_nodes_port() {
    let mut scene = Scene::new(CLUSTER);
    scene.check("near: tcp 40000 > node1:80 syn", "near: tcp gateway1:40000 > near:8080 syn");
}

#[test]
fn p04_two_pods_of_a_node_share_a_port_by_host_ip() {
    let mut scene = Scene::new(
        "
        pod one on node1
        pod two on node1
        host-port one tcp 8080 at 172.30.0.11:80
        host-port two tcp 8080 at [fd00:172:30::11]:80
        uplinks 50000-50999
    ",
    );
    scene.check("world: tcp 40000 > node1:80 syn", "one: tcp world:40000 > one:8080 syn");
    scene.check("world: tcp6 40000 > node1:80 syn", "two: tcp world:40000 > two:8080 syn");
}

#[test]
fn p04_policy_of_the_pod_holds_and_sees_the_client() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("ingress near: client tcp/8080");
    scene.check("client: tcp 40000 > node1:80 syn", "near: tcp client:40000 > near:8080 syn");
    scene.check("world: tcp 40000 > node1:80 syn", "drop denied-by-ingress-policy");
}

#[test]
fn p04_what_cannot_be_claimed_is_left_to_the_kernel() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("unclaimed tcp 80 on node1");
    scene.check("world: tcp 40000 > node1:80 syn", "drop left-to-kernel");
}

#[test]
fn p04_a_pod_that_goes_takes_its_port_with_it() {
    let mut scene = Scene::new(CLUSTER);
    scene.check("world: udp 5000 > node1:53", "near: udp world:5000 > near:5353");
    scene.remove("near");
    scene.check("world: udp 5000 > node1:53", "drop left-to-kernel");
}
