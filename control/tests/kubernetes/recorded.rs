//! Recorded answers of a real API server, in their exact bytes.

use crate::followed::{Followed, Wishes, timing};
use crate::server::{Answer, ApiServer, recording};
use control::kubernetes::PROXY_KINDS;
use proptest::prelude::*;
use std::time::Duration;

/// Waits until everything recorded has come, and compares.
fn compare_at_end(server: &ApiServer, followed: &mut Followed) {
    followed.until("the last events", |followed| {
        let at = |resource: &str, version: &str| followed.resource(resource).resource_version == version;
        at("pods", "376") && at("endpointslices", "372") && at("services", "379") && at("networkpolicies", "370")
    });
    followed.until_as_the_server(server);
    assert_eq!(followed.problems, []);
}

#[test]
fn a_recorded_scenario_ends_in_the_tables_of_its_last_state_read_as_files() {
    let server = ApiServer::recorded();
    let mut followed = Followed::new(&server);
    followed.until_synced();
    followed.until_as_the_server(&server);
    assert_eq!((followed.cluster().pods.len(), followed.cluster().nodes.len()), (5, 2));
    server.play();
    compare_at_end(&server, &mut followed);
    assert!(followed.has_pod("shop", "backend-2"), "it is being deleted, and still there");
    let pods = followed.resource("pods");
    assert_eq!((pods.lists, pods.events, pods.bookmarks, pods.failures, pods.not_understood), (1, 13, 2, 0, 0));
    assert!(pods.unchanged > 0, "conditions are nothing to the network");
    assert_eq!(followed.resource("clusternetworkpolicies").state, "absent");
    let status = followed.status();
    assert!(status.synced && status.lost_ms.is_none() && status.last_contact_ms.is_some(), "{status:?}");
}

#[test]
fn nothing_is_handed_out_before_everything_was_listed() {
    let server = ApiServer::recorded();
    server.answer("/networkpolicies?limit", usize::MAX, Answer::new(403, recording("forbidden.json")));
    let mut followed = Followed::new(&server);
    followed.until("all but the policies", |followed| {
        let status = followed.status();
        let is_done = |name: &str| followed.resource(name).state == "watching";
        status.resources.len() == 7
            && is_done("pods")
            && is_done("services")
            && is_done("nodes")
            && is_done("namespaces")
    });
    assert_eq!((followed.generations, followed.status().synced), (0, false));
    followed.until("the refusal", |followed| followed.resource("networkpolicies").state == "failing");
    let why = followed.monitor().waiting_for().expect("nothing was handed out");
    assert!(why.contains("not listed yet are ") && why.contains("networkpolicies"), "{why}");
    assert!(why.contains("403: ") && why.contains("Allow the verbs list and watch on networkpolicies"), "{why}");
    server.answer_rightly();
    followed.until_synced();
    followed.until_as_the_server(&server);
    assert_eq!(followed.monitor().waiting_for(), None);
}

#[test]
fn a_list_comes_in_pages_and_a_token_that_is_too_old_begins_it_anew() {
    let server = ApiServer::recorded();
    let token = "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6Mjg4LCJzdGFydCI6Ii9iYXNlL3AzXHUwMDAwIn0";
    server.answer(&format!("/pods?limit=500&{token}"), 1, Answer::new(410, "{}"));
    server.answer(&format!("/pods?limit=500&{token}"), 1, Answer::new(200, recording("pods.page2.json")));
    server.answer("/pods?limit=500", 2, Answer::new(200, recording("pods.page1.json")));
    let mut followed = Followed::new(&server);
    followed.until_synced();
    followed.until_as_the_server(&server);
    assert_eq!(server.count(&["/pods?limit"]), 4);
    assert_eq!(followed.resource("pods").lists, 1, "one of them was complete");
}

#[test]
fn what_is_too_large_for_one_page_is_asked_for_in_smaller_ones() {
    let server = ApiServer::recorded();
    server.answer("/pods?limit=500", 1, Answer::new(200, vec![b' '; 65 << 20]));
    let mut followed = Followed::new(&server);
    followed.until_synced();
    followed.until_as_the_server(&server);
    assert_eq!(server.count(&["/pods?limit=125"]), 1);
}

#[test]
fn of_secrets_only_those_are_read_that_an_ingress_names() {
    let server = ApiServer::recorded();
    let mut followed = Followed::with(&server, Wishes { kinds: PROXY_KINDS, ..Wishes::default() });
    followed.until_synced();
    assert_eq!(server.count(&["secrets"]), 0);
    server.play();
    let secret = ("shop".into(), "shop-tls".into());
    followed.until("the certificate", |followed| {
        let held = followed.cluster().secrets.get(&secret);
        held.is_some_and(|secret| secret.object.certificate().is_ok())
    });
    assert_eq!(followed.cluster().ingresses.len(), 1);
    let asked = server.count(&["secrets"]);
    assert_eq!(server.count(&["/namespaces/shop/secrets?fieldSelector=metadata.name%3Dshop-tls"]), asked);
    server.delete("ingresses", "shop/shop");
    followed.until("nobody names it", |followed| followed.cluster().secrets.is_empty());
    assert!(!followed.status().resources.iter().any(|resource| resource.resource.starts_with("secrets")));
}

#[test]
fn bookmarks_move_the_place_at_which_a_watch_goes_on() {
    let server = ApiServer::recorded();
    let mut followed = Followed::new(&server);
    followed.until_synced();
    server.play();
    followed.until("the last bookmark", |followed| followed.resource("nodes").resource_version == "370");
    server.end_watches("nodes", true);
    followed.until("another watch", |_| server.count(&["nodes", "watch=1", "resourceVersion=370"]) == 1);
    assert_eq!(followed.resource("nodes").lists, 1);
}

#[test]
fn a_slow_trickle_is_as_good_as_any_answer() {
    let server = ApiServer::recorded();
    server.send_in_pieces(2000, Duration::from_millis(1));
    let mut followed = Followed::new(&server);
    followed.until_synced();
    server.play();
    compare_at_end(&server, &mut followed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn chunks_may_be_cut_anywhere(bytes in prop_oneof![1usize..9, 9usize..5000]) {
        let server = ApiServer::recorded();
        let mut followed = Followed::with(&server, Wishes { timing: timing(), ..Wishes::default() });
        followed.until_synced();
        server.send_in_pieces(bytes, Duration::ZERO);
        server.play();
        compare_at_end(&server, &mut followed);
        prop_assert_eq!(followed.resource("pods").watches, 1);
    }
}
