//! The objects that the API server has, as far as a source must know them: what has come and is not taken, and of each object
//! what tells another form from the same one.
//!
//! In: objects as JSON values, by resource. Out: changes of definitions (one "file" for each object), the problems of all,
//! and lines for the cache on disk. An object whose used part is the same as before is no change: most of what a cluster
//! writes, such as heartbeats of nodes and conditions of pods, ends here.
//!
//! A refused object leaves its last good form in force, as in a cluster directory. Of two pods with one address the younger
//! one has it: the other is on a node that does not answer.

use super::NAME;
use super::prune::prune;
use crate::hash::fnv1a;
use crate::source::Digest;
use policy::cluster::{Definition, FileChange};
use policy::objects::{Kind, Parsed, Problem, Severity, Source, read_value};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Objects of all kinds. Several times a cluster at the limits that Kubernetes states (150,000 pods).
const OBJECTS_MAX: usize = 500_000;

/// Problems that are told; a thing that is wrong with every object need not be told of each.
const PROBLEMS_MAX: usize = 1000;

/// What came of an object that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is there, or is another one than before.
    Changed,
    /// Nothing of it that is used is other than before.
    Same,
    /// It is refused; what is wrong is among the problems.
    Refused,
    /// It has no name, so nothing can be said about it.
    Nameless,
    /// It says that it is of another kind.
    Stranger,
    /// There is no room for more objects.
    NoRoom,
}

/// What is known of an object beside its definition, which whoever takes the changes has.
#[derive(Debug)]
struct Held {
    /// Under what name the definition is handed out; the order of these decides who came first.
    file: Arc<str>,
    /// Of the used part.
    digest: u128,
    /// Number of the list in which it was seen last; events count as the list before them.
    seen: u64,
    /// Whether a good form of it was handed out, or waits to be.
    is_defined: bool,
}

/// Kind, and `NAMESPACE/NAME` or `NAME`.
pub(super) type Name = (Kind, Box<str>);

/// A change for the cache on disk: an object's text, or that it is gone.
pub(super) type Line = (Name, Option<String>);

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    held: BTreeMap<Kind, HashMap<Box<str>, Held>>,
    count: usize,
    lists: u64,
    /// Changes that were not taken, the last one of each object.
    pending: BTreeMap<Arc<str>, FileChange>,
    /// When the first of them came.
    began: Option<Instant>,
    problems: BTreeMap<Name, Vec<Problem>>,
    problems_changed: bool,
    digest: Digest,
    /// What the cache has not got; `None` if there is no cache.
    lines: Option<BTreeMap<Name, Option<String>>>,
    source: Source,
}

impl Store {
    /// No objects; `is_cached` says whether somebody takes [`Store::take_lines`].
    pub(super) fn new(is_cached: bool) -> Store {
        Store {
            held: BTreeMap::new(),
            count: 0,
            lists: 0,
            pending: BTreeMap::new(),
            began: None,
            problems: BTreeMap::new(),
            problems_changed: false,
            digest: Digest::default(),
            lines: is_cached.then(BTreeMap::new),
            source: Source { file: NAME.into(), document: 0 },
        }
    }

