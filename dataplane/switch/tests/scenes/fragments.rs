//! Fragments follow their first one: its verdict, its translation, its place.

use crate::scene::Scene;
use overlay::peers::derive_vtep_mac;
use overlay::vxlan;
use std::time::Duration;
use switch::DropReason;
use wire::Frame;

/// How long a fragment waits for its first.
const WAIT_MAX: Duration = Duration::from_secs(2);

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service dns udp 53 to 5353: far
    service web udp 53 to 5353: near
";

/// Sends the fragments of `words` in the order of `order` and gives what became of each.
fn send(scene: &mut Scene, words: &str, id: u16, order: &[usize]) -> Vec<String> {
    let (sender, sketch, _) = scene.sketch(words);
    let fragments = sketch.fragments(id, 1_400);
    order.iter().map(|&n| scene.send_frame(&sender, &mut Frame::from_bytes(&fragments[n]))).collect()
}

#[test]
fn later_fragments_follow_the_first_to_the_same_pod() {
    let mut scene = Scene::new(PODS);
    for (id, version) in [(1, ""), (2, "6")] {
        for (target, port, pod) in
            [("near", 53, "near"), ("far", 53, "far"), ("web", 5353, "near"), ("dns", 5353, "far")]
        {
            let words = format!("client: udp{version} 5000 > {target}:53 len=4000 may-be-cut");
            assert_eq!(
                send(&mut scene, &words, id, &[0, 1, 2]),
                [
                    format!("{pod}: udp client:5000 > {pod}:{port}"),
                    format!("{pod}: later fragment client > {pod} at 1400"),
                    format!("{pod}: later fragment client > {pod} at 2800"),
                ]
            );
        }
    }
}

#[test]
fn fragments_of_a_reply_are_translated_back() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > dns:53", "far: udp client:5000 > far:5353");
    let replies = send(&mut scene, "far: udp 5353 > client:5000 len=2000 may-be-cut", 9, &[0, 1]);
    assert_eq!(replies, ["client: udp dns:53 > client:5000", "client: later fragment dns > client at 1400"]);
}

/// Sends every fragment in `order` and gives the sorted outcomes, those of held ones included.
fn send_all(scene: &mut Scene, words: &str, id: u16, order: &[usize]) -> Vec<String> {
    let mut fates = send(scene, words, id, order);
    fates.retain(|fate| fate != "held");
    fates.extend(scene.released());
    fates.sort();
    fates
}

/// Every order of the numbers below `count`.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![vec![]], |orders, next| {
        let insert = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, next);
                longer
            })
        };
        orders.iter().flat_map(insert).collect()
    })
}

#[test]
fn s18_fragments_in_any_order_reach_the_backend_and_so_do_those_of_the_answer() {
    for shards in [1, 2] {
        let mut scene = Scene::with_shards(shards, PODS);
        let mut id = 0;
        for version in ["", "6"] {
            for (service, pod) in [("web", "near"), ("dns", "far")] {
                for order in orders(4) {
                    id += 1;
                    let src_port = 5_000 + id;
                    let words = format!("client: udp{version} {src_port} > {service}:53 len=5000 may-be-cut");
                    let expect = [
                        format!("{pod}: later fragment client > {pod} at 1400"),
                        format!("{pod}: later fragment client > {pod} at 2800"),
                        format!("{pod}: later fragment client > {pod} at 4200"),
                        format!("{pod}: udp client:{src_port} > {pod}:5353"),
                    ];
                    assert_eq!(send_all(&mut scene, &words, id, &order), expect, "{order:?}");
                    let words = format!("{pod}: udp{version} 5353 > client:{src_port} len=5000 may-be-cut");
                    let expect = [
                        format!("client: later fragment {service} > client at 1400"),
                        format!("client: later fragment {service} > client at 2800"),
                        format!("client: later fragment {service} > client at 4200"),
                        format!("client: udp {service}:53 > client:{src_port}"),
                    ];
                    assert_eq!(send_all(&mut scene, &words, id, &order), expect, "{order:?}");
                }
            }
        }
    }
}

#[test]
fn s18_fragments_in_any_order_pass_a_policy_that_allows_their_flow_and_no_other() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress near: client udp/53\n ingress far: client udp/53");
    let mut id = 0;
    for version in ["", "6"] {
        for pod in ["near", "far"] {
            for order in orders(3) {
                id += 1;
                let allowed = send_all(
                    &mut scene,
                    &format!("client: udp{version} 5000 > {pod}:53 len=4000 may-be-cut"),
                    id,
                    &order,
                );
                assert!(allowed.iter().all(|fate| fate.starts_with(pod)), "{order:?}: {allowed:?}");
                let denied = send_all(
                    &mut scene,
                    &format!("client: udp{version} 5000 > {pod}:54 len=4000 may-be-cut"),
                    id + 1_000,
                    &order,
                );
                let expect =
                    ["drop denied-by-ingress-policy", "drop fragment-without-first", "drop fragment-without-first"];
                assert_eq!(denied, expect, "{order:?}");
            }
        }
    }
}

