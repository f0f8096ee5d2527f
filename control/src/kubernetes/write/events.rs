//! Events (events.k8s.io/v1) about objects that are refused or only partly in force, so that `kubectl describe` says what the
//! agents say.
//!
//! One Event stands for an object, a reason and a text. While the problem stays it is repeated every [`REPEAT`], as one more of its
//! series, because the API server forgets Events after an hour; a problem that goes and comes back within [`REMEMBERED`] is the same
//! series. All Events of a process share a bucket of tokens; who finds it empty waits. The text of an Event is never changed (the
//! API server forbids it): a problem that reads otherwise is another Event.

use super::Target;
use super::election::micro_time;
use super::send::Refusal;
use k8s_openapi::jiff::Timestamp;
use policy::objects::{Problem, Severity};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

/// Problems at once that Events are written about; those of further objects are in the log and in `podplane status`.
const TOLD_MAX: usize = 1_000;

/// Events that may be written without a pause, and how long one more takes.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(2);

/// Between two repetitions: half of the time that the API server keeps Events.
const REPEAT: Duration = Duration::from_secs(1800);

/// How long an Event about a problem that is gone can be continued.
const REMEMBERED: Duration = Duration::from_secs(600);

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(60);

/// Limits of the API server.
const NOTE_BYTES_MAX: usize = 1024;
const NAME_BYTES_MAX: usize = 200;

/// Namespace of Events about objects that have none.
const DEFAULT_NAMESPACE: &str = "default";

/// What an Event is about.
type Id = (Target, &'static str);

/// Something to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EventWrite {
    /// A new Event; its object's uid is to be filled in.
    Create(Id),
    /// One more of a series.
    Repeat(Id),
}

struct Told {
    note: String,
    /// Name of the Event, once it is written, and how often it was told.
    name: Option<String>,
    count: u32,
    due: Instant,
    /// Since when the problem is gone.
    gone: Option<Instant>,
}

impl Told {
    fn new(note: String, now: Instant) -> Told {
        Told { note, name: None, count: 0, due: now, gone: None }
    }
}

/// The Events of one process.
pub(super) struct Ledger {
    controller: &'static str,
    instance: String,
    told: BTreeMap<Id, Told>,
    tokens: u32,
    refilled: Instant,
    /// Distinguishes the names of Events from those of other processes, and of this one from each other.
    seed: u64,
    named: u64,
    /// Whether it was said that Events are refused: rights are the same for all of them.
    has_complained: bool,
}

impl Ledger {
    /// Events that say they come from `controller` (a qualified name) at `instance`.
    pub(super) fn new(controller: &'static str, instance: &str, seed: u64, now: Instant) -> Ledger {
        let instance = instance.chars().take(128).collect();
        Ledger {
            controller,
            instance,
            told: BTreeMap::new(),
            tokens: BURST,
            refilled: now,
            seed,
            named: 0,
            has_complained: false,
        }
    }

