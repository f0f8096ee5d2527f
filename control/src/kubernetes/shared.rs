//! What the tasks that follow the API and the thread that compiles share: the objects, how far each resource is, and when
//! there is something to take.
//!
//! States: *listing* until every resource that is needed was listed once or is known to be absent; then *synced* for good.
//! Nothing is handed out before that, so that a node never has half a cluster; with one exception: objects of the cache on
//! disk, all of them at once.

use super::NAME;
use super::progress::{Progress, Slot, State, key_of, millis, name};
use super::request::Failure;
use super::resource::{Resource, Scope};
use super::secrets::{References, SecretName, named_by};
use super::store::{Line, Outcome, Store, key_of as key_of_object};
use crate::api::{CachedObjects, Kubernetes};
use crate::log::{Level, event};
use crate::source::Generation;
use nix::sys::eventfd::{EfdFlags, EventFd};
use policy::objects::{Kind, Problem};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing: not everything was listed.
    Listing,
    /// The objects of the cache, once.
    CacheOpened,
    /// Nothing more until everything was listed.
    CacheInForce,
    /// Every change.
    Synced,
}

/// Objects of the cache.
struct Cached {
    path: PathBuf,
    age: Duration,
    loaded: Instant,
}

impl Cached {
    fn age(&self) -> Duration {
        self.age + self.loaded.elapsed()
    }
}

struct Inner {
    server: String,
    store: Store,
    progress: BTreeMap<Slot, Progress>,
    /// Whether all resources that are needed are among them.
    knows_needs: bool,
    references: References,
    phase: Phase,
    cached: Option<Cached>,
    cache_problem: Option<String>,
    contact: Option<Instant>,
    started: Instant,
    generation: u64,
    changes: u64,
    /// Whether there is something to take beside objects.
    has_news: bool,
    /// Whether whoever compiles was woken and has not come.
    is_awake: bool,
}

/// See the module.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Readable when there is something to take.
    wake: EventFd,
    /// Raised when other Secrets are named than before.
    pub(super) references_changed: Notify,
}

impl Shared {
    /// Nothing is known. `references` says which Secrets are wanted whatever objects name.
    pub(super) fn new(server: &str, is_cached: bool, references: References) -> io::Result<Shared> {
        let inner = Inner {
            server: server.to_owned(),
            store: Store::new(is_cached),
            progress: BTreeMap::new(),
            knows_needs: false,
            references,
            phase: Phase::Listing,
            cached: None,
            cache_problem: None,
            contact: None,
            started: Instant::now(),
            generation: 0,
            changes: 0,
            has_news: false,
            is_awake: false,
        };
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Shared { inner: Mutex::new(inner), wake, references_changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in between leaves objects as they were before or after; what is missed comes with the next list.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes whoever that concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        inner.changes += 1;
        inner.settle();
        let wakes = inner.may_hand_out() && !inner.is_awake && (inner.store.has_news() || inner.has_news);
        inner.is_awake |= wakes;
        let names_others = inner.references.take_changed();
        drop(inner);
        if wakes {
            // Only a counter that is full cannot be written, and then it is readable.
            let _ = self.wake.write(1);
        }
        if names_others {
            self.references_changed.notify_one();
        }
        result
    }

    /// The same for a resource that is followed.
    fn change_slot(&self, slot: &Slot, change: impl FnOnce(&mut Progress)) {
        self.change(|inner| inner.progress.get_mut(slot).map(change));
    }
}

/// For whoever compiles.
impl Shared {
    /// Readable when there is something to take.
    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// A number that grows with every change.
    pub(super) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Takes what has changed, if something may be handed out.
    pub(super) fn take(&self) -> Option<Generation> {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.is_awake) {
            // Only a counter that is zero cannot be read.
            let _ = self.wake.read();
        }
        let is_first = inner.generation == 0;
        if !inner.may_hand_out() || !(is_first || inner.store.has_news() || inner.has_news) {
            return None;
        }
        match inner.phase {
            Phase::CacheOpened => inner.phase = Phase::CacheInForce,
            _ => inner.cached = None,
        }
        inner.generation += 1;
        inner.has_news = false;
        let (files, began, digest) = inner.store.take();
        let problems = inner.problems();
        Some(Generation { number: inner.generation, began, digest, files, problems })
    }

    /// Why nothing was handed out so far, in words.
    pub(super) fn waiting_for(&self) -> Option<String> {
        let inner = self.lock();
        if inner.phase != Phase::Listing {
            return None;
        }
        let waiting = || inner.progress.iter().filter(|(_, progress)| !progress.is_settled);
        let names: Vec<String> = waiting().map(|((_, scope), progress)| name(&progress.resource, scope)).collect();
        let error = waiting().find_map(|(_, progress)| progress.error.as_deref());
        let error = error.map(|error| format!(": {error}")).unwrap_or_default();
        Some(format!("{NAME} {}: not listed yet are {}{error}", inner.server, names.join(", ")))
    }

