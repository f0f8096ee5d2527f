//! All definitions of objects, file by file, and the cluster that they make.
//!
//! Files come in any order and change in any order; the cluster and the problems are always those of the files as they
//! are. The order that decides who came first is that of the files' names, and in a file that of its objects.
//!
//! How a change goes: the definitions of its file are replaced; names whose first definition is another one now are
//! *touched*; their claims and the claims on the same addresses are judged again, first things first, each judgement that
//! comes out otherwise calling for those that depend on it; what is in force otherwise than before is put into the cluster
//! and named in the [`Delta`]. Nothing here walks the cluster.
//!
//! Pods that are attached to this node are what their definition says with what the node knows laid over it ([`Attachment`]); one that
//! nobody defines is defined by the attachment, after all files.

use super::claims::{Claims, Refusal, Wish, rank};
use super::{Attachment, Cluster, Item, Key, Pod};
use crate::objects::{Kind, Object, ObjectRef, Problem, Severity, Source, Sourced};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a file holds from now on.
#[derive(Clone, Debug)]
pub struct FileChange {
    /// Its name.
    pub file: Arc<str>,
    /// Its objects in order; none for a file that is gone.
    pub objects: Vec<Definition>,
}

/// One object of a changed file, in the form in which a cluster keeps it.
#[derive(Clone, Debug)]
pub struct Definition {
    name: Name,
    /// `None`: as the file defined it before.
    written: Option<(Source, Item)>,
}

impl Definition {
    /// An object as it is written there.
    pub fn new(sourced: &Sourced<Object>) -> Definition {
        let written = Some((sourced.source.clone(), Item::of(&sourced.object)));
        Definition { name: Name::of(&sourced.object), written }
    }

    /// The object as the file defined it before this change, if it did: its last good form. `None` for a kind that podplane
    /// does not know.
    pub fn kept(reference: &ObjectRef) -> Option<Definition> {
        let key = (reference.namespace.as_str().into(), reference.name.as_str().into());
        Some(Definition { name: Name { kind: Kind::find(&reference.kind)?, key }, written: None })
    }

    /// The object's kind, namespace and name.
    pub fn reference(&self) -> ObjectRef {
        self.name.reference()
    }
}

/// What is in force otherwise than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    changed: BTreeSet<(Kind, Key)>,
    /// Services that are other objects than before or have other EndpointSlices.
    pub services: BTreeSet<Key>,
}

impl Delta {
    /// The objects of `kind` that came, went or changed.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Key> {
        // The empty strings come before all names.
        let first = (kind, (Arc::from(""), Arc::from("")));
        self.changed.range(first..).take_while(move |(other, _)| *other == kind).map(|(_, key)| key)
    }

    /// Whether an object of `kind` came, went or changed.
    pub fn touches(&self, kind: Kind) -> bool {
        self.of(kind).next().is_some()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}

/// An object's kind and name, stored once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) kind: Kind,
    pub(super) key: Key,
}

pub(super) type Id = Arc<Name>;

impl Name {
    fn of(object: &Object) -> Name {
        let metadata = object.metadata();
        let text = |text: &Option<String>| Arc::from(text.as_deref().unwrap_or_default());
        Name { kind: object.kind(), key: (text(&metadata.namespace), text(&metadata.name)) }
    }

    pub(super) fn reference(&self) -> ObjectRef {
        ObjectRef::new(self.kind.as_str(), &*self.key.0, &*self.key.1)
    }
}

/// One definition of a name.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    /// The file whose order counts; also that of `source`, unless many files were given as one.
    file: Arc<str>,
    /// Position among the objects of the file: those of one list share a document.
    position: u32,
    source: Source,
    item: Item,
    /// `item` as it is written there, where an attachment changes it.
    original: Option<Item>,
}

impl Written {
    fn is_stand_in(&self) -> bool {
        *self.file == *STAND_IN_FILE
    }
}

/// Where pods are defined that no file defines; comes after the names of all files.
const STAND_IN_FILE: &str = "\u{10ffff}";

/// The same for people.
const STAND_IN_SOURCE: &str = "what is attached to this node";

/// All definitions of a name, in order of file and position; the first one counts.
#[derive(Debug, Default)]
struct Defined {
    written: Vec<Written>,
    /// Why the first one is not in force.
    refusal: Option<Refusal>,
}

impl Defined {
    fn insert(&mut self, written: Written) {
        let after = |other: &Written| (&other.file, other.position) < (&written.file, written.position);
        let position = self.written.partition_point(after);
        self.written.insert(position, written);
    }
}

/// Order in which claims are judged: rank of the kind, file, position.
type Turn = (u8, Arc<str>, u32);

/// Names of which a change may have changed the first definition, with that before the change.
type Touched = BTreeMap<Id, Option<Written>>;

/// The definitions of all files. [`Definitions::apply`] is the only way to change them.
#[derive(Debug, Default)]
pub struct Definitions {
    /// Names that each file defines, as often as it does.
    files: BTreeMap<Arc<str>, Vec<Id>>,
    defined: HashMap<Id, Defined>,
    claims: Claims,
    /// Names with a problem: defined more than once, or refused.
    contested: BTreeSet<Id>,
    cluster: Cluster,
    /// Pods that are attached to this node.
    attachments: HashMap<Key, Attachment>,
}

