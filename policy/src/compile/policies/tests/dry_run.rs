//! Policies that decide nothing yet, and policies that leave established flows alone.

use super::*;

fn rehearsed(tables: &Tables, port: u16) -> Option<String> {
    let verdict = tables.rehearse(&question(tables, ToPod, "a", B, port));
    verdict.map(|verdict| told(tables, verdict))
}

fn spares(yaml: &str, port: u16) -> bool {
    let tables = tables(&(abc() + yaml));
    let verdict = tables.check(&question(&tables, ToPod, "a", B, port));
    assert!(!verdict.allowed, "what is allowed needs not be spared");
    verdict.spares_established
}

fn keep(manifest: &str) -> String {
    annotated(manifest, "established", "keep")
}

#[test]
fn n21_a_policy_in_dry_run_decides_nothing_and_is_rehearsed() {
    let np = annotated(&policy("np", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}"), "dry-run", "true");
    let cnp = annotated(&ingress("cnp", 0, &from_all("Deny", 82)), "dry-run", "true");
    let tables = tables(&(abc() + &np + &cnp));
    for port in [80, 81, 82] {
        assert_eq!(b_to_a(&tables, port), "allow not isolated");
    }
    assert_eq!(rehearsed(&tables, 80).unwrap(), "deny isolated");
    assert_eq!(rehearsed(&tables, 81).unwrap(), "allow default/np[0]");
    assert_eq!(rehearsed(&tables, 82).unwrap(), "deny cnp[0]");
    let a = tables.find_pod("default", "a").expect("a");
    assert_eq!(tables.isolating(ToPod, a), []);
    assert_eq!(tables.selecting(ToPod, a).len(), 2);
    let trace = tables.trace(&question(&tables, ToPod, "a", B, 82), true);
    assert_eq!(told(&tables, trace.verdict), "deny cnp[0]");
}

#[test]
fn n21_policies_in_dry_run_are_rehearsed_together_with_those_in_force() {
    let enforced = policy("np", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    let more = annotated(&policy("more", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}"), "dry-run", "true");
    let tables = tables(&(abc() + &enforced + &more));
    assert_eq!(b_to_a(&tables, 81), "deny isolated");
    assert_eq!(rehearsed(&tables, 81).unwrap(), "allow default/more[0]", "a policy in dry run may open something, too");
    assert_eq!(rehearsed(&tables, 80).unwrap(), "allow default/np[0]");
    assert_eq!(rehearsed(&tables, 82).unwrap(), "deny isolated");
}

#[test]
fn n21_nothing_is_rehearsed_where_no_policy_in_dry_run_selects_the_pod() {
    let dry = annotated(&policy("dry", "{podSelector: {matchLabels: {app: b}}}"), "dry-run", "true");
    let tables = tables(&(abc() + &dry + &policy("np", "{podSelector: {}}")));
    assert_eq!(rehearsed(&tables, 80), None);
    assert!(tables.rehearse(&question(&tables, ToPod, "b", A, 80)).is_some());
    assert!(tables.rehearse(&question(&tables, FromPod, "b", A, 80)).is_none(), "it says nothing about that direction");
}

#[test]
fn n21_without_the_annotation_a_policy_is_in_force() {
    let np = annotated(&policy("np", "{podSelector: {}}"), "dry-run", "false");
    assert_eq!(b_to_a(&tables(&(abc() + &np)), 80), "deny isolated");
}

#[test]
fn n18_names_that_only_a_policy_in_dry_run_reads_are_learned() {
    let dry = annotated(&egress("cnp", 0, "{action: Accept, to: [{domainNames: [a.b]}]}"), "dry-run", "true");
    let tables = tables(&(abc() + &dry));
    assert!(tables.reads_names(tables.find_pod("default", "a").expect("a")));
}

#[test]
fn w09_established_flows_are_spared_if_only_policies_that_keep_them_deny() {
    let isolating = policy("np", "{podSelector: {}}");
    assert!(!spares(&isolating, 80));
    assert!(spares(&keep(&isolating), 80));
    assert!(!spares(&(keep(&isolating) + &policy("other", "{podSelector: {}}")), 80), "the other one cuts");
    assert!(spares(&(keep(&isolating) + &keep(&policy("other", "{podSelector: {}}"))), 80));
    let denying = ingress("cnp", 0, &from_all("Deny", 80));
    assert!(!spares(&denying, 80));
    assert!(spares(&keep(&denying), 80));
}

#[test]
fn w09_what_would_deny_without_the_policies_that_keep_cuts() {
    let first = keep(&ingress("first", 0, &from_all("Deny", 80)));
    assert!(!spares(&(first.clone() + &ingress("second", 1, &from_all("Deny", 80))), 80), "a Deny below");
    assert!(!spares(&(first.clone() + &policy("np", "{podSelector: {}}")), 80), "a tier below");
    assert!(spares(&(first + &policy("np", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}")), 80));
}

#[test]
fn w09_a_policy_in_dry_run_neither_cuts_nor_spares() {
    let dry = annotated(&policy("dry", "{podSelector: {}}"), "dry-run", "true");
    assert!(spares(&(keep(&policy("np", "{podSelector: {}}")) + &dry), 80));
    let both = annotated(&keep(&policy("both", "{podSelector: {}}")), "dry-run", "true");
    let tables = tables(&(abc() + &both));
    assert_eq!(b_to_a(&tables, 80), "allow not isolated");
    let verdict = tables.rehearse(&question(&tables, ToPod, "a", B, 80)).unwrap();
    assert!(!verdict.allowed && verdict.spares_established, "it would spare what is open");
}
