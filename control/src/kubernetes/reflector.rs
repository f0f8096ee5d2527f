//! Follows one resource: lists it, then watches it from where the list ended, for ever.
//!
//! | what happens | what is done |
//! |---|---|
//! | a page of the list | its objects are taken over; the next page is asked for with the token of this one |
//! | the last page | objects that the list did not show are gone; the watch begins at the list's resourceVersion |
//! | an event, a bookmark | taken over; the watch goes on from its resourceVersion, whatever happens to the connection |
//! | the watch ends, or nothing is heard for a while | it is begun again at once; if it ends at once, after a wait |
//! | 410 Gone: while listing, instead of a watch, or as an event | all is listed again |
//! | an answer or event that makes no sense, a resourceVersion that goes back | told; what it hides is unknown: all is listed again |
//! | no answer, 401, 403, 429, 5xx | told; tried again after a wait that grows, and not before the server wants it |
//! | 404 for a resource that not every cluster has | its objects are gone; it is looked for every half minute |
//!
//! Every path back to the server goes through a wait but one (a watch that has lived for a while ends), so nothing that a
//! server says makes a node send it requests without end. A wait begins small again when a watch has lived for a while, or
//! has brought something and nothing that makes no sense.

use super::answer::{Event, read_event, read_page, version_of};
use super::backoff::{Backoff, spread};
use super::lines::LINE_BYTES_MAX;
use super::progress::{Slot, State};
use super::request::{Cause, Failure, Link, Stream};
use super::resource::{Resource, Scope, percent};
use super::shared::Shared;
use super::{PAGE_OBJECTS, Timing};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pages of one list: a server that always has one more page has none of use.
const PAGES_MAX: u32 = 20_000;

/// Errors in a row of one watch, other than that the server is away or busy, after which all is listed again: the
/// resourceVersion may be one that a server which was restored from a backup never had.
const ERRORS_MAX: u32 = 3;

/// See the module.
pub(super) struct Reflector {
    shared: Arc<Shared>,
    link: Arc<Link>,
    resource: Resource,
    slot: Slot,
    timing: Timing,
    backoff: Backoff,
    /// Objects that are asked for in one page.
    page: u32,
}

/// Why a watch is over.
enum Ended {
    /// The server has closed it, or nothing was heard for long: it can be begun again where it was.
    Closed,
    /// It broke, or the server said so.
    Failed(Failure),
    /// Something made no sense.
    Nonsense(String),
}

/// What comes after watching.
enum Next {
    List,
    /// There is no such resource any more.
    Find,
}

impl Reflector {
    pub(super) fn new(
        shared: Arc<Shared>,
        link: Arc<Link>,
        resource: Resource,
        scope: Scope,
        timing: Timing,
    ) -> Reflector {
        shared.add((resource.kind, scope.clone()), resource);
        let backoff = Backoff::new(timing.backoff_first, timing.backoff_max);
        Reflector { shared, link, resource, slot: (resource.kind, scope), timing, backoff, page: PAGE_OBJECTS }
    }

    /// Follows the resource for ever.
    pub(super) async fn run(mut self) {
        loop {
            let version = self.find().await;
            while let Next::List = self.list_and_watch(version).await {}
        }
    }