impl Definitions {
    /// The definitions of objects whose order is the given one, wherever they were read.
    pub(super) fn of(objects: impl IntoIterator<Item = Sourced<Object>>) -> Definitions {
        let mut definitions = Definitions::default();
        let objects = objects.into_iter().map(|sourced| Definition::new(&sourced)).collect();
        definitions.apply([FileChange { file: Arc::from(""), objects }]);
        definitions
    }

    /// What is in force.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The pod that the first file defines under a name, without what the node knows of it.
    pub fn as_written(&self, key: &Key) -> Option<Arc<Pod>> {
        let name = Name { kind: Kind::Pod, key: key.clone() };
        let written = self.first(&name).filter(|written| !written.is_stand_in())?;
        match written.original.as_ref().unwrap_or(&written.item) {
            Item::Pod(pod) => Some(pod.clone()),
            _ => None,
        }
    }

    pub(super) fn into_cluster(self) -> Cluster {
        self.cluster
    }

    /// Whether the definition at `position` of [`Definitions::of`], which is one of `object`, is in force.
    pub(super) fn is_taken(&self, object: &Object, position: u32) -> bool {
        let defined = self.defined.get(&Name::of(object));
        defined.is_some_and(|defined| defined.refusal.is_none() && defined.written[0].position == position)
    }

