//! `podplane policies`: what policies decided on a node, as text for people. One row per rule, and one for the default deny of a
//! NetworkPolicy.

use super::tables::{cells, columns};
use control::api::Policy;

/// The text.
pub(super) fn policies(policies: &[Policy]) -> String {
    if policies.is_empty() {
        return "there are no policies\n".to_owned();
    }
    let mut rows = vec![cells([
        "TIER",
        "PRIORITY",
        "POLICY",
        "MODE",
        "PODS",
        "RULE",
        "ACTION",
        "ACCEPTED",
        "DENIED",
        "WOULD DENY",
    ])];
    for policy in policies {
        let row = |rule: String, action: &str, counts: [Option<u64>; 3]| {
            let mut row = vec![
                policy.tier.clone(),
                policy.priority.map_or_else(dash, |priority| priority.to_string()),
                name(policy),
                mode(policy),
                policy.pods.to_string(),
                rule,
                action.to_owned(),
            ];
            row.extend(counts.map(|count| count.map_or_else(dash, |count| count.to_string())));
            row
        };
        for rule in &policy.rules {
            let name = if rule.name.is_empty() { String::new() } else { format!(" {:?}", rule.name) };
            let counts = [rule.accepted, rule.denied, rule.would_deny].map(Some);
            rows.push(row(format!("{}[{}]{name}", rule.direction, rule.index), &rule.action, counts));
        }
        if policy.kind == "NetworkPolicy" {
            let counts = [None, Some(policy.default_denied), Some(policy.default_would_deny)];
            rows.push(row("(no rule accepts)".to_owned(), "Deny", counts));
        } else if policy.rules.is_empty() {
            rows.push(row("(no rules)".to_owned(), "-", [None; 3]));
        }
    }
    columns(&rows, &[1, 4, 7, 8, 9])
}

fn name(policy: &Policy) -> String {
    if policy.namespace.is_empty() { policy.name.clone() } else { format!("{}/{}", policy.namespace, policy.name) }
}

/// What is not the default.
fn mode(policy: &Policy) -> String {
    match (policy.dry_run, policy.established.as_str()) {
        (true, _) => "dry run".to_owned(),
        (false, "cut") => "in force".to_owned(),
        (false, established) => format!("in force, {established}s established"),
    }
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::PolicyRule;

    #[test]
    fn each_rule_has_a_row_and_a_network_policy_one_more_for_its_default_deny() {
        let rule = |direction: &str, name: &str, action: &str, accepted| PolicyRule {
            direction: direction.to_owned(),
            index: 0,
            name: name.to_owned(),
            action: action.to_owned(),
            accepted,
            denied: 1,
            would_deny: 2,
        };
        let cluster = Policy {
            kind: "ClusterNetworkPolicy".to_owned(),
            namespace: String::new(),
            name: "guard".to_owned(),
            tier: "Admin".to_owned(),
            priority: Some(10),
            dry_run: true,
            established: "cut".to_owned(),
            pods: 3,
            default_denied: 0,
            default_would_deny: 0,
            rules: vec![rule("egress", "no metadata", "Deny", 0)],
        };
        let network = Policy {
            kind: "NetworkPolicy".to_owned(),
            namespace: "shop".to_owned(),
            name: "db".to_owned(),
            tier: "NetworkPolicy".to_owned(),
            priority: None,
            dry_run: false,
            established: "keep".to_owned(),
            default_denied: 7,
            rules: vec![rule("ingress", "", "Accept", 12)],
            ..cluster.clone()
        };
        let text = policies(&[cluster, network]);
        let lines: Vec<&str> = text.lines().map(|line| line.trim_end()).collect();
        assert_eq!(
            lines,
            [
                "TIER           PRIORITY  POLICY   MODE                         PODS  RULE                     ACTION  ACCEPTED  DENIED  WOULD DENY",
                "Admin                10  guard    dry run                         3  egress[0] \"no metadata\"  Deny           0       1           2",
                "NetworkPolicy         -  shop/db  in force, keeps established     3  ingress[0]               Accept        12       1           2",
                "NetworkPolicy         -  shop/db  in force, keeps established     3  (no rule accepts)        Deny           -       7           0",
            ]
        );
        assert_eq!(policies(&[]), "there are no policies\n");
    }
}
