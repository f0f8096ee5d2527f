//! Why policy allows or denies a flow, in words (W03, G02): what each tier decided and by which rule; of a denial the rule, or
//! where no rule accepts it every policy that isolates the pod, its nearest rule and the field in which that failed.
//!
//! In: one flow in one direction and the tables that judge it. Out: the verdict of the tables with its reasons. The objects in
//! the tables only give words: they are read as they were written, rule by rule, which is far too slow for traffic. Nearest is
//! the rule whose peers match and whose ports do not, then the one whose ports match and whose peers do not, then any other,
//! then a policy without rules; of equals the first.
//!
//! [`denial_text`] and [`would_deny_text`] are the sentences that every command says about a denial, so that what is found on a
//! running node can be looked up in what was predicted. Every list in a sentence is bounded.

mod nearest;
mod reading;
mod words;

use crate::tables::{
    Action, Direction, Owner, PolicyEntry, PolicyIndex, Question, RuleRef, Tables, Tier, VerdictReason,
};
use std::fmt;

pub use words::listed;

/// What policy says about one end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasoned {
    /// Whether the flow may open.
    pub allowed: bool,
    /// Whether NetworkPolicies in force select the pod in this direction.
    pub isolated: bool,
    /// The policies in force that select the pod in this direction, in order of evaluation: `NAMESPACE/NAME`, or `NAME` of a
    /// ClusterNetworkPolicy.
    pub policies: Vec<String>,
    /// The rule that decides, the nearest one that does not accept with the field that failed, or the exemption; `None` where
    /// nothing decides.
    pub rule: Option<String>,
    /// What each tier decided that has policies for the pod, in order of evaluation and up to the one that decided.
    pub tiers: Vec<TierReason>,
    /// Of a denial: why what might have accepted it does not, the nearest first. One sentence for each policy that isolates the
    /// pod, and for each rule before that by which a DNS name would have done; at most [`UNMATCHED_MAX`].
    pub unmatched: Vec<String>,
    /// What would be if the policies in dry run were in force; `None` where none of them selects the pod in this direction.
    pub dry_run: Option<Rehearsed>,
}

/// What a tier decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierReason {
    /// The tier.
    pub tier: Tier,
    /// Its decision.
    pub decision: Decision,
    /// The rule that decided; where none did (the tier decides nothing, or NetworkPolicies deny) the nearest one with the field
    /// that failed.
    pub rule: Option<String>,
}

/// What a tier may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The flow is allowed.
    Accept,
    /// It is denied.
    Deny,
    /// A rule leaves it to the next tier.
    Pass,
    /// No rule matches; the next tier is asked.
    None,
}

impl Decision {
    /// `accept`, `deny`, `pass` or `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Accept => "accept",
            Decision::Deny => "deny",
            Decision::Pass => "pass",
            Decision::None => "none",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Action> for Decision {
    fn from(action: Action) -> Decision {
        match action {
            Action::Accept => Decision::Accept,
            Action::Deny => Decision::Deny,
            Action::Pass => Decision::Pass,
        }
    }
}

/// What would be with the policies in dry run in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Whether the flow might open then.
    pub allowed: bool,
    /// By which rule, as [`Reasoned::rule`].
    pub rule: Option<String>,
}

/// Sentences of [`Reasoned::unmatched`]: more policies than that are nobody's to read.
pub const UNMATCHED_MAX: usize = 8;

/// Judges a flow as [`Tables::check`] does, and says why.
pub fn judge(tables: &Tables, question: &Question<'_>) -> Reasoned {
    let selecting = tables.selecting(question.direction, question.subject);
    let enforced: Vec<PolicyIndex> = selecting.iter().copied().filter(|index| !tables.policy(*index).dry_run).collect();
    let judged = Judged::of(tables, question, &enforced, false);
    let dry_run = tables.rehearse(question).map(|verdict| {
        let rule = Judged::of(tables, question, &selecting, true).rule;
        Rehearsed { allowed: verdict.allowed, rule }
    });
    Reasoned {
        allowed: judged.allowed,
        isolated: !tables.isolating(question.direction, question.subject).is_empty(),
        policies: enforced.iter().map(|index| tables.policy(*index).to_string()).collect(),
        rule: judged.rule,
        tiers: judged.tiers,
        unmatched: judged.unmatched,
        dry_run,
    }
}

/// The sentence about a flow that policy denies: by what and why. If policy allows it (other tables may have denied it) the
/// sentence says so.
pub fn denial_text(tables: &Tables, question: &Question<'_>) -> String {
    let pod = tables.pod(question.subject);
    judge(tables, question).denial(question.direction, &format!("{}/{}", pod.namespace, pod.name))
}

/// The sentence about a flow that policy allows and that the policies in dry run would deny; `None` if it is not one.
pub fn would_deny_text(tables: &Tables, question: &Question<'_>) -> Option<String> {
    let pod = tables.pod(question.subject);
    judge(tables, question).would_be_denial(question.direction, &format!("{}/{}", pod.namespace, pod.name))
}

impl Reasoned {
    /// As [`denial_text`], with `subject` for the name of the pod.
    pub fn denial(&self, direction: Direction, subject: &str) -> String {
        let whose = format!("{} policy of {subject}", list(direction));
        let rule = self.rule.as_deref();
        if self.allowed {
            return format!("{whose} allows it: {}", rule.unwrap_or("no policy says otherwise"));
        }
        let mut text = format!("{whose} denies it (dropped, not refused): {}", rule.unwrap_or("no rule accepts it"));
        match self.denied_by_rule() {
            // Only names that were not looked up can be among them.
            true => self.unmatched.iter().for_each(|why| text.push_str(&format!("; {why}"))),
            false => text.push_str(&self.others()),
        }
        text
    }

