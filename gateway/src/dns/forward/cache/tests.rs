use super::super::invariants::sample;
use super::*;
use crate::dns::Transport;
use crate::dns::forward::question::Query;
use proptest::prelude::*;
use std::time::Duration;

fn key(name: &str) -> Key {
    Query::check(&sample::query(name, 1), Transport::Udp).expect("a query").key()
}

/// An answer about `name` that may be remembered for `ttl` seconds from `now` on.
fn stored(name: &str, ttl: u32, now: Instant) -> Arc<Stored> {
    let asked = sample::asked(name, 1);
    let answer = sample::answer(&asked, 0, &[sample::address(ttl, [192, 0, 2, 1])], &[]);
    Arc::new(Stored::check(&answer, &asked, now).expect("an answer"))
}

#[test]
fn an_answer_is_found_until_its_time_is_over() {
    let (cache, began) = (Cache::new(), Instant::now());
    cache.insert(&key("a.example"), stored("a.example", 10, began), began);
    assert!(cache.find(&key("A.Example"), began + Duration::from_millis(9_999)).is_some());
    assert!(cache.find(&key("b.example"), began).is_none());
    assert!(cache.find(&key("a.example"), began + Duration::from_secs(10)).is_none());
    assert_eq!(cache.len(), 0, "what has expired goes when it is found");
}

#[test]
fn a_full_cache_lets_go_of_what_is_not_used() {
    let (cache, began) = (Cache::with_limits(PARTS * 8, BYTES_MAX), Instant::now());
    cache.insert(&key("used.example"), stored("used.example", 3000, began), began);
    for number in 0..PARTS * 100 {
        let name = format!("n{number}.example");
        cache.insert(&key(&name), stored(&name, 3000, began), began);
        assert!(cache.find(&key("used.example"), began).is_some(), "after {number}");
    }
    assert_eq!(cache.len(), PARTS * 8);
}

#[test]
fn long_answers_do_not_take_more_room_than_there_is() {
    let (cache, began) = (Cache::with_limits(ENTRIES_MAX, PARTS * 20_000), Instant::now());
    let asked = sample::asked("a.example", 1);
    let many: Vec<_> = (0..400).map(|number| sample::address(60, [10, 0, (number >> 8) as u8, number as u8])).collect();
    let answer = sample::answer(&asked, 0, &many, &[]);
    for number in 0..1000 {
        let long = Arc::new(Stored::check(&answer, &asked, began).expect("an answer"));
        cache.insert(&key(&format!("n{number}.example")), long, began);
    }
    assert!((PARTS..=PARTS * 3).contains(&cache.len()), "{}", cache.len());
    let bytes: usize = cache.parts.iter().map(|part| lock(part).bytes).sum();
    assert!(bytes <= PARTS * 20_000, "{bytes}");
}

proptest! {
    #[test]
    fn a_cache_never_says_anything_but_what_was_inserted_last(
        steps in proptest::collection::vec((0..40u32, 0..20u32, any::<bool>()), 1..300)
    ) {
        let cache = Cache::with_limits(PARTS * 2, BYTES_MAX);
        let mut now = Instant::now();
        let mut model: HashMap<u32, Arc<Stored>> = HashMap::new();
        for (number, ttl, inserts) in steps {
            now += Duration::from_millis(700);
            let name = format!("n{number}.example");
            if inserts {
                let answer = stored(&name, ttl, now);
                cache.insert(&key(&name), answer.clone(), now);
                if answer.expires().is_some() {
                    model.insert(number, answer);
                }
            } else if let Some(found) = cache.find(&key(&name), now) {
                prop_assert!(Arc::ptr_eq(&found, &model[&number]));
                prop_assert!(found.expires().is_some_and(|expires| expires > now));
            }
            prop_assert!(cache.len() <= PARTS * 2);
            for part in &cache.parts {
                let part = lock(part);
                prop_assert_eq!(part.places.len(), part.entries.len());
                prop_assert_eq!(part.bytes, part.entries.iter().map(Entry::bytes).sum::<usize>());
            }
        }
    }
}
