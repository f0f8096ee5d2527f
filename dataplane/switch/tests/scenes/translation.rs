//! ICMP errors about the packets of flows: they reach the sender, outer and quoted packet translated; others reach nobody.

use crate::scene::Scene;

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web udp 53 to 5353: near
    service dns udp 53 to 5353: far
    service own udp 53 to 5353: client
    ingress client:
";

const PORT_UNREACHABLE: (u8, u8, u16) = (3, 3, 0);
const PORT_UNREACHABLE_V6: (u8, u8, u16) = (1, 4, 0);
const TOO_BIG: (u8, u8, u16) = (3, 4, 1300);

#[test]
fn an_error_of_the_backend_looks_like_one_of_the_service() {
    let mut scene = Scene::new(PODS);
    for (service, backend) in [("web", "near"), ("dns", "far")] {
        scene.send(&format!("client: udp 5000 > {service}:53"));
        let about = scene.sketch(&format!("client: udp 5000 > {backend}:5353")).1;
        let mut error = scene.error(backend, PORT_UNREACHABLE, &about);
        assert_eq!(
            scene.send_frame(backend, &mut error),
            format!("client: port-unreachable {service} > client about client:5000 > {service}:53")
        );
        scene.send(&format!("client: udp6 5000 > {service}:53"));
        let about = scene.sketch(&format!("client: udp6 5000 > {backend}:5353")).1;
        let mut error = scene.error(backend, PORT_UNREACHABLE_V6, &about);
        assert_eq!(
            scene.send_frame(backend, &mut error),
            format!("client: port-unreachable {service} > client about client:5000 > {service}:53")
        );
    }
}

#[test]
fn an_error_of_a_router_keeps_the_routers_address() {
    let mut scene = Scene::new(PODS);
    scene.send("client: udp 5000 > dns:53");
    let about = scene.sketch("client: udp 5000 > far:5353").1;
    let mut error = scene.error("node2", TOO_BIG, &about);
    assert_eq!(
        scene.send_frame("node2", &mut error),
        "drop unrelated-icmp-error",
        "node 2's own port knows nothing of the flow"
    );
    let mut sketch = scene.sketch("far: udp 1 > client:1").1;
    sketch.protocol = wire::Protocol::ICMP;
    sketch.src = scene.address("gateway2", false);
    sketch.src_mac = overlay::peers::derive_vtep_mac("node2");
    sketch.dst_mac = overlay::peers::derive_vtep_mac("node1");
    sketch.l4 = crate::bytes::icmp_error(3, 4, 1300, &about.bytes());
    let mut datagram = overlay::vxlan::header(overlay::vxlan::Vni::new(1).unwrap()).to_vec();
    datagram.extend(sketch.bytes());
    assert_eq!(
        scene.send_datagram(scene.address("node2", false), 1, &datagram),
        "client: too-big 1300 gateway2 > client about client:5000 > dns:53"
    );
}

#[test]
fn an_error_that_the_client_sends_about_a_reply_reaches_the_backend() {
    let mut scene = Scene::new(PODS);
    scene.send("client: udp 5000 > dns:53");
    scene.send("far: udp 5353 > client:5000");
    let about = scene.sketch("client: udp 53 > dns:5000").1;
    let about = crate::bytes::Sketch { src: about.dst, dst: about.src, ..about };
    let mut error = scene.error("client", PORT_UNREACHABLE, &about);
    assert_eq!(
        scene.send_frame("client", &mut error),
        "far: port-unreachable client > far about far:5353 > client:5000"
    );
}

#[test]
fn an_error_about_a_ping_finds_its_flow() {
    let mut scene = Scene::new(PODS);
    scene.send("client: ping 7 > far");
    let about = scene.sketch("client: ping 7 > far").1;
    let mut error = scene.error("far", (3, 1, 0), &about);
    assert_eq!(scene.send_frame("far", &mut error), "client: host-unreachable far > client about client:7 > far:7");
}

#[test]
fn an_error_about_a_hairpin_flow_is_translated_on_both_sides() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > own:53", "client: udp gateway1:5000 > client:5353");
    let mut about = scene.sketch("client: udp 5000 > client:5353").1;
    about.src = scene.address("gateway1", false);
    let mut error = scene.error("client", PORT_UNREACHABLE, &about);
    assert_eq!(
        scene.send_frame("client", &mut error),
        "client: port-unreachable own > client about client:5000 > own:53"
    );
}

#[test]
fn an_error_about_no_known_flow_reaches_nobody() {
    let mut scene = Scene::new(PODS);
    let about = scene.sketch("client: udp 5000 > near:5353").1;
    let mut error = scene.error("near", PORT_UNREACHABLE, &about);
    assert_eq!(scene.send_frame("near", &mut error), "drop unrelated-icmp-error");
    scene.send("client: udp 5000 > near:5353");
    let mut other = scene.error("near", PORT_UNREACHABLE, &scene.sketch("client: udp 5001 > near:5353").1);
    assert_eq!(scene.send_frame("near", &mut other), "drop unrelated-icmp-error");
    let mut related = scene.error("near", PORT_UNREACHABLE, &about);
    assert_eq!(
        scene.send_frame("near", &mut related),
        "client: port-unreachable near > client about client:5000 > near:5353"
    );
}
