//! Closed rules: what becomes of a policy that is not understood in full (N16).
//!
//! A rule that holds an unknown field, or one that its action does not have, may mean less or more than what is left of it
//! says, so it gets the strictest meaning: it lets nothing through. Which rules are closed is noted in the object itself.

use super::cluster_network_policy::{Action, ClusterNetworkPolicy};
use super::object::Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;

/// Annotation on a policy that lists its closed rules, such as `ingress[0],egress[2]`, or `*` for all of them. In a
/// NetworkPolicy, and where the action is Accept, a closed rule matches nothing; where the action is Deny or Pass it denies
/// everything. It is an annotation so that it survives when the object is written to a cluster directory.
pub const CLOSED_ANNOTATION: &str = "podplane.io/closed-rules";

/// Tells whether rule `index` of `list` (`ingress` or `egress`) of a policy is closed.
pub(crate) fn closed_rules(metadata: &ObjectMeta) -> impl Fn(&str, usize) -> bool + use<> {
    let closed = noted(metadata);
    move |list, index| !closed.is_empty() && is_noted(&closed, &format!("{list}[{index}]"))
}

/// Closes the rules of `object` that `unknown` fields stand in, and those with fields that their action does not have. Gives
/// the paths of these fields, each with what comes of it; nothing if the object is no policy.
pub(super) fn close(object: &mut Object, unknown: &[String]) -> Vec<(String, String)> {
    let mut closed = match object {
        Object::NetworkPolicy(_) | Object::ClusterNetworkPolicy(_) => noted(object.metadata()),
        _ => return Vec::new(),
    };
    let mut reasons = Vec::new();
    if let Object::ClusterNetworkPolicy(policy) = object {
        // What an earlier reader has closed, it has reported.
        let open = misplaced_names(policy).filter(|(path, _)| !is_noted(&closed, rule_of(path).unwrap_or("*")));
        reasons.extend(open.map(|(path, action)| (path, format!("not supported in a rule with action {action}"))));
    }
    reasons.extend(unknown.iter().map(|path| (path.clone(), "unknown field".to_owned())));
    let reasons = reasons.into_iter().filter_map(|(path, reason)| {
        let rule = rule_of(&path)?;
        closed.insert(rule.to_owned());
        let effect = effect(object, rule);
        Some((path, format!("{reason}: {effect}")))
    });
    let reasons = reasons.collect();
    if !closed.is_empty() {
        let text = if closed.contains("*") { "*".into() } else { closed.into_iter().collect::<Vec<_>>().join(",") };
        object.metadata_mut().annotations.get_or_insert_default().insert(CLOSED_ANNOTATION.into(), text);
    }
    reasons
}

/// The rule that a field at `path` of a policy belongs to: `ingress[0]`, or `*` when it stands outside the rules. `None`
/// outside the spec.
fn rule_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("spec.")?;
    let is_rule = rest.starts_with("ingress[") || rest.starts_with("egress[");
    Some(rest.find(']').filter(|_| is_rule).map_or("*", |end| &rest[..=end]))
}

/// What a closed rule does.
fn effect(object: &Object, rule: &str) -> String {
    let Object::ClusterNetworkPolicy(policy) = object else {
        return match rule {
            "*" => "no rule of this policy matches anything".into(),
            rule => format!("spec.{rule} matches nothing"),
        };
    };
    if rule == "*" {
        return "no Accept rule of this policy matches anything, its Deny and Pass rules deny everything".into();
    }
    let action = policy.spec.actions().find(|(place, _)| place == rule).map(|(_, action)| action);
    match action {
        Some(Action::Deny | Action::Pass) => format!("spec.{rule} denies everything"),
        Some(Action::Accept) | None => format!("spec.{rule} matches nothing"),
    }
}

/// Peers by DNS name in rules that do not accept. A name's addresses are known only once it was asked for, so denying by name
/// would deny too little; the API knows names in Accept rules alone.
fn misplaced_names(policy: &ClusterNetworkPolicy) -> impl Iterator<Item = (String, Action)> {
    let rules = policy.spec.egress.iter().flatten().enumerate().filter(|(_, rule)| rule.action != Action::Accept);
    rules.flat_map(|(index, rule)| {
        let named = rule.to.iter().enumerate().filter(|(_, peer)| peer.domain_names.is_some());
        named.map(move |(peer, _)| (format!("spec.egress[{index}].to[{peer}].domainNames"), rule.action))
    })
}

fn is_noted(closed: &BTreeSet<String>, rule: &str) -> bool {
    closed.contains("*") || closed.contains(rule)
}

fn noted(metadata: &ObjectMeta) -> BTreeSet<String> {
    let annotation = metadata.annotations.as_ref().and_then(|all| all.get(CLOSED_ANNOTATION));
    let rules = annotation.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    rules.filter(|rule| !rule.is_empty()).map(str::to_owned).collect()
}
