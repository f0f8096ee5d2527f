//! Sentences of the ClusterNetworkPolicy types, and of podplane's annotations on policies, one by one.

mod changes;
mod closed;
mod dry_run;
mod network_policy;
mod peers;
mod protocols;
mod tiers;

use crate::compile::tests::{A, B, C, abc, check, policy, tables, tcp};
use crate::tables::Direction::{FromPod, ToPod};
use crate::tables::{Action, Direction, Question, Tables, Tier, Verdict, VerdictReason};
use wire::Protocol;

/// A ClusterNetworkPolicy; `rest` is what follows tier and priority in its spec.
fn cnp(name: &str, tier: &str, priority: u16, rest: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{tier: {tier}, priority: {priority}, {rest}}}\n---\n"
    )
}

/// An Admin policy of every pod with these ingress rules.
fn ingress(name: &str, priority: u16, rules: &str) -> String {
    cnp(name, "Admin", priority, &format!("subject: {{namespaces: {{}}}}, ingress: [{rules}]"))
}

/// An Admin policy of every pod with these egress rules.
fn egress(name: &str, priority: u16, rules: &str) -> String {
    cnp(name, "Admin", priority, &format!("subject: {{namespaces: {{}}}}, egress: [{rules}]"))
}

/// A manifest with one more annotation.
fn annotated(manifest: &str, annotation: &str, value: &str) -> String {
    let entry = format!("podplane.io/{annotation}: '{value}'");
    if manifest.contains("annotations: {") {
        manifest.replacen("annotations: {", &format!("annotations: {{{entry}, "), 1)
    } else {
        manifest.replacen("metadata: {", &format!("metadata: {{annotations: {{{entry}}}, "), 1)
    }
}

/// A rule of ingress that does this with TCP to `port` from everybody in any namespace.
fn from_all(action: &str, port: u16) -> String {
    format!(
        "{{action: {action}, from: [{{namespaces: {{}}}}], protocols: [{{tcp: {{destinationPort: {{number: {port}}}}}}}]}}"
    )
}

fn question<'a>(tables: &Tables, direction: Direction, subject: &str, peer: &str, port: u16) -> Question<'a> {
    let subject = tables.find_pod("default", subject).expect("the subject is a pod");
    Question { direction, subject, peer: peer.parse().expect("an address"), protocol: Protocol::TCP, port, names: &[] }
}

/// What decides, as `allow|deny POLICY[INDEX]`, or the reason for want of a rule.
fn told(tables: &Tables, verdict: Verdict) -> String {
    let word = if verdict.allowed { "allow" } else { "deny" };
    match verdict.reason {
        VerdictReason::Rule(rule) => format!("{word} {}[{}]", tables.policy(rule.policy), rule.index),
        VerdictReason::NotIsolated => format!("{word} not isolated"),
        VerdictReason::Isolated => format!("{word} isolated"),
        VerdictReason::Exempt => format!("{word} exempt"),
    }
}

/// What decides about TCP from b to a.
fn b_to_a(tables: &Tables, port: u16) -> String {
    told(tables, tables.check(&question(tables, ToPod, "a", B, port)))
}
