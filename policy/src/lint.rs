//! What looks wrong in policies although it is valid: policies and rules without effect, and effects that nobody can want.
//!
//! In: a cluster's objects, completed. Out: findings, each with what to do. Judged is what the compiled tables say, on the
//! pieces between all borders that rules draw and the groups of pods that no rule tells apart, so a finding holds for every
//! pod and port; and it holds for these pods, not for others that may come. To see what one rule or one peer matches by
//! itself, it is compiled alone for a pod that only it selects ([`stand_ins`]). Policies in dry run are judged as if they were
//! in force, because that is what is to be known before they are.
//!
//! Where no pod plays the cluster's DNS, one is assumed: it is seldom in the manifests that are looked at.

mod annotations;
mod atoms;
mod coverage;
mod dns;
mod peers;
mod policies;
mod stand_ins;

use crate::cluster::Cluster;
use crate::compile::compile;
use crate::diff::survey::Survey;
use crate::objects::{DRY_RUN_ANNOTATION, Object, Sourced};
use crate::workloads::Workloads;
use atoms::Atoms;
use policies::{Policies, PolicyView};
use serde::Serialize;
use stand_ins::StandIns;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It does not do what it says.
    Warning,
    /// It does what it says, and somebody should know.
    Note,
}

macro_rules! checks {
    ($($check:ident, $id:literal, $level:ident, $doc:literal;)*) => {
        /// What is looked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Check {
            $(#[doc = $doc] $check,)*
        }

        impl Check {
            /// All of them.
            pub const ALL: &[Check] = &[$(Check::$check,)*];

            /// Its name on command lines and in JSON.
            pub fn id(self) -> &'static str {
                match self { $(Check::$check => $id,)* }
            }

            /// How much it matters.
            pub fn level(self) -> Level {
                match self { $(Check::$check => Level::$level,)* }
            }

            /// What it finds, in one sentence.
            pub fn description(self) -> &'static str {
                match self { $(Check::$check => $doc,)* }
            }
        }
    };
}

checks! {
    SelectsNothing, "selects-nothing", Warning, "A policy that selects no pod.";
    PeerMatchesNothing, "peer-matches-nothing", Warning, "A peer of a rule that matches no pod or node.";
    RuleCovered, "rule-covered", Note, "A rule that changes nothing, because another one does all that it does.";
    RuleShadowed, "rule-shadowed", Warning, "A rule that never decides, because an earlier one decides otherwise.";
    EqualPriority, "equal-priority", Warning, "ClusterNetworkPolicies of one tier and priority that contradict each other.";
    NamedPortNowhere, "named-port-nowhere", Warning, "A port name that no pod concerned has.";
    EgressWithoutDns, "egress-without-dns", Warning, "Pods that may connect somewhere but may not ask any DNS server.";
    IpBlockOnlyPods, "ip-block-only-pods", Note, "An address block within the pods' own ranges.";
    IpBlockEmpty, "ip-block-empty", Warning, "An address block of which the exceptions leave nothing.";
    DryRun, "dry-run", Note, "A policy that decides nothing because it is in dry run.";
    UnknownAnnotation, "unknown-annotation", Warning, "An annotation on a policy that looks like one of podplane's and is none.";
}

impl Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// One thing that looks wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub id: Check,
    /// How much it matters.
    pub severity: Level,
    /// Where the policy was read.
    pub file: String,
    /// NetworkPolicy or ClusterNetworkPolicy.
    pub kind: &'static str,
    /// Its namespace, empty for kinds without one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The field, such as `spec.ingress[0].from[1]`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Looks at all policies among `objects`, which are complete: nodes, and pods with addresses.
pub fn lint(objects: &[Sourced<Object>]) -> Vec<Finding> {
    let workloads = Workloads::of(objects);
    let mut judged: Vec<Sourced<Object>> = objects.iter().map(in_force).collect();
    judged.extend(dns::assumed(objects));
    let (cluster, _) = Cluster::from_objects(judged.iter().cloned());
    let (tables, _) = compile(&cluster, 1);
    let survey = Survey::of(&tables, &workloads);
    let atoms = Atoms::of(&survey);
    let policies = Policies::of(&cluster, objects, &survey);
    let alone = StandIns::new(&judged, &policies, &survey, &atoms);
    let mut findings = Vec::new();
    for policy in &policies.all {
        annotations::check(policy, &mut findings);
        if policy.selected.is_empty() {
            findings.push(policy.finding(
                Check::SelectsNothing,
                policy.subject_field(),
                policy.selects_nothing(&survey),
            ));
        }
    }
    peers::check(&policies, &alone, &survey, &atoms, &mut findings);
    coverage::check(&policies, &alone, &mut findings);
    dns::check(&policies, &survey, &atoms, &mut findings);
    findings.sort_by(|a, b| {
        (&a.file, &a.namespace, &a.name, &a.field, a.id).cmp(&(&b.file, &b.namespace, &b.name, &b.field, b.id))
    });
    findings
}

/// The object with what it says in force.
fn in_force(sourced: &Sourced<Object>) -> Sourced<Object> {
    let mut sourced = sourced.clone();
    if matches!(sourced.object, Object::NetworkPolicy(_) | Object::ClusterNetworkPolicy(_))
        && let Some(annotations) = &mut sourced.object.metadata_mut().annotations
    {
        annotations.remove(DRY_RUN_ANNOTATION);
    }
    sourced
}

impl PolicyView<'_> {
    fn finding(&self, check: Check, field: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding {
            id: check,
            severity: check.level(),
            file: self.source.file.to_string(),
            kind: self.kind.as_str(),
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
            field: field.into(),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests;
