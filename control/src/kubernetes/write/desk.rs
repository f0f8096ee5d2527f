//! Which wish is to be fulfilled next, and when one that was refused is tried again.
//!
//! A wish that is there is *due* at a moment, or *done*. What is done is looked at again after [`AGAIN`], because a wish that is still
//! there was either not seen yet by whoever wishes, or somebody has undone it. Refusals: a conflict is tried again at once, a few
//! times; a busy or lost server after longer and longer, all wishes together; what is forbidden or invalid after [`HOPELESS`], and
//! it is told once. The table has room for [`WISHES_MAX`] wishes; more wait until some are gone.

use super::send::Refusal;
use super::{Target, Wish, Wishes};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Wishes at once: what a cluster of ten thousand Services can have, in a few megabytes.
const WISHES_MAX: usize = 20_000;

/// Until a wish that is done and still there is looked at again; doubled each time, so that two that undo each other's writes do
/// little harm.
const AGAIN: Duration = Duration::from_secs(30);

/// Longest time between two looks.
const AGAIN_MAX: Duration = Duration::from_secs(600);

/// Between tries of what is forbidden or invalid: rights are given by people.
const HOPELESS: Duration = Duration::from_secs(300);

/// First and longest pause after a server that is busy or does not answer.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Conflicts in a row that are tried again at once.
const CONFLICTS_MAX: u32 = 5;

/// What people should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The server does not answer, or has no time.
    Lost(String),
    /// It answers again.
    Back,
    /// Something cannot be written.
    Refused(Target, String),
}

struct Entry {
    wish: Wish,
    due: Instant,
    /// The pause after this try, if it is done and still there.
    again: Duration,
    conflicts: u32,
    told: Option<String>,
}

/// The wishes of one writer.
pub(super) struct Desk {
    entries: BTreeMap<Target, Entry>,
    /// Nothing is sent before.
    paused_until: Option<Instant>,
    pause: Duration,
    is_lost: bool,
    /// Spreads the tries of all nodes of a cluster after the server was gone.
    seed: u64,
}

impl Desk {
    /// No wishes yet. `seed` is another one in every process.
    pub(super) fn new(seed: u64) -> Desk {
        Desk { entries: BTreeMap::new(), paused_until: None, pause: PAUSE, is_lost: false, seed }
    }

    /// These are the wishes. One that was there already keeps its turn.
    pub(super) fn set(&mut self, wishes: &Wishes, now: Instant) {
        self.entries.retain(|target, entry| wishes.get(target) == Some(&entry.wish));
        for (target, wish) in wishes {
            if self.entries.len() >= WISHES_MAX {
                break;
            }
            let entry = || Entry { wish: wish.clone(), due: now, again: AGAIN, conflicts: 0, told: None };
            self.entries.entry(target.clone()).or_insert_with(entry);
        }
    }

    /// Whether nothing is to be sent at `now`.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// What to do at `now`, the longest due first.
    pub(super) fn poll(&self, now: Instant) -> Option<(Target, Wish)> {
        if self.is_paused(now) {
            return None;
        }
        let due = self.entries.iter().filter(|(_, entry)| entry.due <= now);
        due.min_by_key(|(_, entry)| entry.due).map(|(target, entry)| (target.clone(), entry.wish.clone()))
    }