    /// Takes changed files over, and says what is in force otherwise than before.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = FileChange>) -> Delta {
        let mut touched = Touched::new();
        for change in changes {
            self.replace(change, &mut touched);
        }
        self.settle(touched)
    }

    /// Takes over which pods are attached to this node, each by its name or as one that is not any more, and says what is in force
    /// otherwise than before.
    pub fn attach(&mut self, changes: impl IntoIterator<Item = (Key, Option<Attachment>)>) -> Delta {
        let mut touched = Touched::new();
        for (key, attachment) in changes {
            self.lay_over(key, attachment, &mut touched);
        }
        self.settle(touched)
    }

    /// Judges and publishes what is concerned by a change of the definitions of `touched` names.
    fn settle(&mut self, touched: Touched) -> Delta {
        let mut open = BTreeSet::new();
        for (id, before) in &touched {
            let after = self.first(id);
            if before.as_ref() != after {
                let [before, after] = [before.as_ref(), after].map(|written| Wish::of(&written?.item));
                self.claims.replace(id, before.as_ref(), after.as_ref());
                let concerned = before.iter().chain(&after).flat_map(|wish| self.claims.concerned(wish));
                open.extend(concerned.chain([id]).filter_map(|id| self.turn(id)));
            }
        }
        let mut changed: BTreeSet<Id> = touched.into_keys().collect();
        while let Some((turn, id)) = open.pop_first() {
            if self.judge(&id) {
                let wish = self.first(&id).and_then(|written| Wish::of(&written.item));
                let concerned = wish.iter().flat_map(|wish| self.claims.concerned(wish));
                let later = concerned.filter_map(|id| self.turn(id)).filter(|(other, _)| *other > turn);
                open.extend(later);
                changed.insert(id);
            }
        }
        let mut delta = Delta::default();
        changed.into_iter().for_each(|id| self.publish(id, &mut delta));
        delta
    }

    /// What is wrong: names defined twice in the order of the definitions, then claims in that order.
    pub fn problems(&self) -> Vec<Problem> {
        let mut doubles = Vec::new();
        let mut refusals = Vec::new();
        for id in &self.contested {
            let defined = &self.defined[id];
            let first = &defined.written[0];
            let problem = |written: &Written, field: &str, message: &str| {
                Problem::of(&written.source, id.reference(), field, message, Severity::Refused)
            };
            let double =
                format!("defined twice: the definition in {} stays in force, this one is refused", first.source);
            let later = defined.written[1..].iter().filter(|written| !written.is_stand_in());
            doubles.extend(later.map(|w| ((w.file.clone(), w.position), problem(w, "metadata.name", &double))));
            if let Some(Refusal { field, message }) = &defined.refusal {
                refusals.push(((first.file.clone(), first.position), problem(first, field, message)));
            }
        }
        doubles.sort_by(|(one, _), (other, _)| one.cmp(other));
        refusals.sort_by(|(one, _), (other, _)| one.cmp(other));
        doubles.into_iter().chain(refusals).map(|(_, problem)| problem).collect()
    }

    /// Replaces the definitions of one file; every name that it defines or did define is touched.
    fn replace(&mut self, FileChange { file, objects }: FileChange, touched: &mut Touched) {
        let mut last: HashMap<Id, Vec<Written>> = HashMap::new();
        for id in self.files.remove(&file).unwrap_or_default() {
            let defined = self.defined.get_mut(&id).expect("names of a file are defined");
            touched.entry(id.clone()).or_insert_with(|| defined.written.first().cloned());
            let own = defined.written.extract_if(.., |written| written.file == file);
            last.entry(id).or_default().extend(own);
        }
        let mut ids = Vec::with_capacity(objects.len());
        for (position, Definition { name, written }) in (0u32..).zip(objects) {
            let kept = || {
                let kept = last.get(&name)?.first()?;
                Some((kept.source.clone(), kept.original.as_ref().unwrap_or(&kept.item).clone()))
            };
            let Some((source, item)) = written.or_else(kept) else { continue };
            let (item, original) = self.as_attached(&name.key, item);
            let id = self.defined.get_key_value(&name).map_or_else(|| Arc::new(name), |(id, _)| id.clone());
            let defined = self.defined.entry(id.clone()).or_default();
            touched.entry(id.clone()).or_insert_with(|| defined.written.first().cloned());
            defined.insert(Written { file: file.clone(), position, source, item, original });
            ids.push(id);
        }
        if !ids.is_empty() {
            ids.shrink_to_fit();
            self.files.insert(file, ids);
        }
    }

    /// Replaces what is known of a pod by its attachment; its name is touched.
    fn lay_over(&mut self, key: Key, attachment: Option<Attachment>, touched: &mut Touched) {
        let stand_in = attachment.as_ref().and_then(Attachment::stand_in);
        match attachment {
            Some(attachment) => drop(self.attachments.insert(key.clone(), attachment)),
            None => drop(self.attachments.remove(&key)),
        }
        let name = Name { kind: Kind::Pod, key: key.clone() };
        let id = self.defined.get_key_value(&name).map_or_else(|| Arc::new(name), |(id, _)| id.clone());
        let mut defined = self.defined.remove(&id).unwrap_or_default();
        touched.entry(id.clone()).or_insert_with(|| defined.written.first().cloned());
        defined.written.retain(|written| !written.is_stand_in());
        for written in &mut defined.written {
            let original = written.original.take().unwrap_or_else(|| written.item.clone());
            (written.item, written.original) = self.as_attached(&key, original);
        }
        if let Some(pod) = stand_in {
            defined.insert(Written {
                file: Arc::from(STAND_IN_FILE),
                position: 0,
                source: Source { file: Arc::from(STAND_IN_SOURCE), document: 1 },
                item: Item::Pod(Arc::new(pod)),
                original: None,
            });
        }
        self.defined.insert(id, defined);
    }

    /// An object as this node knows it, and how it is written if that is something else.
    fn as_attached(&self, key: &Key, item: Item) -> (Item, Option<Item>) {
        let Item::Pod(pod) = &item else { return (item, None) };
        match self.attachments.get(key).and_then(|attachment| attachment.over(pod)) {
            Some(known) => (Item::Pod(Arc::new(known)), Some(item)),
            None => (item, None),
        }
    }

    /// The definition of a name that counts.
    fn first(&self, id: &Name) -> Option<&Written> {
        self.defined.get(id)?.written.first()
    }

    /// When the claims of a name are judged; `None` if it claims nothing or is gone.
    fn turn(&self, id: &Id) -> Option<(Turn, Id)> {
        let first = self.first(id)?;
        Some(((rank(id.kind)?, first.file.clone(), first.position), id.clone()))
    }

    /// Judges the claims of a name by those of the names before it; whether that came out otherwise than last time.
    fn judge(&mut self, id: &Id) -> bool {
        let wish = self.first(id).and_then(|written| Wish::of(&written.item));
        let turn = self.turn(id);
        let holds = |other: &Id| {
            let (other, defined) = self.defined.get_key_value(other)?;
            let is_earlier = other != id && self.turn(other) < turn;
            (is_earlier && defined.refusal.is_none()).then(|| (&**other, &defined.written[0].source))
        };
        let refusal = wish.and_then(|wish| self.claims.refuse(&wish, holds));
        let defined = self.defined.get_mut(id).expect("what has a turn is defined");
        let is_other = defined.refusal != refusal;
        defined.refusal = refusal;
        is_other
    }

    /// Has the cluster hold what is in force under a name.
    fn publish(&mut self, id: Id, delta: &mut Delta) {
        if self.first(&id).is_none() {
            self.defined.remove(&id);
        }
        let defined = self.defined.get(&id);
        let of_files = |defined: &Defined| defined.written.iter().filter(|written| !written.is_stand_in()).count();
        if defined.is_some_and(|defined| of_files(defined) > 1 || defined.refusal.is_some()) {
            self.contested.insert(id.clone());
        } else {
            self.contested.remove(&id);
        }
        let in_force = defined.filter(|defined| defined.refusal.is_none()).and_then(|defined| defined.written.first());
        let in_force = in_force.map(|written| (written.source.clone(), written.item.clone()));
        let before = self.cluster.put(id.kind, &id.key, in_force.clone());
        if before == in_force {
            return;
        }
        for (_, item) in before.iter().chain(&in_force) {
            match item {
                Item::Unused => return,
                Item::Service(_) => drop(delta.services.insert(id.key.clone())),
                Item::EndpointSlice(slice) => {
                    let service = slice.service.iter().map(|service| (id.key.0.clone(), service.clone()));
                    delta.services.extend(service);
                }
                _ => {}
            }
        }
        delta.changed.insert((id.kind, id.key.clone()));
    }
}

#[cfg(test)]
mod tests;