#[test]
fn s18_a_datagram_of_64_kib_arrives_in_whatever_order() {
    let mut scene = Scene::new(PODS);
    for (id, version) in [(1, ""), (2, "6")] {
        for service in ["web", "dns"] {
            let len = 65_507;
            let words = format!("client: udp{version} 5000 > {service}:53 len={len} may-be-cut");
            let count = (len + 8usize).div_ceil(1_400);
            let backwards: Vec<usize> = (0..count).rev().collect();
            let shuffled: Vec<usize> = (0..count).map(|n| n * 29 % count).collect();
            for (round, order) in [backwards, shuffled].iter().enumerate() {
                let fates = send_all(&mut scene, &words, id + 10 * round as u16, order);
                assert_eq!(fates.len(), count);
                assert!(fates.iter().all(|fate| !fate.starts_with("drop")), "{fates:?}");
            }
        }
    }
}

/// Tunnel datagrams with the fragments of `words`, as node 1 sends them to node 2.
fn tunnel_fragments(scene: &Scene, words: &str, id: u16) -> Vec<Vec<u8>> {
    let mut sketch = scene.sketch(words).1;
    sketch.src_mac = derive_vtep_mac("node1");
    sketch.dst_mac = derive_vtep_mac("node2");
    let header = vxlan::header(vxlan::Vni::new(1).unwrap());
    sketch.fragments(id, 1_400).iter().map(|fragment| [&header, &fragment[..]].concat()).collect()
}

#[test]
fn s18_fragments_that_overtake_each_other_in_the_tunnel_arrive() {
    let mut scene = Scene::new(PODS);
    let peer = scene.address("node1", false);
    for (version, words) in [("", "client: udp 5000 > far:53 len=4000"), ("6", "client: udp6 5000 > far:53 len=4000")] {
        for (id, order) in (1..).zip(orders(3)) {
            let datagrams = tunnel_fragments(&scene, words, id);
            let mut fates: Vec<String> = order.iter().map(|&n| scene.send_datagram(peer, 2, &datagrams[n])).collect();
            fates.retain(|fate| fate != "held");
            fates.extend(scene.released());
            fates.sort();
            let expect = [
                "far: later fragment client > far at 1400",
                "far: later fragment client > far at 2800",
                "far: udp client:5000 > far:53",
            ];
            assert_eq!(fates, expect, "{version} {order:?}");
        }
    }
}

#[test]
fn a_fragment_of_a_spoofed_source_from_the_tunnel_is_refused_when_its_first_comes() {
    let mut scene = Scene::new(PODS);
    let peer = scene.address("node1", false);
    let datagrams = tunnel_fragments(&scene, "client: udp 5000 > far:53 len=2000 from=far", 1);
    assert_eq!(scene.send_datagram(peer, 2, &datagrams[1]), "held");
    assert_eq!(scene.send_datagram(peer, 2, &datagrams[0]), "drop spoofed-source");
    assert_eq!(scene.released(), ["drop fragment-without-first"]);
}

#[test]
fn a_fragment_whose_first_does_not_come_is_given_up_and_counted() {
    let mut scene = Scene::new(PODS);
    assert_eq!(send(&mut scene, "client: udp 5000 > near:53 len=2000 may-be-cut", 3, &[1]), ["held"]);
    let switch = &scene.nodes[0].shards[0];
    assert_eq!((switch.counters().total().held.frames, switch.deadline()), (1, Some(scene.now + WAIT_MAX)));
    scene.wait(2);
    scene.expire();
    let switch = &scene.nodes[0].shards[0];
    assert_eq!((switch.counters().total().held.frames, switch.deadline()), (0, None));
    assert_eq!(scene.drops(1, DropReason::FragmentWithoutFirst), 1);
    // The first alone goes on: whoever puts the datagram together waits for the rest himself.
    let fates = send(&mut scene, "client: udp 5000 > near:53 len=2000 may-be-cut", 3, &[0]);
    assert_eq!((fates, scene.released()), (vec!["near: udp client:5000 > near:53".to_owned()], vec![]));
}

#[test]
fn a_flood_of_fragments_without_a_first_takes_bounded_room_and_harms_no_other_port() {
    let mut scene = Scene::new(PODS);
    let words = "client: udp 5000 > near:53 len=2800 may-be-cut";
    for id in 0..2_000 {
        assert_eq!(send(&mut scene, words, id, &[1]), ["held"]);
    }
    let held = scene.nodes[0].shards[0].counters().total().held;
    assert!(held.bytes < 320 * 1024 && held.frames > 150, "{held:?}");
    assert_eq!(scene.drops(1, DropReason::FragmentsWaiting), 2_000 - held.frames);
    let fates = send_all(&mut scene, "near: udp 5000 > client:53 len=2000 may-be-cut", 1, &[1, 0]);
    assert_eq!(fates, ["client: later fragment near > client at 1400", "client: udp near:5000 > client:53"]);
    // The latest are still there.
    let fates = send_all(&mut scene, words, 1_999, &[0]);
    assert_eq!(fates, ["near: later fragment client > near at 1400", "near: udp client:5000 > near:53"]);
}