    /// For the API.
    pub(super) fn status(&self) -> Kubernetes {
        let inner = self.lock();
        let is_followed = |progress: &Progress| matches!(progress.state, State::Watching | State::Listing);
        let is_lost = !inner.progress.values().any(is_followed);
        let lost_since = inner.contact.unwrap_or(inner.started);
        Kubernetes {
            server: inner.server.clone(),
            synced: inner.phase == Phase::Synced,
            cached: inner.cached.as_ref().map(|cached| CachedObjects {
                path: cached.path.clone(),
                age_ms: millis(cached.age()),
                in_force: inner.phase == Phase::CacheInForce,
            }),
            last_contact_ms: inner.contact.map(|contact| millis(contact.elapsed())),
            lost_ms: is_lost.then(|| millis(lost_since.elapsed())),
            pending: inner.store.pending(),
            cache_problem: inner.cache_problem.clone(),
            resources: inner.progress.iter().map(|(slot, progress)| progress.told(slot, &inner.store)).collect(),
        }
    }
}

/// For the tasks that follow resources.
impl Shared {
    /// A resource will be followed.
    pub(super) fn add(&self, slot: Slot, resource: Resource) {
        self.change(|inner| inner.progress.insert(slot, Progress::new(resource)));
    }

    /// All resources that are needed were added.
    pub(super) fn know_needs(&self) {
        self.change(|inner| inner.knows_needs = true);
    }

    /// A single object is followed no longer, and not used.
    pub(super) fn forget(&self, slot: &Slot) {
        self.change(|inner| {
            inner.progress.remove(slot);
            if let Some(key) = key_of(&slot.1) {
                inner.remove(slot.0, &key);
            }
        });
    }

    /// The Secrets that are wanted.
    pub(super) fn wanted_secrets(&self) -> BTreeSet<SecretName> {
        self.lock().references.wanted()
    }

    /// Something was heard of the server.
    pub(super) fn heard(&self) {
        self.lock().contact = Some(Instant::now());
    }

    /// A list or a watch was begun.
    pub(super) fn set_state(&self, slot: &Slot, state: State) {
        self.change_slot(slot, |progress| {
            progress.counts.watches += u64::from(state == State::Watching);
            if state == State::Watching && progress.error.take().is_some() {
                let resource = name(&progress.resource, &slot.1);
                event(Level::Info, "Kubernetes API: follows again", &[("resource", &resource)]);
            }
            progress.set_state(state);
        });
    }

    /// The cluster has no such resource.
    pub(super) fn set_absent(&self, slot: &Slot) {
        self.change(|inner| {
            let number = inner.store.begin_list();
            inner.end_list(slot, number);
            let Some(progress) = inner.progress.get_mut(slot) else { return };
            progress.set_state(State::Absent);
            (progress.is_settled, progress.error) = (true, None);
            progress.version.clear();
        });
    }

    /// What was tried failed.
    pub(super) fn fail(&self, slot: &Slot, failure: &Failure) {
        self.change_slot(slot, |progress| {
            progress.counts.failures += 1;
            progress.set_state(State::Failing);
            // Without a Secret its hosts have no certificate; that is no reason to keep all others waiting.
            progress.is_settled |= slot.0 == Kind::Secret;
            let text = failure.to_string();
            if progress.error.as_ref() != Some(&text) {
                let resource = name(&progress.resource, &slot.1);
                event(Level::Warn, "Kubernetes API: cannot follow", &[("resource", &resource), ("reason", &text)]);
                progress.error = Some(text);
            }
        });
    }

    /// An answer or an event made no sense.
    pub(super) fn not_understood(&self, slot: &Slot, what: &str) {
        self.change(|inner| {
            let Some(progress) = inner.progress.get_mut(slot) else { return };
            progress.tell(slot, what);
            inner.has_news = true;
        });
    }

    /// Begins a list; gives its number.
    pub(super) fn begin_list(&self) -> u64 {
        self.lock().store.begin_list()
    }

    /// Takes the objects of a page over, which `read` hands out.
    pub(super) fn put_page<T>(&self, slot: &Slot, read: impl FnOnce(&mut dyn FnMut(Value)) -> T) -> T {
        self.change(|inner| {
            read(&mut |value| {
                inner.put_of(slot, value);
            })
        })
    }

    /// The list `number` is complete.
    pub(super) fn end_list(&self, slot: &Slot, number: u64, version: &str) {
        self.change(|inner| {
            inner.end_list(slot, number);
            let Some(progress) = inner.progress.get_mut(slot) else { return };
            progress.counts.lists += 1;
            progress.is_settled = true;
            progress.version = version.to_owned();
        });
    }

    /// Takes over what an event says about an object: it is there, or gone.
    pub(super) fn take_event(&self, slot: &Slot, version: &str, value: Value, is_gone: bool) {
        self.change(|inner| {
            let changes = match key_of_object(slot.0, &value) {
                Some(key) if is_gone && covers(&slot.1, Some(&key)) => inner.remove(slot.0, &key),
                _ if is_gone => false,
                _ => inner.put_of(slot, value) != Outcome::Same,
            };
            let Some(progress) = inner.progress.get_mut(slot) else { return };
            progress.counts.events += 1;
            progress.counts.unchanged += u64::from(!changes);
            progress.version = version.to_owned();
            // What was missed with a broken event has come with the list since.
            inner.has_news |= progress.problem.take().is_some();
        });
    }