    /// The version of the API group under which the resource is served; waits until it is.
    async fn find(&mut self) -> &'static str {
        if !self.resource.is_custom {
            return self.resource.versions[0];
        }
        loop {
            match self.look_for().await {
                Ok(Some(version)) => return version,
                Ok(None) => {
                    self.shared.set_absent(&self.slot);
                    self.backoff.reset();
                    tokio::time::sleep(spread(self.timing.find)).await;
                }
                Err(failure) => self.fail(failure).await,
            }
        }
    }

    async fn look_for(&self) -> Result<Option<&'static str>, Failure> {
        for version in self.resource.versions {
            let answer = match self.link.get(&self.resource.group_path(version)).await {
                Err(failure) if failure.cause == Cause::NotFound => continue,
                answer => answer?,
            };
            self.shared.heard();
            let nonsense = |error: serde_json::Error| Failure::new(Cause::Nonsense, format!("discovery: {error}"));
            let served: Value = serde_json::from_slice(&answer).map_err(nonsense)?;
            let mut resources = served["resources"].as_array().into_iter().flatten();
            if resources.any(|resource| resource["name"] == self.resource.plural) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    async fn list_and_watch(&mut self, version: &str) -> Next {
        match self.list(version).await {
            Ok(listed) => self.watch(version, listed).await,
            Err(failure) if failure.cause == Cause::NotFound && self.resource.is_custom => Next::Find,
            Err(failure) if failure.cause == Cause::TooLarge && self.page > 1 => {
                self.page = (self.page / 4).max(1);
                Next::List
            }
            Err(failure) => {
                if failure.cause == Cause::Nonsense {
                    self.shared.not_understood(&self.slot, &failure.what);
                }
                self.fail(failure).await;
                Next::List
            }
        }
    }

    /// Lists all objects; gives the resourceVersion at which they were these.
    async fn list(&mut self, version: &str) -> Result<String, Failure> {
        self.shared.set_state(&self.slot, State::Listing);
        let number = self.shared.begin_list();
        let mut listed = String::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = format!("limit={}", self.page);
            if let Some(token) = &token {
                query.push_str(&format!("&continue={}", percent(token)));
            }
            let answer = self.link.get(&self.slot.1.uri(&self.resource, version, &query)).await?;
            self.shared.heard();
            let page = self.shared.put_page(&self.slot, |take| read_page(&answer, self.resource.kind, take));
            let page = page.map_err(|what| Failure::new(Cause::Nonsense, what))?;
            if listed.is_empty() {
                listed = page.version;
            }
            token = page.next;
            if token.is_none() {
                self.shared.end_list(&self.slot, number, &listed);
                return Ok(listed);
            }
        }
        Err(Failure::new(Cause::Nonsense, format!("a list of more than {PAGES_MAX} pages")))
    }

    /// Watches from the resourceVersion `at` on, until all must be listed again.
    async fn watch(&mut self, version: &str, mut at: String) -> Next {
        let mut errors = 0;
        loop {
            let began = Instant::now();
            let first = at.clone();
            let ended = self.watch_once(version, &mut at).await;
            let has_lived = began.elapsed() >= self.timing.healthy;
            // What makes no sense comes again, however much good came before it.
            let is_sound = match &ended {
                Ended::Closed => at != first,
                Ended::Failed(failure) => at != first && failure.cause != Cause::Gone,
                Ended::Nonsense(_) => false,
            };
            if has_lived || is_sound {
                self.backoff.reset();
                errors = 0;
            }
            match ended {
                Ended::Closed if has_lived => {}
                Ended::Closed => self.wait(None).await,
                Ended::Nonsense(what) => {
                    self.shared.not_understood(&self.slot, &format!("{what}: all are listed again"));
                    self.wait(None).await;
                    return Next::List;
                }
                Ended::Failed(failure) => match failure.cause {
                    Cause::NotFound if self.resource.is_custom => return Next::Find,
                    Cause::Gone => {
                        self.wait(failure.retry_after).await;
                        return Next::List;
                    }
                    cause => {
                        errors += u32::from(cause == Cause::Refused);
                        self.fail(failure).await;
                        if errors >= ERRORS_MAX {
                            return Next::List;
                        }
                    }
                },
            }
        }
    }

    /// One watch, from beginning to end; `at` follows it.
    async fn watch_once(&self, version: &str, at: &mut String) -> Ended {
        // Nodes that were started together need not come back together.
        let seconds = spread(self.timing.watch).as_secs();
        let query =
            format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}", percent(at));
        let uri = self.slot.1.uri(&self.resource, version, &query);
        let mut stream = match self.link.watch(&uri, self.timing.silence, LINE_BYTES_MAX).await {
            Ok(stream) => stream,
            Err(failure) => return Ended::Failed(failure),
        };
        self.shared.heard();
        self.shared.set_state(&self.slot, State::Watching);
        loop {
            match self.take_lines(&mut stream, at) {
                Some(ended) => return ended,
                None => match stream.wait().await {
                    Ok(true) => self.shared.heard(),
                    Ok(false) => return Ended::Closed,
                    Err(failure) if failure.cause == Cause::Silent => return Ended::Closed,
                    Err(failure) => return Ended::Failed(failure),
                },
            }
        }
    }

    /// Takes over what has come; why the watch is over, if it is.
    fn take_lines(&self, stream: &mut Stream, at: &mut String) -> Option<Ended> {
        while let Some(line) = stream.next_line() {
            let event = match line {
                Ok(line) => read_event(line, self.resource.kind),
                Err(failure) => return Some(Ended::Nonsense(failure.what)),
            };
            let (object, is_gone) = match event {
                Ok(Event::Put(object)) => (object, false),
                Ok(Event::Deleted(object)) => (object, true),
                Ok(Event::Bookmark(version)) => {
                    if let Err(what) = advance(at, &version) {
                        return Some(Ended::Nonsense(what));
                    }
                    self.shared.bookmark(&self.slot, at);
                    continue;
                }
                Ok(Event::Error(status)) => return Some(Ended::Failed(Failure::of_status(&status))),
                Err(what) => return Some(Ended::Nonsense(what)),
            };
            if let Err(what) = advance(at, version_of(&object)) {
                return Some(Ended::Nonsense(what));
            }
            self.shared.take_event(&self.slot, at, object, is_gone);
        }
        None
    }

    /// Tells of a failure and waits before anything is tried again.
    async fn fail(&mut self, failure: Failure) {
        let retry_after = failure.retry_after;
        self.shared.fail(&self.slot, &self.advise(failure));
        self.wait(retry_after).await;
    }

    async fn wait(&mut self, named: Option<Duration>) {
        tokio::time::sleep(self.backoff.next(named)).await;
    }

    /// What to do about a failure, where that is known.
    fn advise(&self, failure: Failure) -> Failure {
        let Resource { plural, group, .. } = self.resource;
        let advice = match failure.cause {
            Cause::Forbidden => format!(". Allow the verbs list and watch on {plural} of API group {group:?}"),
            Cause::Unauthorized => ". Are the credentials out of date? They are read again".to_owned(),
            _ => return failure,
        };
        Failure { what: failure.what + &advice, ..failure }
    }
}

/// Moves on to a resourceVersion, which is not before the one that was reached. Versions are numbers that grow since Kubernetes
/// 1.35 (KEP-5504), and were with every server before; what is no number is taken as it comes.
fn advance(at: &mut String, version: &str) -> Result<(), String> {
    if version.is_empty() {
        return Err("an object without resourceVersion".to_owned());
    }
    if let (Ok(before), Ok(after)) = (at.parse::<u64>(), version.parse::<u64>())
        && after < before
    {
        return Err(format!("the resourceVersion goes back from {before} to {after}"));
    }
    version.clone_into(at);
    Ok(())
}