    /// Objects of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.held.get(&kind).map_or(0, HashMap::len)
    }

    /// Whether there is an object of this kind and `NAMESPACE/NAME`.
    pub(super) fn has(&self, kind: Kind, key: &str) -> bool {
        self.held.get(&kind).is_some_and(|held| held.contains_key(key))
    }

    /// Begins a list; gives its number for [`Store::end_list`].
    pub(super) fn begin_list(&mut self) -> u64 {
        self.lists += 1;
        self.lists
    }

    /// Takes an object over. `value` may lack kind and apiVersion, as in lists: then it is of `kind`.
    pub(super) fn put(&mut self, kind: Kind, value: Value) -> Outcome {
        let Some(key) = key_of(kind, &value) else { return Outcome::Nameless };
        let Value::Object(mut fields) = value else { return Outcome::Nameless };
        if fields.entry("kind").or_insert_with(|| kind.as_str().into()) != kind.as_str() {
            return Outcome::Stranger;
        }
        fields.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        prune(kind, &mut fields);
        let value = Value::Object(fields);
        let text = value.to_string();
        let digest = fnv1a(&[&text]);
        let seen = self.lists;
        let is_known = self.held.get(&kind).and_then(|held| held.get(&key)).is_some();
        if !is_known && self.count == OBJECTS_MAX {
            return Outcome::NoRoom;
        }
        let held = self.held.entry(kind).or_default();
        if let Some(known) = held.get_mut(&key) {
            known.seen = seen;
            if known.digest == digest {
                return Outcome::Same;
            }
        }
        let file = file_of(kind, &key, &value);
        let Parsed { mut objects, mut problems } = read_value(&self.source, value);
        let known = held.remove(&key);
        self.count += usize::from(known.is_none());
        let was_defined = known.as_ref().is_some_and(|known| known.is_defined);
        let definition = objects.pop().map(|sourced| Definition::new(&sourced));
        if definition.is_none() {
            note_refusal(&mut problems, was_defined);
        }
        let file = match (&known, definition.is_some()) {
            // What is in force keeps its place.
            (Some(known), false) => known.file.clone(),
            (Some(known), true) if *known.file == *file => known.file.clone(),
            _ => Arc::from(file),
        };
        if let Some(known) = &known {
            self.digest = self.digest.without(known.digest);
            if known.file != file && was_defined {
                self.pending.insert(known.file.clone(), FileChange { file: known.file.clone(), objects: Vec::new() });
            }
        }
        self.digest = self.digest.with(digest);
        let is_defined = was_defined || definition.is_some();
        let outcome = if definition.is_some() { Outcome::Changed } else { Outcome::Refused };
        held.insert(key.clone(), Held { file: file.clone(), digest, seen, is_defined });
        if let Some(definition) = definition {
            self.pending.insert(file.clone(), FileChange { file, objects: vec![definition] });
            self.began.get_or_insert_with(Instant::now);
            if let Some(lines) = &mut self.lines {
                lines.insert((kind, key.clone()), Some(text));
            }
        }
        self.note_problems(kind, key, problems);
        outcome
    }

    /// Takes an object away by its `NAMESPACE/NAME`, or `NAME`; whether it was there.
    pub(super) fn remove_key(&mut self, kind: Kind, key: &str) -> bool {
        let Some(held) = self.held.get_mut(&kind).and_then(|held| held.remove(key)) else { return false };
        self.count -= 1;
        self.digest = self.digest.without(held.digest);
        let change = FileChange { file: held.file.clone(), objects: Vec::new() };
        self.pending.insert(held.file, change);
        self.began.get_or_insert_with(Instant::now);
        if let Some(lines) = &mut self.lines {
            lines.insert((kind, key.into()), None);
        }
        self.note_problems(kind, key.into(), Vec::new());
        true
    }

    /// Ends the list `number`: what it did not show is gone, of all objects of `kind` or of one key. Gives what is gone.
    pub(super) fn end_list(&mut self, kind: Kind, only: Option<&str>, number: u64) -> Vec<Box<str>> {
        let held = self.held.get(&kind).into_iter().flatten();
        let gone = held.filter(|(key, held)| held.seen < number && only.is_none_or(|only| only == &***key));
        let gone: Vec<Box<str>> = gone.map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.remove_key(kind, key);
        }
        gone
    }

    /// Whether there is something to be taken.
    pub(super) fn has_news(&self) -> bool {
        !self.pending.is_empty() || self.problems_changed
    }

    /// Changes that wait to be taken.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes the changes, with the time at which the first one came and the digest of all objects.
    pub(super) fn take(&mut self) -> (Vec<FileChange>, Instant, Digest) {
        self.problems_changed = false;
        let files = std::mem::take(&mut self.pending).into_values().collect();
        (files, self.began.take().unwrap_or_else(Instant::now), self.digest)
    }

    /// What is wrong with objects, in the order of their names.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.problems.values().flatten().take(PROBLEMS_MAX + 1).cloned().collect();
        if problems.len() > PROBLEMS_MAX {
            problems.truncate(PROBLEMS_MAX);
            let message = format!("there are more than {PROBLEMS_MAX} problems: the others are not told");
            problems.push(Problem { severity: Severity::Warning, ..Problem::unreadable(NAME, message) });
        }
        problems
    }

    /// Gives back lines that could not be written, where nothing newer is known.
    pub(super) fn give_back(&mut self, unwritten: Vec<Line>) {
        if let Some(lines) = &mut self.lines {
            for (name, text) in unwritten {
                lines.entry(name).or_insert(text);
            }
        }
    }

    /// What the cache has not got so far; nothing if there is none.
    pub(super) fn take_lines(&mut self) -> Vec<Line> {
        self.lines.as_mut().map(|lines| std::mem::take(lines).into_iter().collect()).unwrap_or_default()
    }

    fn note_problems(&mut self, kind: Kind, key: Box<str>, problems: Vec<Problem>) {
        let name = (kind, key);
        if problems.is_empty() {
            self.problems_changed |= self.problems.remove(&name).is_some();
        } else if self.problems.get(&name) != Some(&problems) {
            self.problems.insert(name, problems);
            self.problems_changed = true;
        }
    }
}

/// `NAMESPACE/NAME`, or `NAME` for kinds that have no namespace.
pub(super) fn key_of(kind: Kind, object: &Value) -> Option<Box<str>> {
    let metadata = object.get("metadata")?;
    let name = metadata.get("name")?.as_str().filter(|name| !name.is_empty())?;
    if !kind.is_namespaced() {
        return Some(name.into());
    }
    let namespace = metadata.get("namespace").and_then(Value::as_str).filter(|namespace| !namespace.is_empty());
    Some(format!("{}/{name}", namespace.unwrap_or("default")).into())
}

/// The name under which an object's definition is handed out.
fn file_of(kind: Kind, key: &str, object: &Value) -> String {
    if kind != Kind::Pod {
        return format!("{kind} {key}");
    }
    let created = object["metadata"]["creationTimestamp"].as_str();
    let created: Option<jiff::Timestamp> = created.and_then(|text| text.parse().ok());
    let age_order = u64::MAX - created.map_or(0, |created| created.as_second().max(0) as u64);
    format!("{kind} {age_order:016x} {key}")
}

/// Says of a refused object what holds in its place.
fn note_refusal(problems: &mut [Problem], was_defined: bool) {
    let refusals = problems.iter_mut().filter(|problem| problem.severity == Severity::Refused);
    for problem in refusals {
        match was_defined {
            true => problem.message.push_str("; its last good form stays in force"),
            false => problem.note_absence(),
        }
    }
}

#[cfg(test)]
mod tests;
