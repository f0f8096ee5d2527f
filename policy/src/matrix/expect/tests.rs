use super::*;
use crate::cluster::Cluster;
use crate::compile::compile;

/// A database that only web pods may reach on its port, in one family for one of them.
const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIPs: [{ip: 10.244.1.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.244.1.3}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.244.1.4}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]}
";

fn tables() -> Tables {
    let (cluster, _) = Cluster::from_objects(crate::objects::parse("test.yaml", MANIFESTS).objects);
    compile(&cluster, 1).0
}

fn checked(expectations: &str) -> Report {
    check(&tables(), &parse(expectations).expect("expectations"), None)
}

#[test]
fn a_saved_matrix_is_met_and_names_what_it_does_not_find_again() {
    let saved = serde_json::to_string(&super::super::matrix(&tables(), &[(Protocol::TCP, 5432)], None)).expect("JSON");
    let report = checked(&saved);
    assert_eq!((report.passed, report.failed), (9, 0), "{report:#?}");
    let report = checked(&saved.replace("shop/web-2", "shop/web-3"));
    assert_eq!((report.passed, report.failed), (4, 5), "{report:#?}");
    let missing: Vec<_> = report.results.iter().filter(|checked| !checked.passed).map(|c| c.message.clone()).collect();
    assert_eq!(missing, vec![Some("there is no pod shop/web-3".to_owned()); 5]);
}

#[test]
fn patterns_stand_for_pairs_of_different_pods_which_must_all_be_as_expected() {
    let report = checked(
        "
- {from: shop/web-*, to: shop/db, port: 5432, outcome: allow}
- {from: shop/*, to: '*/db', port: 5432, outcome: deny}
- {from: '*/*', to: '*/*', port: 80, outcome: allow}
- {from: shop/db, to: shop/db, port: 80, outcome: allow}
- {from: shop/db, to: shop/d*, port: 80, outcome: allow}
- {from: shop/web-1, to: shop/db, protocol: icmp, outcome: deny}
",
    );
    let told: Vec<_> =
        report.results.iter().map(|checked| (checked.passed, checked.connections, checked.mismatches)).collect();
    let expected = [(true, 2, 0), (false, 2, 2), (false, 6, 2), (true, 1, 0), (false, 0, 0), (true, 1, 0)];
    assert_eq!(told, expected, "{report:#?}");
    let mismatch = &report.results[1].examples[0];
    assert_eq!((mismatch.from.as_str(), mismatch.outcome), ("shop/web-1", Outcome::Allow));
    assert!(mismatch.reason.contains("shop/db spec.ingress[0]"), "{mismatch:#?}");
    assert!(report.results[4].message.as_deref().is_some_and(|message| message.contains("one pod")), "{report:#?}");
}

#[test]
fn pods_without_addresses_of_the_family_are_not_as_expected() {
    let expected = parse("[{from: shop/web-1, to: shop/db, port: 5432, outcome: allow}]").expect("expectations");
    let report = check(&tables(), &expected, Some(Family::V6));
    assert_eq!(report.results[0].message.as_deref(), Some("no two of these pods have IPv6 addresses"));
}

#[test]
fn only_the_first_mismatches_are_told_and_all_are_counted() {
    let pods: String = (0..12)
        .map(|i| {
            format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{i}, namespace: shop}}\nstatus: {{podIPs: [{{ip: 10.244.2.{i}}}]}}\n")
        })
        .collect();
    let (cluster, _) = Cluster::from_objects(crate::objects::parse("test.yaml", &pods).objects);
    let expected = parse("[{from: shop/*, to: shop/p0, port: 80, outcome: deny}]").expect("expectations");
    let report = check(&compile(&cluster, 1).0, &expected, None);
    assert_eq!((report.results[0].mismatches, report.results[0].examples.len()), (11, MISMATCHES_TOLD_MAX));
}

#[test]
fn a_mistake_is_named_by_entry_and_field() {
    for (text, said) in [
        ("", "holds no expectation"),
        ("[]", "holds no expectation"),
        ("results: []", "holds no expectation"),
        ("pods: []", "results: required"),
        ("just text", "expected a list"),
        ("- {from: a/b, to: c/d, port: 80, outcome: allow}\n---\n- {}\n", "2 documents"),
        ("[{from: a/b, to: c/d, port: 80, outcome: allow}, 7]", "[1]: expected {from"),
        ("[{from: a, to: c/d, port: 80, outcome: allow}]", "[0].from: \"a\": expected NAMESPACE/NAME"),
        ("[{from: a/b, port: 80, outcome: allow}]", "[0].to: required"),
        ("results: [{from: a/b, to: c/d, port: 0, outcome: allow}]", "results[0].port: required: a number"),
        ("[{from: a/b, to: c/d, port: 65536, outcome: allow}]", "[0].port: required: a number"),
        ("[{from: a/b, to: c/d, outcome: allow}]", "[0].port: required"),
        ("[{from: a/b, to: c/d, protocol: ICMP, port: 8, outcome: allow}]", "[0].port: ICMP has no ports"),
        ("[{from: a/b, to: c/d, protocol: GRE, port: 8, outcome: allow}]", "[0].protocol: \"GRE\" is not"),
        ("[{from: a/b, to: c/d, port: 80, outcome: maybe}]", "[0].outcome: required: allow or deny"),
        ("[{from: a/b, to: c/d, ports: 80, outcome: deny}]", "unknown field \"ports\""),
        ("[{from: a/b", "line 1"),
    ] {
        let message = parse(text).expect_err(text);
        assert!(message.contains(said), "{text:?}: {message}");
    }
}

#[test]
fn a_star_stands_for_any_characters() {
    for (text, pattern, expected) in [
        ("shop", "*", true),
        ("", "*", true),
        ("frontend-x", "frontend-*", true),
        ("frontend", "frontend-*", false),
        ("a-mid-b", "a*b", true),
        ("ab", "a*b", true),
        ("a", "a*a", false),
        ("a1b2c", "a*b*c", true),
        ("a1c2b", "a*b*c", false),
        ("aXbXbc", "a*b*bc", true),
    ] {
        assert_eq!(is_like(text, pattern), expected, "{text:?} {pattern:?}");
    }
}
