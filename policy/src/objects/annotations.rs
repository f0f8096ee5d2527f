//! What podplane reads from the annotations of NetworkPolicies and ClusterNetworkPolicies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

/// Annotation on a policy that lists its closed rules, such as `ingress[0],egress[2]`, or `*` for all of them: part of a
/// closed rule is written in fields that podplane does not understand (N16). In a NetworkPolicy, and where the action is
/// Accept, it matches nothing; where the action is Deny or Pass it denies everything. It is kept as an annotation so that it
/// survives when the object is written to a cluster directory.
pub const CLOSED_ANNOTATION: &str = "podplane.io/closed-rules";

/// Annotation on a policy: with the value `true` it is judged but decides nothing, and what it would deny is counted and
/// listed (N21). With `false`, or without the annotation, it is in force.
pub const DRY_RUN_ANNOTATION: &str = "podplane.io/dry-run";

/// Annotation on a policy: what happens to flows that were allowed before it came into force and that it denies (W09).
/// `cut`, as without the annotation: they end at their next packet. `keep`: they live on, unless another policy without
/// `keep` denies them too.
pub const ESTABLISHED_ANNOTATION: &str = "podplane.io/established";

/// Whether a policy decides nothing. Any value but `true` means that it is in force.
pub fn is_dry_run(metadata: &ObjectMeta) -> bool {
    value(metadata, DRY_RUN_ANNOTATION) == Some("true")
}

/// Whether a policy spares flows that were allowed before it. Any value but `keep` means that it does not.
pub fn keeps_established(metadata: &ObjectMeta) -> bool {
    value(metadata, ESTABLISHED_ANNOTATION) == Some("keep")
}

/// Tells whether rule `index` of `list` (`ingress` or `egress`) of a policy is closed.
pub(crate) fn closed_rules(metadata: &ObjectMeta) -> impl Fn(&str, usize) -> bool + use<> {
    let closed = closed(metadata);
    move |list, index| !closed.is_empty() && (closed.contains("*") || closed.contains(&format!("{list}[{index}]")))
}

/// Closes more rules.
pub(super) fn close<'a>(metadata: &mut ObjectMeta, rules: impl Iterator<Item = &'a str>) {
    let mut closed = closed(metadata);
    closed.extend(rules.map(str::to_owned));
    if closed.is_empty() {
        return;
    }
    let text = if closed.contains("*") { "*".into() } else { closed.into_iter().collect::<Vec<_>>().join(",") };
    metadata.annotations.get_or_insert_default().insert(CLOSED_ANNOTATION.into(), text);
}

/// Annotations whose value means nothing, with the reason and what holds instead.
pub(super) fn mistakes(metadata: &ObjectMeta) -> impl Iterator<Item = (&'static str, String)> {
    let dry_run = value(metadata, DRY_RUN_ANNOTATION).filter(|value| !matches!(*value, "true" | "false"));
    let dry_run = dry_run
        .map(|value| (DRY_RUN_ANNOTATION, format!("\"{value}\" is neither true nor false: the policy is in force")));
    let established = value(metadata, ESTABLISHED_ANNOTATION).filter(|value| !matches!(*value, "keep" | "cut"));
    let established = established.map(|value| {
        (ESTABLISHED_ANNOTATION, format!("\"{value}\" is neither keep nor cut: flows that the policy denies are cut"))
    });
    dry_run.into_iter().chain(established)
}

fn value<'a>(metadata: &'a ObjectMeta, annotation: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(annotation).map(String::as_str)
}

fn closed(metadata: &ObjectMeta) -> BTreeSet<String> {
    let text = value(metadata, CLOSED_ANNOTATION).unwrap_or_default();
    text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(str::to_owned).collect()
}