    /// Everything up to `version` is known.
    pub(super) fn bookmark(&self, slot: &Slot, version: &str) {
        self.change_slot(slot, |progress| {
            progress.counts.bookmarks += 1;
            progress.version = version.to_owned();
        });
    }
}

/// For the cache.
impl Shared {
    /// Takes objects of a cache over; none of them counts as listed.
    pub(super) fn load(&self, path: PathBuf, age: Duration, objects: Vec<(Kind, Value)>) {
        self.change(|inner| {
            for (kind, value) in objects {
                inner.put(kind, value);
            }
            inner.cached = Some(Cached { path, age, loaded: Instant::now() });
        });
    }

    /// Hands out the objects of the cache, unless there are better ones.
    pub(super) fn open_cache(&self) {
        self.change(|inner| {
            let Some(cached) = inner.cached.as_ref().filter(|_| inner.phase == Phase::Listing) else { return };
            let age_s = cached.age().as_secs();
            event(Level::Warn, "Kubernetes API: objects of the cache are put in force", &[("age_s", &age_s)]);
            inner.phase = Phase::CacheOpened;
            inner.has_news = true;
        });
    }

    /// Whether everything that is needed was listed.
    pub(super) fn is_synced(&self) -> bool {
        self.lock().phase == Phase::Synced
    }

    /// What the cache has not got.
    pub(super) fn take_lines(&self) -> Vec<Line> {
        self.lock().store.take_lines()
    }

    /// What happened to the cache, and the lines that did not come into it.
    pub(super) fn cache_written(&self, problem: Option<String>, unwritten: Vec<Line>) {
        let mut inner = self.lock();
        if let Some(problem) = problem.as_ref().filter(|problem| inner.cache_problem.as_ref() != Some(problem)) {
            event(Level::Warn, "Kubernetes API: cache", &[("problem", problem)]);
        }
        inner.cache_problem = problem;
        inner.store.give_back(unwritten);
    }
}

impl Inner {
    fn may_hand_out(&self) -> bool {
        matches!(self.phase, Phase::CacheOpened | Phase::Synced)
    }

    /// Whether everything that is needed was listed by now.
    fn settle(&mut self) {
        let is_listed = || self.progress.values().all(|progress| progress.is_settled);
        if self.phase == Phase::Synced || !self.knows_needs || !is_listed() {
            return;
        }
        let follows_secrets = self.progress.keys().any(|(kind, _)| *kind == Kind::Ingress);
        let is_followed =
            |(namespace, name): SecretName| self.progress.contains_key(&(Kind::Secret, Scope::One { namespace, name }));
        if follows_secrets && !self.references.wanted().into_iter().all(is_followed) {
            return;
        }
        let took_ms = millis(self.started.elapsed());
        event(Level::Info, "Kubernetes API: everything was listed", &[("server", &self.server), ("took_ms", &took_ms)]);
        self.phase = Phase::Synced;
        self.has_news = true;
    }

    fn put(&mut self, kind: Kind, value: Value) -> Outcome {
        let named = matches!(kind, Kind::Ingress | Kind::Gateway).then(|| named_by(kind, &value));
        let key = key_of_object(kind, &value);
        let outcome = self.store.put(kind, value);
        if let (Some(named), Some(key), Outcome::Changed) = (named, key, outcome) {
            self.references.set(kind, &key, named);
        }
        outcome
    }

    /// The same for an object that a resource brought.
    fn put_of(&mut self, slot: &Slot, value: Value) -> Outcome {
        if !covers(&slot.1, key_of_object(slot.0, &value).as_deref()) {
            return Outcome::Same;
        }
        let outcome = self.put(slot.0, value);
        let what = match outcome {
            Outcome::Nameless => "an object without a name is left out",
            Outcome::Stranger => "an object of another kind is left out",
            Outcome::NoRoom => "there are more objects than there is room for: the others are left out",
            Outcome::Changed | Outcome::Same | Outcome::Refused => return outcome,
        };
        if let Some(progress) = self.progress.get_mut(slot) {
            progress.tell(slot, what);
            self.has_news = true;
        }
        outcome
    }

    fn remove(&mut self, kind: Kind, key: &str) -> bool {
        self.references.remove(kind, key);
        self.store.remove_key(kind, key)
    }

    fn end_list(&mut self, slot: &Slot, number: u64) {
        for key in self.store.end_list(slot.0, key_of(&slot.1).as_deref(), number) {
            self.references.remove(slot.0, &key);
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let of_streams = self.progress.values().filter_map(|progress| progress.problem.clone());
        of_streams.chain(self.store.problems()).collect()
    }
}

/// Whether an object is one that was asked for: a server that does not look at selectors sends all.
fn covers(scope: &Scope, key: Option<&str>) -> bool {
    key_of(scope).is_none_or(|only| key == Some(&*only))
}
