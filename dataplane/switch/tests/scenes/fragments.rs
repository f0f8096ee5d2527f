//! Fragments follow their first one: its verdict, its translation, its place.

use crate::scene::Scene;
use switch::DropReason;
use wire::Frame;

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

#[test]
fn a_later_fragment_before_its_first_is_dropped_and_counted() {
    let mut scene = Scene::new(PODS);
    let fates = send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[1, 0, 2]);
    assert_eq!(fates[0], "drop fragment-without-first");
    assert_eq!(fates[2], "near: later fragment client > near at 2800");
    assert_eq!(scene.drops(1, DropReason::FragmentWithoutFirst), 1);
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
    assert_eq!(
        send(&mut scene, "client: udp 5000 > near:53 len=4000 may-be-cut", 3, &[2]),
        ["drop fragment-without-first"]
    );
}

#[test]
fn a_fragmented_ping_arrives() {
    let mut scene = Scene::new(PODS);
    let fates = send(&mut scene, "client: ping 7 > far len=2000 may-be-cut", 4, &[0, 1]);
    assert_eq!(fates, ["far: ping 7 client > far", "far: later fragment client > far at 1400"]);
}
