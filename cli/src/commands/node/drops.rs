//! `podplane drops`: what a node discarded and why, as text for people, and as it happens.

use super::tables::{cells, columns, duration};
use crate::output::{Context, Failure, OutputFormat, print_or_gone};
use control::api::{Client, Drop, RecentDrop};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a node is asked while it is followed: at once for a person, nothing to the node.
const POLL: Duration = Duration::from_millis(250);

/// Drops that were last as long as this before the last look are asked for again: the node's clock is read per answer.
const OVERLAP_MS: u64 = 2_000;

/// The text.
pub(super) fn drops(drops: &[Drop]) -> String {
    if drops.is_empty() {
        return "nothing was dropped\n".to_owned();
    }
    let mut sorted: Vec<&Drop> = drops.iter().filter(|drop| drop.count > 0).collect();
    sorted.sort_by(|a, b| b.count.cmp(&a.count).then(a.reason.cmp(&b.reason)));
    let mut rows = vec![cells(["COUNT", "REASON", "EXPLANATION"])];
    rows.extend(sorted.iter().map(|drop| vec![drop.count.to_string(), drop.reason.clone(), drop.explanation.clone()]));
    let mut text = if rows.len() > 1 { columns(&rows, &[0]) } else { String::new() };
    let mut recent: Vec<&RecentDrop> = drops.iter().flat_map(|drop| &drop.recent).collect();
    recent.sort_by_key(|drop| std::cmp::Reverse(drop.last_unix_ms));
    let now = unix_ms();
    for drop in recent {
        let ago = duration(now.saturating_sub(drop.last_unix_ms));
        text.push_str(&format!("{}{ago} ago, {}\n", if text.is_empty() { "" } else { "\n" }, record(drop)));
    }
    text
}

/// A record: what was discarded, and below it why.
fn record(drop: &RecentDrop) -> String {
    let times = if drop.count == 1 { String::new() } else { format!(", {} times", drop.count) };
    let what = if drop.dry_run { "would be " } else { "" };
    let at = drop.owner.as_ref().map_or(String::new(), |owner| format!(" at {owner}"));
    format!("{what}{}{at}{times}: {}\n    {}", drop.reason, packet(drop), drop.why)
}

/// Who sent what to whom.
fn packet(drop: &RecentDrop) -> String {
    let (Some(protocol), Some(from), Some(to)) = (&drop.protocol, &drop.from, &drop.to) else {
        return "no IP packet".to_owned();
    };
    let service = drop.service.as_ref().map_or(String::new(), |service| format!(" (service {service})"));
    let backend = drop.backend.as_ref().map_or(String::new(), |backend| format!(" -> {backend}"));
    let source = drop.source.as_ref().map_or(String::new(), |source| format!(" as {source}"));
    format!("{protocol} {from}{source} -> {to}{service}{backend}")
}

/// Prints what is dropped from now on, until the process is told to stop, the reader goes away or the node does.
pub(super) fn follow(client: &Client, context: &Context) -> Result<(), Failure> {
    let ask = |since| client.drops_since(since).map_err(|error| Failure::Failed(error.to_string()));
    let recent = |drops: Vec<Drop>| drops.into_iter().flat_map(|drop| drop.recent).collect::<Vec<_>>();
    let mut since = unix_ms().saturating_sub(OVERLAP_MS);
    let mut told = recent(ask(since)?);
    loop {
        std::thread::sleep(POLL);
        let asked_at = unix_ms();
        let seen = recent(ask(since)?);
        let mut lines: Vec<&RecentDrop> = seen.iter().filter(|drop| is_news(&told, drop)).collect();
        lines.sort_by_key(|drop| drop.last_unix_ms);
        for drop in lines {
            let line = if context.output == OutputFormat::Json {
                serde_json::to_string(drop).map_err(|e| Failure::Failed(e.to_string()))?
            } else {
                format!("{} {}", clock(drop.last_unix_ms), record(drop))
            };
            if !print_or_gone(&format!("{line}\n"))? {
                return Ok(());
            }
        }
        since = asked_at.saturating_sub(OVERLAP_MS);
        told = seen;
    }
}

