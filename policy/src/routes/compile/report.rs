//! Who says something in an object, when it was created, and what is found wrong with it.

use crate::cluster::Key;
use crate::objects::{ObjectRef, Problem, Severity, Source, Sourced};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use std::cmp::Ordering;
use std::sync::Arc;

/// An object that routes come from.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// Where it was read.
    source: Source,
    /// Its kind.
    kind: &'static str,
    /// Its namespace and name.
    pub(super) key: Key,
    /// metadata.creationTimestamp.
    created: Option<Timestamp>,
}

impl Subject {
    /// `object`, with the metadata that it has.
    pub(super) fn new<T>(kind: &'static str, key: &Key, object: &Sourced<T>, metadata: &ObjectMeta) -> Arc<Subject> {
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        Arc::new(Subject { source: object.source.clone(), kind, key: key.clone(), created })
    }

    /// Its full name.
    pub(super) fn reference(&self) -> ObjectRef {
        ObjectRef::new(self.kind, &*self.key.0, &*self.key.1)
    }

    /// Why it comes before `other`, for people.
    pub(super) fn comes_before_because(&self, other: &Subject) -> &'static str {
        match (self.created, other.created) {
            (Some(own), Some(others)) if own < others => "it is older",
            (Some(_), None) => "it has a creationTimestamp",
            _ => "its name comes first",
        }
    }

    fn order(&self) -> impl Ord + '_ {
        (self.created.is_none(), self.created, &self.key, self.kind)
    }
}

/// The oldest first, those without a time last, then by namespace and name; then an HTTPRoute before an Ingress.
impl Ord for Subject {
    fn cmp(&self, other: &Subject) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Subject {
    fn partial_cmp(&self, other: &Subject) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Subject) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Subject {}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
}

impl Report {
    /// Something that is in order by itself and does not do what it seems to.
    pub(super) fn warn(&mut self, subject: &Subject, field: impl Into<String>, message: impl Into<String>) {
        self.add(subject, field, message, Severity::Warning);
    }

    /// A part of an object that is not understood: what it is about is answered with an error.
    pub(super) fn close(&mut self, subject: &Subject, field: impl Into<String>, message: impl Into<String>) {
        self.add(subject, field, message, Severity::Closed);
    }

    /// Something that no object says.
    pub(super) fn add_unplaced(&mut self, message: String) {
        let problem = Problem::unreadable("command line", message);
        self.problems.push(Problem { severity: Severity::Warning, ..problem });
    }

    fn add(&mut self, subject: &Subject, field: impl Into<String>, message: impl Into<String>, severity: Severity) {
        self.problems.push(Problem::of(&subject.source, subject.reference(), field, message, severity));
    }

    /// All of them, object by object.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by(|one, other| one.object.cmp(&other.object));
        self.problems
    }
}