    /// As [`would_deny_text`], with `subject` for the name of the pod.
    pub fn would_be_denial(&self, direction: Direction, subject: &str) -> Option<String> {
        let rehearsed = self.dry_run.as_ref().filter(|rehearsed| self.allowed && !rehearsed.allowed)?;
        let rule = rehearsed.rule.as_deref().unwrap_or("no rule accepts it");
        Some(format!(
            "{} policy of {subject} would deny it with the dry-run policies in force: {rule}",
            list(direction)
        ))
    }

    /// Whether a rule denies it, other than none accepting it.
    fn denied_by_rule(&self) -> bool {
        let last = self.tiers.last();
        last.is_some_and(|last| last.decision == Decision::Deny && last.tier != Tier::NetworkPolicy)
    }

    /// The NetworkPolicies beside the one with the nearest rule.
    fn others(&self) -> String {
        let told = |policy: &&String| {
            let rest = self.rule.as_deref().and_then(|rule| rule.strip_prefix(policy.as_str()));
            policy.contains('/') && !rest.is_some_and(|rest| rest.starts_with(" spec."))
        };
        let others: Vec<String> = self.policies.iter().filter(told).cloned().collect();
        match others.len() {
            0 => String::new(),
            1 => format!("; nor does {} allow it", others[0]),
            _ => format!("; nor do {} allow it", listed(others)),
        }
    }
}

/// The field of a policy's rules: what Kubernetes calls the direction.
fn list(direction: Direction) -> &'static str {
    match direction {
        Direction::ToPod => "ingress",
        Direction::FromPod => "egress",
    }
}

/// A verdict with its reasons, by the policies in force or with those in dry run.
struct Judged {
    allowed: bool,
    rule: Option<String>,
    tiers: Vec<TierReason>,
    unmatched: Vec<String>,
}

impl Judged {
    /// `policies` are those that select the subject and count, in order of evaluation.
    fn of(tables: &Tables, question: &Question<'_>, policies: &[PolicyIndex], with_dry_run: bool) -> Judged {
        let flow = Flow { tables, question };
        let trace = tables.trace(question, with_dry_run);
        let verdict = trace.verdict;
        let mut unmatched = Vec::new();
        let rule = match verdict.reason {
            VerdictReason::NotIsolated => None,
            VerdictReason::Rule(rule) => Some(flow.rule_text(rule)),
            VerdictReason::Exempt if matches!(tables.owner(question.peer), Some(Owner::Pod(_))) => {
                Some("a pod always reaches itself".to_owned())
            }
            VerdictReason::Exempt => Some("a node always reaches its own pods".to_owned()),
            VerdictReason::Isolated => {
                let isolating: Vec<&PolicyEntry> = flow.of_tier(policies, Tier::NetworkPolicy).collect();
                let found = nearest::of_policies(&flow, &isolating);
                unmatched.extend(found.sentences);
                found.rule
            }
        };
        if !verdict.allowed {
            unmatched.extend(nearest::names_wanted(&flow, policies, &trace.tiers));
            let more = unmatched.len().saturating_sub(UNMATCHED_MAX);
            if more > 0 {
                unmatched.truncate(UNMATCHED_MAX - 1);
                unmatched.push(format!("and {} more", more + 1));
            }
        }
        let tiers = trace.tiers.iter().map(|step| match step.matched {
            Some((matched, action)) => {
                TierReason { tier: step.tier, decision: action.into(), rule: Some(flow.rule_text(matched)) }
            }
            None if step.tier == Tier::NetworkPolicy => {
                TierReason { tier: step.tier, decision: Decision::Deny, rule: rule.clone() }
            }
            None => {
                let policies: Vec<&PolicyEntry> = flow.of_tier(policies, step.tier).collect();
                TierReason {
                    tier: step.tier,
                    decision: Decision::None,
                    rule: nearest::of_policies(&flow, &policies).rule,
                }
            }
        });
        let tiers = tiers.collect();
        Judged { allowed: verdict.allowed, rule, tiers, unmatched }
    }
}

/// A flow at the end that is judged.
struct Flow<'a> {
    tables: &'a Tables,
    question: &'a Question<'a>,
}

impl<'a> Flow<'a> {
    /// Those of `policies` that are of `tier`.
    fn of_tier<'p>(&'p self, policies: &'p [PolicyIndex], tier: Tier) -> impl Iterator<Item = &'a PolicyEntry> + 'p {
        policies.iter().map(|index| self.tables.policy(*index)).filter(move |policy| policy.tier == tier)
    }

    /// A rule by its policy and place, and of a ClusterNetworkPolicy its name, tier and action.
    fn rule_text(&self, rule: RuleRef) -> String {
        let policy = self.tables.policy(rule.policy);
        let direction = self.question.direction;
        let place = place(policy, direction, rule.index as usize);
        let rules = reading::rules(policy, direction);
        match rules.get(rule.index as usize) {
            Some(read) if policy.tier != Tier::NetworkPolicy => format!("{place}{}", words::title(policy, read)),
            _ => place,
        }
    }
}

/// `NAMESPACE/NAME spec.ingress[0]`.
fn place(policy: &PolicyEntry, direction: Direction, index: usize) -> String {
    format!("{policy} spec.{}[{index}]", list(direction))
}

#[cfg(test)]
mod tests;