/// Whether a record is a new one, or has counted more than it had when it was told.
fn is_news(told: &[RecentDrop], drop: &RecentDrop) -> bool {
    !told.iter().any(|known| known.is_same(drop) && known.count == drop.count)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// The time of day, UTC.
fn clock(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000 % 86_400, unix_ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::Endpoint;

    fn end(address: &str, port: u16, owner: Option<&str>) -> Option<Endpoint> {
        Some(Endpoint { address: address.parse().unwrap(), port, owner: owner.map(str::to_owned) })
    }

    fn denied() -> RecentDrop {
        RecentDrop {
            reason: "denied-by-egress-policy".to_owned(),
            dry_run: false,
            count: 3,
            first_unix_ms: unix_ms() - 60_000,
            last_unix_ms: unix_ms() - 5_000,
            port: Some(3),
            owner: Some("shop/web".to_owned()),
            direction: Some("egress".to_owned()),
            protocol: Some("TCP".to_owned()),
            from: end("10.244.1.2", 40_000, Some("shop/web")),
            to: end("10.96.0.10", 5432, None),
            service: Some("shop/db".to_owned()),
            backend: end("10.244.2.3", 5432, Some("shop/db-0")),
            source: None,
            why: "egress policy of shop/web denies it".to_owned(),
        }
    }

    fn counted(reason: &str, count: u64, recent: Vec<RecentDrop>) -> Drop {
        Drop { reason: reason.to_owned(), explanation: "e".to_owned(), count, recent }
    }

    #[test]
    fn drops_are_listed_with_the_most_frequent_first() {
        let text = drops(&[counted("few", 3, vec![]), counted("many", 20, vec![])]);
        assert_eq!(text, "COUNT  REASON  EXPLANATION\n   20  many    e\n    3  few     e\n");
        assert_eq!(drops(&[]), "nothing was dropped\n");
    }

    #[test]
    fn recent_ones_follow_with_both_ends_and_the_words_of_policy() {
        let arp = RecentDrop { count: 1, protocol: None, from: None, to: None, why: "w".to_owned(), ..denied() };
        let dry = RecentDrop { dry_run: true, last_unix_ms: unix_ms() - 120_000, ..denied() };
        let text = drops(&[counted("denied-by-egress-policy", 4, vec![dry, denied(), arp])]);
        let flow =
            "TCP 10.244.1.2:40000 (shop/web) -> 10.96.0.10:5432 (service shop/db) -> 10.244.2.3:5432 (shop/db-0)";
        let expect = format!(
            "\n5s ago, denied-by-egress-policy at shop/web, 3 times: {flow}\n    egress policy of shop/web denies it\n\
             \n5s ago, denied-by-egress-policy at shop/web: no IP packet\n    w\n\
             \n2m00s ago, would be denied-by-egress-policy at shop/web, 3 times: {flow}\n    egress policy of shop/web denies it\n"
        );
        assert!(text.ends_with(&expect), "{text}");
    }

    #[test]
    fn what_a_dry_run_would_drop_is_told_without_a_count_of_drops() {
        let dry = RecentDrop { dry_run: true, count: 1, ..denied() };
        let text = drops(&[counted("denied-by-egress-policy", 0, vec![dry])]);
        assert!(text.starts_with("5s ago, would be denied-by-egress-policy at shop/web: TCP "), "{text}");
    }

    #[test]
    fn a_record_is_news_when_it_is_new_or_counted_on() {
        let told = [denied()];
        assert!(!is_news(&told, &RecentDrop { first_unix_ms: 0, ..denied() }), "clocks are read per answer");
        assert!(is_news(&told, &RecentDrop { count: 4, ..denied() }));
        assert!(is_news(&told, &RecentDrop { backend: end("10.244.2.4", 5432, None), ..denied() }));
        assert!(is_news(&told, &RecentDrop { dry_run: true, ..denied() }));
        assert!(is_news(&[], &denied()));
        assert_eq!(clock(86_400_000 + 3_723_004), "01:02:03.004");
    }
}
