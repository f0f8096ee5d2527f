//! Annotations of policies: dry run, and misspelt names that do nothing.

use super::policies::PolicyView;
use super::{Check, Finding};
use crate::objects::{CLOSED_ANNOTATION, DRY_RUN_ANNOTATION, ESTABLISHED_ANNOTATION};

/// What a policy may have. Whoever writes another name under the same domain means one of these.
const KNOWN: [&str; 3] = [DRY_RUN_ANNOTATION, ESTABLISHED_ANNOTATION, CLOSED_ANNOTATION];

pub(super) fn check(policy: &PolicyView<'_>, findings: &mut Vec<Finding>) {
    let field = |key: &str| format!("metadata.annotations[{key}]");
    if policy.is_dry_run {
        let message = "decides nothing: what it would deny is only counted; remove the annotation to enforce it";
        findings.push(policy.finding(Check::DryRun, field(DRY_RUN_ANNOTATION), message));
    }
    let Some(annotations) = &policy.metadata.annotations else { return };
    for key in annotations.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
        let meant = KNOWN.into_iter().find(|known| plain(part(known)) == plain(part(key)));
        let is_ours = key.split_once('/').is_some_and(|(domain, _)| domain == "podplane.io");
        let says_so = key.split_once('/').is_none_or(|(domain, _)| domain.contains("podplane"));
        let message = match meant {
            Some(known) if says_so || is_ours => format!("does nothing: write {known}"),
            _ if is_ours => {
                format!("does nothing: policies have {DRY_RUN_ANNOTATION} and {ESTABLISHED_ANNOTATION}; remove it")
            }
            _ => continue,
        };
        findings.push(policy.finding(Check::UnknownAnnotation, field(key), message));
    }
}

/// What stands behind the domain.
fn part(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

/// Letters and digits alone, in lower case.
fn plain(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|character| character.to_ascii_lowercase()).collect()
}
