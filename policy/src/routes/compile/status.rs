//! Conditions of the Gateway API: what an object's status says of it, and why.
//!
//! A condition keeps its lastTransitionTime while what it says stays the same. Compiling knows no time, so a condition that says something
//! else than the object's status has none, which is 1970, until [`super::Statuses::stamp`] gives it one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

/// Stands for a time that is not known yet.
pub(super) const NO_TIME: Timestamp = Timestamp::UNIX_EPOCH;

/// Why a condition is not as one would like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Reason of the condition, a word of the API.
    pub(super) reason: &'static str,
    /// The same for people.
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Fault {
        Fault { reason, message: message.into() }
    }
}

/// The condition `kind` of an object of `generation`: true for `reason`, unless there is a fault.
pub(super) fn condition(kind: &str, reason: &'static str, fault: Option<&Fault>, generation: Option<i64>) -> Condition {
    let (status, reason, message) = match fault {
        None => ("True", reason, ""),
        Some(fault) => ("False", fault.reason, &*fault.message),
    };
    Condition {
        type_: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: Time(NO_TIME),
    }
}

/// A condition that is true because something is wrong.
pub(super) fn alarm(kind: &str, fault: &Fault, generation: Option<i64>) -> Condition {
    Condition { status: "True".into(), ..condition(kind, "", Some(fault), generation) }
}

/// The conditions `next` with the times of those in `before` that say the same, and with the conditions there that are of
/// kinds that are none of ours.
pub(super) fn merge(before: &[Condition], mut next: Vec<Condition>, ours: &[&str]) -> Vec<Condition> {
    for condition in &mut next {
        let same = before.iter().find(|other| other.type_ == condition.type_ && other.status == condition.status);
        if let Some(same) = same {
            condition.last_transition_time = same.last_transition_time.clone();
        }
    }
    let others = before.iter().filter(|condition| !ours.contains(&&*condition.type_));
    let others: Vec<Condition> = others.cloned().collect();
    next.extend(others);
    next
}

/// Gives `now` to the conditions that have no time.
pub(super) fn stamp<'a>(conditions: impl IntoIterator<Item = &'a mut Condition>, now: Timestamp) {
    for condition in conditions {
        if condition.last_transition_time.0 == NO_TIME {
            condition.last_transition_time = Time(now);
        }
    }
}
