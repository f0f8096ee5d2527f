//! The tasks of a source: one for each resource, one for the Secrets that objects name, one for the cache on disk.

use super::Timing;
use super::cache::{self, Cache};
use super::progress::Slot;
use super::reflector::Reflector;
use super::request::Link;
use super::resource::{Resource, Scope};
use super::shared::Shared;
use super::store::Line;
use crate::log::{Level, event};
use policy::objects::Kind;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Objects of a cache that was written just before are what the node had in force before it was restarted: they are put in
/// force again at once. Older ones wait for the server first.
const CACHE_FRESH: Duration = Duration::from_secs(300);

/// What the tasks have in common.
#[derive(Clone)]
pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Arc<Link>,
    pub(super) timing: Timing,
}

impl Follower {
    /// Follows all objects of `kinds`; to be called on the runtime.
    pub(super) fn follow(&self, kinds: &[Kind]) {
        for kind in kinds {
            match Resource::of(*kind) {
                Some(resource) if *kind == Kind::Secret => {
                    tokio::spawn(self.clone().follow_secrets(resource));
                }
                Some(resource) => drop(self.spawn(resource, Scope::All)),
                None => {}
            }
        }
        self.shared.know_needs();
    }

    fn spawn(&self, resource: Resource, scope: Scope) -> JoinHandle<()> {
        let Follower { shared, link, timing } = self.clone();
        tokio::spawn(Reflector::new(shared, link, resource, scope, timing).run())
    }

    /// Follows the Secrets that are wanted, each by itself.
    async fn follow_secrets(self, resource: Resource) {
        let mut followed: BTreeMap<Slot, JoinHandle<()>> = BTreeMap::new();
        loop {
            let wanted = self.shared.wanted_secrets();
            let wanted = wanted.into_iter().map(|(namespace, name)| (resource.kind, Scope::One { namespace, name }));
            let wanted: Vec<Slot> = wanted.collect();
            for slot in &wanted {
                if !followed.contains_key(slot) {
                    followed.insert(slot.clone(), self.spawn(resource, slot.1.clone()));
                }
            }
            let gone: Vec<Slot> = followed.keys().filter(|slot| !wanted.contains(slot)).cloned().collect();
            for slot in gone {
                if let Some(task) = followed.remove(&slot) {
                    task.abort();
                    // It may be about to say something; what is said afterwards must not bring the Secret back.
                    let _ = task.await;
                }
                self.shared.forget(&slot);
            }
            self.shared.references_changed.notified().await;
        }
    }

    /// Takes the cache at `path` over and keeps it from then on; to be called on the runtime, before [`Follower::follow`]: what
    /// is listed is younger.
    pub(super) fn keep_cache(&self, path: &Path, server: &str) {
        if let Some(age) = load(&self.shared, path, server) {
            let grace = if age > CACHE_FRESH { self.timing.cache_grace } else { Duration::ZERO };
            let shared = self.shared.clone();
            tokio::spawn(async move {
                tokio::time::sleep(grace).await;
                shared.open_cache();
            });
        }
        tokio::spawn(self.clone().write_cache(path.to_owned(), server.to_owned()));
    }

    /// Writes the cache at `path` as objects change, for ever.
    async fn write_cache(self, path: PathBuf, server: String) {
        let mut cache = None;
        loop {
            tokio::time::sleep(self.timing.cache_every).await;
            // Only a cluster that was seen whole may be put in force later, and all that was seen until then.
            let is_synced = self.shared.is_synced();
            let lines = self.shared.take_lines();
            let (problem, unwritten) = match write(&mut cache, &path, &server, lines, is_synced) {
                Ok(()) => (None, Vec::new()),
                Err((unwritten, error)) => (Some(format!("{}: {error}", path.display())), unwritten),
            };
            self.shared.cache_written(problem, unwritten);
        }
    }
}

/// Adds lines to the cache, which is begun if there is none; if it is `whole` with them, it takes the place of an older one.
fn write(
    cache: &mut Option<Cache>,
    path: &Path,
    server: &str,
    lines: Vec<Line>,
    whole: bool,
) -> Result<(), (Vec<Line>, io::Error)> {
    let cache = match cache {
        Some(cache) => cache,
        None => match Cache::begin(path, server) {
            Ok(begun) => cache.insert(begun),
            Err(error) => return Err((lines, error)),
        },
    };
    cache.write(lines)?;
    match whole {
        true => cache.complete().map_err(|error| (Vec::new(), error)),
        false => Ok(()),
    }
}

/// Takes the objects of a cache over; gives their age.
fn load(shared: &Shared, path: &Path, server: &str) -> Option<Duration> {
    let shown = path.display();
    match cache::load(path, server) {
        Ok(None) => None,
        Ok(Some(loaded)) => {
            if let Some(cut) = &loaded.cut {
                event(
                    Level::Warn,
                    "Kubernetes API: the end of the cache is left out",
                    &[("path", &shown), ("reason", cut)],
                );
            }
            shared.load(path.to_owned(), loaded.age, loaded.objects);
            Some(loaded.age)
        }
        Err(why) => {
            event(Level::Warn, "Kubernetes API: the cache is not used", &[("path", &shown), ("reason", &why)]);
            None
        }
    }
}