    /// These are the problems that there are.
    pub(super) fn set<'a>(&mut self, problems: impl IntoIterator<Item = &'a Problem>, now: Instant) {
        let mut notes: BTreeMap<Id, String> = BTreeMap::new();
        for problem in problems {
            let Some(target) = problem.object.as_ref().and_then(Target::of) else { continue };
            let note = notes.entry((target, reason(problem.severity))).or_default();
            let text = match &*problem.field {
                "" => problem.message.clone(),
                field => format!("{field}: {}", problem.message),
            };
            if !note.contains(&text) {
                note.push_str(if note.is_empty() { "" } else { "; " });
                note.push_str(&text);
            }
        }
        for (id, told) in &mut self.told {
            if !notes.contains_key(id) {
                told.gone.get_or_insert(now);
            }
        }
        self.told.retain(|_, told| told.gone.is_none_or(|gone| now < gone + REMEMBERED));
        for (id, note) in notes {
            let note = cut(note, NOTE_BYTES_MAX);
            let has_room = self.told.len() < TOLD_MAX;
            match self.told.entry(id) {
                Entry::Occupied(told) if told.get().note == note => {
                    let told = told.into_mut();
                    if told.gone.take().is_some() {
                        told.due = now;
                    }
                }
                Entry::Occupied(mut told) => drop(told.insert(Told::new(note, now))),
                Entry::Vacant(place) if has_room => {
                    place.insert(Told::new(note, now));
                }
                Entry::Vacant(_) => {}
            }
        }
    }

    /// What to write at `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<EventWrite> {
        self.refill(now);
        let tokens = self.tokens.checked_sub(1)?;
        let due = self.told.iter().filter(|(_, told)| told.gone.is_none() && told.due <= now);
        let (id, told) = due.min_by_key(|(_, told)| told.due)?;
        self.tokens = tokens;
        let write = if told.name.is_some() { EventWrite::Repeat } else { EventWrite::Create };
        Some(write(id.clone()))
    }

    /// When [`Self::poll`] has something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.told.values().filter(|told| told.gone.is_none()).map(|told| told.due).min()?;
        Some(if self.tokens > 0 { due } else { due.max(self.refilled + REFILL) })
    }

    /// Path and body of the Event about `id`, of which the API has `metadata`.
    pub(super) fn event(&mut self, id: &Id, metadata: &Value, clock: Timestamp) -> Option<(String, Value)> {
        let (target, reason) = id;
        let note = &self.told.get(id)?.note;
        self.named += 1;
        let namespace = namespace(target);
        let time = micro_time(clock);
        let unique = format!("{:016x}", self.seed.wrapping_add(self.named));
        let event = json!({
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": namespace, "name": format!("{}.{unique}", cut(target.name.clone(), NAME_BYTES_MAX))},
            "eventTime": time,
            "reportingController": self.controller,
            "reportingInstance": self.instance,
            "action": "Compile",
            "reason": reason,
            "type": "Warning",
            "note": note,
            "regarding": {
                "apiVersion": target.kind.api_version(),
                "kind": target.kind.as_str(),
                "namespace": target.namespace,
                "name": target.name,
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
        });
        Some((collection(namespace), event))
    }

    /// Path and patch of one more of a series.
    pub(super) fn repetition(&self, id: &Id, clock: Timestamp) -> Option<(String, Value)> {
        let told = self.told.get(id)?;
        let path = format!("{}/{}", collection(namespace(&id.0)), told.name.as_ref()?);
        Some((path, json!({"series": {"count": told.count + 1, "lastObservedTime": micro_time(clock)}})))
    }

    /// The Event about `id` is there under this name.
    pub(super) fn handle_written(&mut self, id: &Id, name: &str, now: Instant) {
        let Some(told) = self.told.get_mut(id) else { return };
        told.name = Some(name.to_owned());
        told.count += 1;
        told.due = now + REPEAT;
    }

    /// There is no such Event any more.
    pub(super) fn handle_forgotten(&mut self, id: &Id, now: Instant) {
        let Some(told) = self.told.get_mut(id) else { return };
        (told.name, told.count, told.due) = (None, 0, now);
    }

    /// The Event about `id` could not be written, or its object is not there. Gives what people should know, once.
    pub(super) fn handle_refused(&mut self, id: &Id, refusal: Refusal, now: Instant) -> Option<String> {
        let told = self.told.get_mut(id)?;
        told.due = now + AGAIN;
        let (Refusal::Forbidden(why) | Refusal::Invalid(why)) = refusal else { return None };
        told.due = now + REPEAT;
        let is_first = !std::mem::replace(&mut self.has_complained, true);
        is_first.then_some(why)
    }

    fn refill(&mut self, now: Instant) {
        let steps = u32::try_from((now - self.refilled).as_nanos() / REFILL.as_nanos()).unwrap_or(BURST);
        self.tokens = self.tokens.saturating_add(steps).min(BURST);
        self.refilled += REFILL * steps;
    }
}

fn reason(severity: Severity) -> &'static str {
    match severity {
        Severity::Refused | Severity::Unreadable => "Refused",
        Severity::Closed => "RuleClosed",
        Severity::Warning => "Incomplete",
    }
}

fn namespace(target: &Target) -> &str {
    if target.namespace.is_empty() { DEFAULT_NAMESPACE } else { &target.namespace }
}

fn collection(namespace: &str) -> String {
    format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")
}

