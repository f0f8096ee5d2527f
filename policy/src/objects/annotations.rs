//! Annotations that decide how a NetworkPolicy or ClusterNetworkPolicy is applied. A value that means nothing is reported and
//! the strict meaning holds: the policy is in force, and at once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

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

/// Annotations whose value means nothing, each with what is wrong and what holds.
pub(super) fn mistakes(metadata: &ObjectMeta) -> impl Iterator<Item = (&'static str, String)> {
    let dry_run = value(metadata, DRY_RUN_ANNOTATION).filter(|value| !matches!(*value, "true" | "false"));
    let dry_run = dry_run.map(|value| format!("\"{value}\" is neither true nor false: the policy is in force"));
    let established = value(metadata, ESTABLISHED_ANNOTATION).filter(|value| !matches!(*value, "keep" | "cut"));
    let established =
        established.map(|value| format!("\"{value}\" is neither keep nor cut: flows that the policy denies are cut"));
    let dry_run = dry_run.map(|message| (DRY_RUN_ANNOTATION, message));
    dry_run.into_iter().chain(established.map(|message| (ESTABLISHED_ANNOTATION, message)))
}

fn value<'a>(metadata: &'a ObjectMeta, annotation: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(annotation).map(String::as_str)
}
