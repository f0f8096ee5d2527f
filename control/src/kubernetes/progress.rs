//! How far one resource is: its state, what went wrong, and what was counted.

use super::NAME;
use super::resource::{Resource, Scope};
use super::store::Store;
use crate::api::KubernetesResource;
use crate::log::{Level, event};
use policy::objects::{Kind, Problem, Severity};
use std::time::{Duration, Instant};

/// What is followed by one task.
pub(super) type Slot = (Kind, Scope);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Listing,
    Watching,
    Failing,
    Absent,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Listing => "listing",
            State::Watching => "watching",
            State::Failing => "failing",
            State::Absent => "absent",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) lists: u64,
    pub(super) watches: u64,
    pub(super) events: u64,
    pub(super) bookmarks: u64,
    pub(super) unchanged: u64,
    pub(super) failures: u64,
    pub(super) not_understood: u64,
}

/// How far a resource is.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) resource: Resource,
    pub(super) state: State,
    since: Instant,
    pub(super) error: Option<String>,
    /// What about the stream itself made no sense, until a list has made up for it.
    pub(super) problem: Option<Problem>,
    /// Whether the first list, or its absence, is known.
    pub(super) is_settled: bool,
    pub(super) version: String,
    pub(super) counts: Counts,
}

impl Progress {
    pub(super) fn new(resource: Resource) -> Progress {
        Progress {
            resource,
            state: State::Waiting,
            since: Instant::now(),
            error: None,
            problem: None,
            is_settled: false,
            version: String::new(),
            counts: Counts::default(),
        }
    }

    pub(super) fn set_state(&mut self, state: State) {
        if self.state != state {
            (self.state, self.since) = (state, Instant::now());
        }
    }

    pub(super) fn told(&self, (kind, scope): &Slot, store: &Store) -> KubernetesResource {
        KubernetesResource {
            resource: name(&self.resource, scope),
            group: self.resource.group.to_owned(),
            state: self.state.as_str().to_owned(),
            since_ms: millis(self.since.elapsed()),
            error: self.error.clone(),
            objects: match key_of(scope) {
                Some(key) => usize::from(store.has(*kind, &key)),
                None => store.count(*kind),
            },
            resource_version: self.version.clone(),
            lists: self.counts.lists,
            watches: self.counts.watches,
            events: self.counts.events,
            bookmarks: self.counts.bookmarks,
            unchanged: self.counts.unchanged,
            failures: self.counts.failures,
            not_understood: self.counts.not_understood,
        }
    }

    /// Notes that something made no sense.
    pub(super) fn tell(&mut self, slot: &Slot, what: &str) {
        self.counts.not_understood += 1;
        let resource = name(&self.resource, &slot.1);
        event(Level::Warn, "Kubernetes API: not understood", &[("resource", &resource), ("what", &what)]);
        let message = format!("{resource}: {what}");
        self.problem = Some(Problem { severity: Severity::Warning, ..Problem::unreadable(NAME, message) });
    }
}

/// What a resource is called in messages.
pub(super) fn name(resource: &Resource, scope: &Scope) -> String {
    match key_of(scope) {
        Some(key) => format!("{} {key}", resource.plural),
        None => resource.plural.to_owned(),
    }
}

pub(super) fn key_of(scope: &Scope) -> Option<String> {
    match scope {
        Scope::All => None,
        Scope::One { namespace, name } => Some(format!("{namespace}/{name}")),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