#[test]
fn what_waits_at_a_port_goes_with_the_port() {
    let mut scene = Scene::new(PODS);
    let peer = scene.address("node1", false);
    let datagrams = tunnel_fragments(&scene, "client: udp 5000 > far:53 len=2000", 1);
    assert_eq!(scene.send_datagram(peer, 2, &datagrams[1]), "held");
    assert_eq!(send(&mut scene, "client: udp 5000 > near:53 len=2000 may-be-cut", 3, &[1]), ["held"]);
    for gone in ["dns", "far", "client"] {
        scene.remove(gone);
    }
    scene.expire();
    for node in [1, 2] {
        assert_eq!(scene.drops(node, DropReason::PortGone), 1);
        assert_eq!(scene.nodes[node - 1].shards[0].counters().total().held.frames, 0);
    }
}

#[test]
fn b18_fragments_that_overlap_are_refused_with_the_rest_of_their_datagram() {
    let mut scene = Scene::new(PODS);
    for (id, version) in [(1, ""), (2, "6")] {
        let (sender, sketch, _) = scene.sketch(&format!("client: udp{version} 5000 > web:53 len=5000 may-be-cut"));
        let (cut, cut_elsewhere) = (sketch.fragments(id, 1_400), sketch.fragments(id, 1_600));
        let mut send = |bytes: &Vec<u8>| scene.send_frame(&sender, &mut Frame::from_bytes(bytes));
        assert_eq!(send(&cut[0]), "near: udp client:5000 > near:5353");
        assert_eq!(send(&cut[2]), "near: later fragment client > near at 2800");
        assert_eq!(send(&cut[2]), "drop fragment-contradiction", "a repetition");
        assert_eq!(send(&cut[1]), "near: later fragment client > near at 1400", "which harms nothing");
        assert_eq!(send(&cut_elsewhere[2]), "drop fragment-contradiction", "from 3200 on, behind 4200");
        assert_eq!(send(&cut[3]), "drop fragment-without-first", "the rest of the datagram");
    }
    assert_eq!(scene.drops(1, DropReason::FragmentContradiction), 4);
}

#[test]
fn b18_fragments_that_waited_are_judged_like_the_others() {
    let mut scene = Scene::new(PODS);
    let (sender, sketch, _) = scene.sketch("client: udp 5000 > dns:53 len=4000 may-be-cut");
    let (cut, cut_elsewhere) = (sketch.fragments(1, 1_400), sketch.fragments(1, 1_200));
    for bytes in [&cut[2], &cut_elsewhere[1], &cut[1]] {
        assert_eq!(scene.send_frame(&sender, &mut Frame::from_bytes(bytes)), "held");
    }
    assert_eq!(scene.send_frame(&sender, &mut Frame::from_bytes(&cut[0])), "far: udp client:5000 > far:5353");
    let expect =
        ["far: later fragment client > far at 2800", "drop fragment-contradiction", "drop fragment-without-first"];
    assert_eq!(scene.released(), expect);
}

#[test]
fn later_fragments_of_a_denied_first_are_denied() {
    let mut scene = Scene::new(PODS);
    scene.change("ingress near:");
    let fates = send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[0, 1, 2]);
    assert_eq!(fates, ["drop denied-by-ingress-policy", "drop fragment-without-first", "drop fragment-without-first"]);
}

#[test]
fn later_fragments_are_cut_off_with_their_flow() {
    let mut scene = Scene::new(PODS);
    send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[0, 1]);
    scene.change("ingress near:");
    let fates = send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[2]);
    assert_eq!(fates, ["drop denied-by-ingress-policy"]);
}

#[test]
fn a_fragment_that_comes_too_late_is_dropped() {
    let mut scene = Scene::new(PODS);
    send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[0]);
    scene.wait(29);
    assert_eq!(
        send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[1]),
        ["near: later fragment client > near at 1400"]
    );
    scene.wait(1);
    assert_eq!(send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[2]), ["held"]);
    scene.wait(2);
    scene.expire();
    assert_eq!(scene.drops(1, DropReason::FragmentWithoutFirst), 1);
}

#[test]
fn a_fragmented_ping_arrives() {
    let mut scene = Scene::new(PODS);
    let fates = send(&mut scene, "client: ping 7 > far len=2000 may-be-cut", 4, &[0, 1]);
    assert_eq!(fates, ["far: ping 7 client > far", "far: later fragment client > far at 1400"]);
}