/// At most `bytes_max` bytes of `text`, whole characters.
fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max - "…".len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::objects::{Kind, ObjectRef, Source};

    fn problem(name: &str, message: &str, severity: Severity) -> Problem {
        let source = Source { file: "Kubernetes API".into(), document: 0 };
        Problem::of(&source, ObjectRef::new("NetworkPolicy", "shop", name), "spec.ingress", message, severity)
    }

    fn id(name: &str) -> Id {
        (Target::new(Kind::NetworkPolicy, "shop", name), "Refused")
    }

    fn ledger(problems: &[Problem]) -> (Ledger, Instant) {
        let now = Instant::now();
        let mut ledger = Ledger::new("podplane.io/agent", "node1", 7, now);
        ledger.set(problems, now);
        (ledger, now)
    }

    fn clock() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_event_stands_for_all_that_is_wrong_with_an_object_for_a_reason() {
        let (mut ledger, now) = ledger(&[
            problem("web", "first", Severity::Refused),
            problem("web", "second", Severity::Refused),
            problem("web", "second", Severity::Refused),
            problem("web", "third", Severity::Closed),
        ]);
        assert_eq!(ledger.poll(now), Some(EventWrite::Create(id("web"))));
        let metadata = json!({"uid": "u1", "resourceVersion": "7"});
        let (path, event) = ledger.event(&id("web"), &metadata, clock()).unwrap();
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/shop/events");
        assert_eq!(
            event,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event",
                "metadata": {"namespace": "shop", "name": "web.0000000000000008"},
                "eventTime": "2026-01-02T03:04:05.000000Z",
                "reportingController": "podplane.io/agent", "reportingInstance": "node1",
                "action": "Compile", "reason": "Refused", "type": "Warning",
                "note": "spec.ingress: first; spec.ingress: second",
                "regarding": {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop",
                              "name": "web", "uid": "u1", "resourceVersion": "7"},
            })
        );
        ledger.handle_written(&id("web"), "web.1", now);
        let Some(EventWrite::Create((_, "RuleClosed"))) = ledger.poll(now) else { panic!("the other reason") };
    }

    #[test]
    fn what_stays_is_repeated_as_a_series_and_told_anew_when_the_server_has_forgotten_it() {
        let problems = [problem("web", "x", Severity::Refused)];
        let (mut ledger, now) = ledger(&problems);
        ledger.handle_written(&id("web"), "web.1", now);
        ledger.set(&problems, now + SECOND);
        assert_eq!((ledger.poll(now + SECOND), ledger.next_due()), (None, Some(now + REPEAT)));
        assert_eq!(ledger.poll(now + REPEAT), Some(EventWrite::Repeat(id("web"))));
        let (path, patch) = ledger.repetition(&id("web"), clock()).unwrap();
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/shop/events/web.1");
        assert_eq!(patch, json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:04:05.000000Z"}}));
        ledger.handle_forgotten(&id("web"), now + REPEAT);
        assert_eq!(ledger.poll(now + REPEAT), Some(EventWrite::Create(id("web"))));
    }

    #[test]
    fn what_comes_and_goes_is_one_series_and_another_text_another_event() {
        let problems = [problem("web", "x", Severity::Refused)];
        let (mut ledger, now) = ledger(&problems);
        ledger.handle_written(&id("web"), "web.1", now);
        ledger.set(&[], now);
        assert_eq!((ledger.poll(now + REPEAT), ledger.next_due()), (None, None));
        ledger.set(&problems, now + SECOND);
        assert_eq!(ledger.poll(now + SECOND), Some(EventWrite::Repeat(id("web"))));
        ledger.handle_written(&id("web"), "web.1", now + SECOND);
        ledger.set(&[problem("web", "y", Severity::Refused)], now + SECOND);
        assert_eq!(ledger.poll(now + SECOND), Some(EventWrite::Create(id("web"))));
        // Long after, it is another one.
        ledger.set(&[], now);
        ledger.set(&[], now + REMEMBERED);
        ledger.set(&problems, now + REMEMBERED);
        assert_eq!(ledger.poll(now + REMEMBERED), Some(EventWrite::Create(id("web"))));
    }

    #[test]
    fn a_flood_of_problems_is_told_slowly_and_has_an_end() {
        let many: Vec<Problem> =
            (0..TOLD_MAX + 100).map(|number| problem(&format!("p{number:05}"), "x", Severity::Refused)).collect();
        let (mut ledger, now) = ledger(&many);
        assert_eq!(ledger.told.len(), TOLD_MAX);
        let write = |ledger: &mut Ledger, now: Instant| {
            let mut count = 0;
            while let Some(EventWrite::Create(id)) = ledger.poll(now) {
                ledger.handle_written(&id, "e", now);
                count += 1;
            }
            count
        };
        assert_eq!(write(&mut ledger, now), BURST);
        assert_eq!(ledger.next_due(), Some(now + REFILL));
        assert_eq!(write(&mut ledger, now + REFILL * 3), 3);
        assert_eq!(write(&mut ledger, now + REFILL * 1000), BURST);
    }

    #[test]
    fn one_that_cannot_be_written_is_tried_again_later() {
        let (mut ledger, now) = ledger(&[problem("web", "x", Severity::Refused)]);
        ledger.poll(now);
        assert_eq!(ledger.handle_refused(&id("web"), Refusal::Gone, now), None);
        assert_eq!((ledger.poll(now + AGAIN - SECOND), ledger.poll(now + AGAIN).is_some()), (None, true));
        let forbidden = || Refusal::Forbidden("no".to_owned());
        assert_eq!(ledger.handle_refused(&id("web"), forbidden(), now), Some("no".to_owned()));
        assert_eq!(ledger.handle_refused(&id("web"), forbidden(), now), None, "it is told once");
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_objects_without_namespace_are_told_in_default() {
        assert_eq!(cut("ä".repeat(600), NOTE_BYTES_MAX).len(), 1023);
        assert_eq!(cut("short".to_owned(), NOTE_BYTES_MAX), "short");
        let node =
            Problem { object: Some(ObjectRef::new("Node", "", "node1")), ..problem("x", "y", Severity::Refused) };
        let (mut ledger, _) = ledger(&[node]);
        let id = (Target::new(Kind::Node, "", "node1"), "Refused");
        let (path, event) = ledger.event(&id, &Value::Null, clock()).unwrap();
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/default/events");
        assert_eq!(
            (&event["metadata"]["namespace"], &event["regarding"]["namespace"]),
            (&json!("default"), &json!(""))
        );
    }
}