    /// When [`Self::poll`] has something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = self.entries.values().map(|entry| entry.due).min()?;
        Some(self.paused_until.map_or(due, |until| due.max(until)))
    }

    /// What became of a wish.
    pub(super) fn handle(&mut self, target: &Target, result: Result<(), Refusal>, now: Instant) -> Option<News> {
        let news = self.handle_server(&result, now);
        let Some(entry) = self.entries.get_mut(target) else { return news };
        match result {
            Ok(()) | Err(Refusal::Gone) => {
                entry.due = now + entry.again;
                entry.again = (entry.again * 2).min(AGAIN_MAX);
                entry.conflicts = 0;
                entry.told = None;
                news
            }
            Err(Refusal::Conflict) if entry.conflicts < CONFLICTS_MAX => {
                entry.conflicts += 1;
                entry.due = now;
                news
            }
            Err(Refusal::Conflict) => {
                entry.conflicts = 0;
                entry.due = now + entry.again;
                entry.again = (entry.again * 2).min(AGAIN_MAX);
                news
            }
            Err(Refusal::Forbidden(why) | Refusal::Invalid(why)) => {
                entry.due = now + HOPELESS;
                let is_new = entry.told.as_ref() != Some(&why);
                entry.told = Some(why.clone());
                news.or_else(|| is_new.then(|| News::Refused(target.clone(), why)))
            }
            Err(Refusal::Busy { .. } | Refusal::Unreachable(_)) => news,
        }
    }

    /// What a request that belongs to no wish says of the server.
    pub(super) fn handle_server<T>(&mut self, result: &Result<T, Refusal>, now: Instant) -> Option<News> {
        let (why, after) = match result {
            Err(Refusal::Busy { after, why }) => (why, *after),
            Err(Refusal::Unreachable(why)) => (why, None),
            _ => {
                self.pause = PAUSE;
                self.paused_until = None;
                return std::mem::take(&mut self.is_lost).then_some(News::Back);
            }
        };
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Between the pause and twice the pause.
        let spread = self.pause.mul_f64((self.seed >> 33) as f64 / f64::from(1u32 << 31));
        self.paused_until = Some(now + (self.pause + spread).max(after.unwrap_or_default().min(PAUSE_MAX)));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        let is_first = !std::mem::replace(&mut self.is_lost, true);
        is_first.then(|| News::Lost(why.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::objects::Kind;
    use serde_json::json;

    fn target(name: &str) -> Target {
        Target::new(Kind::Service, "shop", name)
    }

    fn wishes(names: &[&str]) -> Wishes {
        names.iter().map(|name| (target(name), Wish::Addresses(json!([])))).collect()
    }

    fn desk(names: &[&str]) -> (Desk, Instant) {
        let (mut desk, now) = (Desk::new(7), Instant::now());
        desk.set(&wishes(names), now);
        (desk, now)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_wish_is_done_once_and_looked_at_again_more_and_more_seldom() {
        let (mut desk, now) = desk(&["a", "b"]);
        for name in ["a", "b"] {
            assert_eq!(desk.poll(now).unwrap().0, target(name));
            assert_eq!(desk.handle(&target(name), Ok(()), now), None);
        }
        assert_eq!((desk.poll(now), desk.next_due()), (None, Some(now + AGAIN)));
        // The same wishes again are no news.
        desk.set(&wishes(&["a", "b"]), now);
        assert_eq!(desk.poll(now), None);
        let mut at = now;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let due = desk.entries[&target("a")].due;
            pauses.push((due - at).as_secs());
            at = due;
            desk.handle(&target("a"), Ok(()), at);
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        // A wish for something else is due at once, and one that is gone never.
        let other = Wishes::from([(target("a"), Wish::Addresses(json!([1])))]);
        desk.set(&other, at);
        assert_eq!(desk.poll(at).unwrap().1, Wish::Addresses(json!([1])));
        desk.set(&Wishes::new(), at);
        assert_eq!((desk.poll(at + AGAIN_MAX * 2), desk.next_due()), (None, None));
    }

    #[test]
    fn a_conflict_is_tried_again_at_once_but_not_for_ever() {
        let (mut desk, now) = desk(&["a"]);
        for _ in 0..CONFLICTS_MAX {
            assert_eq!(desk.handle(&target("a"), Err(Refusal::Conflict), now), None);
            assert!(desk.poll(now).is_some());
        }
        desk.handle(&target("a"), Err(Refusal::Conflict), now);
        assert_eq!((desk.poll(now), desk.next_due()), (None, Some(now + AGAIN)));
    }

    #[test]
    fn what_is_forbidden_is_told_once_and_tried_seldom() {
        let (mut desk, now) = desk(&["a", "b"]);
        let forbidden = || Err(Refusal::Forbidden("no".to_owned()));
        assert_eq!(desk.handle(&target("a"), forbidden(), now), Some(News::Refused(target("a"), "no".to_owned())));
        assert_eq!(desk.poll(now).unwrap().0, target("b"), "others go on");
        assert_eq!(desk.poll(now + HOPELESS - SECOND).unwrap().0, target("b"));
        desk.handle(&target("b"), Ok(()), now);
        assert_eq!(desk.handle(&target("a"), forbidden(), now + HOPELESS), None);
        let other = Err(Refusal::Invalid("other".to_owned()));
        assert!(matches!(desk.handle(&target("a"), other, now), Some(News::Refused(..))));
    }

    #[test]
    fn a_server_that_is_gone_is_told_once_asked_more_and_more_seldom_and_told_when_it_is_back() {
        let (mut desk, now) = desk(&["a", "b"]);
        let gone = || Err(Refusal::Unreachable("refused".to_owned()));
        assert_eq!(desk.handle(&target("a"), gone(), now), Some(News::Lost("refused".to_owned())));
        assert_eq!(desk.poll(now), None, "all wait together");
        let mut at = now;
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            let due = desk.next_due().unwrap();
            assert!(due > at && due - at <= PAUSE_MAX * 2);
            longest = longest.max(due - at);
            at = due;
            assert!(desk.poll(at).is_some());
            assert_eq!(desk.handle(&target("a"), gone(), at), None);
        }
        assert!(longest >= PAUSE_MAX);
        assert_eq!(desk.handle(&target("a"), Ok(()), at), Some(News::Back));
        assert_eq!(desk.poll(at).unwrap().0, target("b"), "what waited is due at once");
    }

    #[test]
    fn a_busy_server_says_itself_when_to_come_back() {
        let (mut desk, now) = desk(&["a"]);
        let busy = Err(Refusal::Busy { after: Some(SECOND * 20), why: "too many".to_owned() });
        desk.handle(&target("a"), busy, now);
        assert_eq!((desk.poll(now + SECOND * 19), desk.poll(now + SECOND * 20).is_some()), (None, true));
    }

    #[test]
    fn nodes_do_not_come_back_all_at_once() {
        let due = |seed: u64| {
            let (mut desk, now) = (Desk::new(seed), Instant::now());
            desk.set(&wishes(&["a"]), now);
            desk.handle(&target("a"), Err(Refusal::Unreachable(String::new())), now);
            desk.next_due().unwrap() - now
        };
        let all: Vec<Duration> = (0..100u64).map(|seed| due(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        assert!(all.iter().all(|due| (PAUSE..=PAUSE * 2).contains(due)), "{all:?}");
        let early = all.iter().filter(|due| **due < PAUSE.mul_f64(1.5)).count();
        assert!((20..80).contains(&early), "{early}");
    }

    #[test]
    fn more_wishes_than_there_is_room_for_wait() {
        let now = Instant::now();
        let mut desk = Desk::new(7);
        let many = |range: std::ops::Range<usize>| -> Wishes {
            range.map(|number| (target(&format!("s{number:06}")), Wish::TheseCidrs(Vec::new()))).collect()
        };
        desk.set(&many(0..WISHES_MAX + 5), now);
        assert_eq!(desk.entries.len(), WISHES_MAX);
        desk.set(&many(5..WISHES_MAX + 5), now);
        assert_eq!(desk.entries.len(), WISHES_MAX);
        assert!(desk.entries.contains_key(&target(&format!("s{:06}", WISHES_MAX + 4))));
    }
}
