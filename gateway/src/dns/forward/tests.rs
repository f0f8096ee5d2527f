//! The forwarder against upstreams that answer, lie, and say nothing.

mod fake;

use super::config::StubDomain;
use super::invariants::{sample, upstream_answer};
use super::*;
use domain::base::Message;
use fake::{Fake, Send};
use proptest::prelude::*;
use std::str::FromStr;

const A: u16 = 1;

/// Short, so that tests of silence are quick.
const TIMES: Times = Times { attempt: Duration::from_millis(200), whole: Duration::from_millis(500) };

fn forwarder(upstreams: &[&Fake]) -> Forwarder {
    let upstreams = Upstreams::Fixed(upstreams.iter().map(|fake| fake.address).collect());
    of(ForwardConfig { upstreams, ..ForwardConfig::default() })
}

fn of(config: ForwardConfig) -> Forwarder {
    Forwarder::build(config, TIMES, Box::new(|_| {}))
}

/// What `forwarder` answers to `query` over UDP.
async fn ask(forwarder: &Forwarder, query: &[u8]) -> Message<Vec<u8>> {
    let answer = forwarder.resolve(query, Transport::Udp).await;
    Message::from_octets(answer).expect("an answer")
}

fn rcode(message: &Message<Vec<u8>>) -> Rcode {
    message.header().rcode()
}

/// The addresses of an answer, and their TTLs.
fn addresses(message: &Message<Vec<u8>>) -> Vec<(String, u32)> {
    let records = message.answer().expect("sections").limit_to::<domain::rdata::A>();
    let records = records.map(|record| record.expect("a record"));
    records.map(|record| (record.data().addr().to_string(), record.ttl().as_secs())).collect()
}

/// The right answer to what an upstream is asked.
fn right(asked: &[u8]) -> Vec<u8> {
    sample::answer(asked, 0, &[sample::address(60, [192, 0, 2, 1])], &[])
}

/// Upstreams that lie first and then tell the truth: what counts is the truth, and the lie is counted.
async fn check_lie(lie: impl Fn(&[u8]) -> Vec<u8> + std::marker::Send + Sync + 'static) -> ForwardCounters {
    let fake = Fake::start(move |_, asked| vec![Send::Reply(lie(asked)), Send::Reply(right(asked))]).await;
    let forwarder = forwarder(&[&fake]);
    let answer = ask(&forwarder, &sample::query("a.example", A)).await;
    assert_eq!(addresses(&answer), [("192.0.2.1".to_owned(), 60)]);
    assert_eq!(fake.count(), 1, "no second attempt");
    forwarder.counters()
}

#[tokio::test]
async fn an_answer_is_passed_on_and_remembered() {
    let fake = Fake::replying(right).await;
    let forwarder = forwarder(&[&fake]);
    let query = sample::query("a.example", A);
    let mut cached = Vec::new();
    assert!(!forwarder.find_cached(&query, Transport::Udp, &mut cached));
    let answer = ask(&forwarder, &query).await;
    assert_eq!((answer.header().id(), rcode(&answer), answer.header().aa()), (0x1234, Rcode::NOERROR, false));
    assert_eq!(addresses(&answer), [("192.0.2.1".to_owned(), 60)]);
    assert!(forwarder.find_cached(&query, Transport::Udp, &mut cached));
    assert_eq!(Message::from_octets(cached).expect("an answer").header_counts(), answer.header_counts());
    assert_eq!((fake.count(), forwarder.counters().cached, forwarder.counters().asked), (1, 1, 1));
    let (_, asked) = &fake.asked()[0];
    assert_eq!(&asked[2..4], [1, 0x20], "RD, and AD to hear whether it is authentic");
    let question = query.len() - 11;
    assert_eq!(asked[12..question], query[12..question]);
    assert_eq!(asked[question..], [0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0], "datagrams of 1232 bytes");
}

#[tokio::test]
async fn an_answer_with_another_id_is_ignored() {
    let counters = check_lie(|asked| {
        let mut lie = sample::answer(asked, 0, &[sample::address(60, [6, 6, 6, 6])], &[]);
        lie[0] ^= 0x55;
        lie
    });
    assert_eq!(counters.await.mismatched, 1);
}

#[tokio::test]
async fn an_answer_to_another_question_is_ignored() {
    let counters = check_lie(|asked| {
        let other = sample::asked("b.example", A);
        let mut lie = sample::answer(&other, 0, &[sample::address(60, [6, 6, 6, 6])], &[]);
        lie[..2].copy_from_slice(&asked[..2]);
        lie
    });
    assert_eq!(counters.await.mismatched, 1);
}

#[tokio::test]
async fn a_query_that_comes_back_is_ignored() {
    assert_eq!(check_lie(<[u8]>::to_vec).await.mismatched, 1);
}

#[tokio::test]
async fn garbage_is_ignored() {
    assert_eq!(check_lie(|_| vec![0xff; 40]).await.mismatched, 1);
    assert_eq!(check_lie(|_| Vec::new()).await.mismatched, 1);
}

#[tokio::test]
async fn a_datagram_that_is_longer_than_was_asked_for_is_ignored() {
    let counters = check_lie(|asked| {
        let many: Vec<_> = (0..100).map(|number| sample::address(60, [6, 6, 6, number])).collect();
        sample::answer(asked, 0, &many, &[])
    });
    assert_eq!(counters.await.oversized, 1);
}

#[tokio::test]
async fn a_spoofed_sender_is_not_heard() {
    let fake = Fake::start(|_, asked| {
        let lie = sample::answer(asked, 0, &[sample::address(60, [6, 6, 6, 6])], &[]);
        vec![Send::FromElsewhere(lie), Send::Reply(right(asked))]
    });
    let fake = fake.await;
    let forwarder = forwarder(&[&fake]);
    assert_eq!(addresses(&ask(&forwarder, &sample::query("a.example", A)).await), [("192.0.2.1".to_owned(), 60)]);
}

#[tokio::test]
async fn where_somebody_guesses_the_question_is_asked_over_tcp() {
    let fake = Fake::start(|transport, asked| match transport {
        Transport::Tcp => vec![Send::Reply(right(asked))],
        Transport::Udp => (0..40u8)
            .map(|number| {
                let mut lie = sample::answer(asked, 0, &[sample::address(60, [6, 6, 6, number])], &[]);
                lie[1] ^= number + 1;
                Send::Reply(lie)
            })
            .collect(),
    });
    let fake = fake.await;
    let forwarder = forwarder(&[&fake]);
    assert_eq!(addresses(&ask(&forwarder, &sample::query("a.example", A)).await), [("192.0.2.1".to_owned(), 60)]);
    let counters = forwarder.counters();
    assert_eq!((counters.mismatched, counters.attempts_udp, counters.attempts_tcp), (16, 1, 1));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp_and_cut_for_clients_that_take_datagrams() {
    let many: Vec<_> = (0..200).map(|number| sample::address(60, [10, 0, 0, number])).collect();
    let fake = Fake::start(move |transport, asked| {
        let mut whole = sample::answer(asked, 0, if transport == Transport::Tcp { &many } else { &[] }, &[]);
        whole[2] |= if transport == Transport::Udp { 2 } else { 0 };
        vec![Send::Reply(whole)]
    });
    let fake = fake.await;
    let forwarder = forwarder(&[&fake]);
    let query = sample::query("a.example", A);
    let answer = ask(&forwarder, &query).await;
    assert!(answer.header().tc() && answer.as_slice().len() <= 1232, "{} bytes", answer.as_slice().len());
    assert_eq!(addresses(&answer).len(), (1232 - 11 - 12 - 15) / 16, "as many whole records as fit");
    let mut small = query[..query.len() - 11].to_vec();
    small[11] = 0;
    let answer = ask(&forwarder, &small).await;
    assert!(answer.header().tc() && answer.as_slice().len() <= 512 && answer.opt().is_none());
    let whole = Message::from_octets(forwarder.resolve(&query, Transport::Tcp).await).expect("an answer");
    assert!(!whole.header().tc());
    assert_eq!(addresses(&whole).len(), 200);
    assert_eq!(
        fake.asked().iter().map(|(transport, _)| *transport).collect::<Vec<_>>(),
        [Transport::Udp, Transport::Tcp]
    );
}

#[tokio::test]
async fn an_upstream_that_does_not_know_edns_is_asked_without() {
    let fake = Fake::replying(|asked| {
        if asked[11] == 1 { [&asked[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat() } else { right(asked) }
    });
    let fake = fake.await;
    let answer = ask(&forwarder(&[&fake]), &sample::query("a.example", A)).await;
    assert_eq!(addresses(&answer).len(), 1);
    assert!(answer.opt().is_some(), "the client knows it");
    assert_eq!(fake.count(), 2);
}

#[tokio::test]
async fn a_silent_upstream_is_passed_over_and_then_asked_last() {
    let (silent, fake) = (Fake::silent().await, Fake::replying(right).await);
    let forwarder = forwarder(&[&silent, &fake]);
    assert_eq!(addresses(&ask(&forwarder, &sample::query("a.example", A)).await).len(), 1);
    assert_eq!((silent.count(), fake.count()), (1, 1));
    assert_eq!(addresses(&ask(&forwarder, &sample::query("b.example", A)).await).len(), 1);
    assert_eq!((silent.count(), fake.count()), (1, 2), "it rests");
    assert_eq!(forwarder.counters().timeouts, 1);
}

#[tokio::test]
async fn a_closed_port_is_passed_over_at_once() {
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").local_addr().expect("bound");
    let fake = Fake::replying(right).await;
    let upstreams = Upstreams::Fixed(vec![closed, fake.address]);
    let forwarder = of(ForwardConfig { upstreams, ..ForwardConfig::default() });
    assert_eq!(addresses(&ask(&forwarder, &sample::query("a.example", A)).await).len(), 1);
    assert_eq!((forwarder.counters().unreachable, forwarder.counters().timeouts), (1, 0));
}

#[tokio::test]
async fn where_nobody_answers_the_client_is_told_in_time_and_for_a_second_nobody_is_asked() {
    let silent = Fake::silent().await;
    let forwarder = forwarder(&[&silent]);
    let began = Instant::now();
    let query = sample::query("a.example", A);
    assert_eq!(rcode(&ask(&forwarder, &query).await), Rcode::SERVFAIL);
    assert!(began.elapsed() >= 2 * TIMES.attempt, "asked twice");
    assert_eq!(silent.count(), ROUNDS);
    assert_eq!(rcode(&ask(&forwarder, &query).await), Rcode::SERVFAIL);
    assert_eq!((silent.count(), forwarder.counters().failed, forwarder.counters().cached), (ROUNDS, 1, 1));
}

#[tokio::test]
async fn of_many_silent_upstreams_no_more_are_asked_than_there_is_time_for() {
    let silent: Vec<Fake> =
        [Fake::silent().await, Fake::silent().await, Fake::silent().await, Fake::silent().await].into();
    let forwarder = forwarder(&silent.iter().collect::<Vec<_>>());
    assert_eq!(rcode(&ask(&forwarder, &sample::query("a.example", A)).await), Rcode::SERVFAIL);
    assert_eq!(silent.iter().map(Fake::count).collect::<Vec<_>>(), [1, 1, 1, 0]);
}

#[tokio::test]
async fn an_upstream_that_fails_is_believed_only_if_no_other_one_knows() {
    let failing = Fake::replying(|asked| sample::answer(asked, 2, &[], &[])).await;
    let refusing = Fake::replying(|asked| sample::answer(asked, 5, &[], &[])).await;
    let fake = Fake::replying(right).await;
    let query = sample::query("a.example", A);
    assert_eq!(addresses(&ask(&forwarder(&[&failing, &refusing, &fake]), &query).await).len(), 1);
    assert_eq!(rcode(&ask(&forwarder(&[&refusing, &failing]), &query).await), Rcode::REFUSED);
}

#[tokio::test]
async fn an_answer_that_does_not_hold_together_is_no_answer() {
    let broken = Fake::replying(|asked| {
        let mut broken = right(asked);
        // The owner of the first record points at itself.
        let position = asked.len() - 11;
        broken[position + 1] = position as u8;
        broken
    });
    let (broken, fake) = (broken.await, Fake::replying(right).await);
    let forwarder = forwarder(&[&broken, &fake]);
    assert_eq!(addresses(&ask(&forwarder, &sample::query("a.example", A)).await).len(), 1);
    assert_eq!(forwarder.counters().malformed, 1);
}

#[tokio::test]
async fn what_many_ask_at_once_is_asked_once_and_each_gets_its_own_answer() {
    let fake = Fake::replying(right).await;
    let forwarder = forwarder(&[&fake]);
    let queries = (0..50u8).map(|number| {
        let mut query = sample::query(if number % 2 == 0 { "a.example" } else { "A.eXample" }, A);
        query[1] = number;
        query
    });
    let tasks: Vec<_> = queries
        .map(|query| {
            let forwarder = forwarder.clone();
            tokio::spawn(async move { (forwarder.resolve(&query, Transport::Udp).await, query) })
        })
        .collect();
    for task in tasks {
        let (answer, query) = task.await.expect("no panic");
        assert_eq!((&answer[..2], &answer[12..query.len() - 11]), (&query[..2], &query[12..query.len() - 11]));
    }
    assert_eq!(fake.count(), 1);
    assert_eq!(forwarder.counters().joined, 49);
}

#[tokio::test]
async fn a_question_goes_on_when_the_one_who_asked_it_has_gone() {
    let fake = Fake::replying(right).await;
    let forwarder = forwarder(&[&fake]);
    let query = sample::query("a.example", A);
    tokio::select! {
        biased;
        _ = forwarder.resolve(&query, Transport::Udp) => panic!("it has to wait"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(addresses(&ask(&forwarder, &query).await).len(), 1);
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn what_does_not_exist_is_remembered_by_its_soa_record_and_not_without_one() {
    let fake = Fake::replying(|asked| {
        let no_such_name = asked[13] == b'n';
        let soa = if asked[12] == 1 { vec![sample::soa(300, 30)] } else { Vec::new() };
        sample::answer(asked, if no_such_name { 3 } else { 0 }, &[], &soa)
    });
    let fake = fake.await;
    let forwarder = forwarder(&[&fake]);
    for (name, expected, is_remembered) in [
        ("n.example", Rcode::NXDOMAIN, true),
        ("d.example", Rcode::NOERROR, true),
        ("nn.example", Rcode::NXDOMAIN, false),
        ("dd.example", Rcode::NOERROR, false),
    ] {
        let query = sample::query(name, A);
        let answer = ask(&forwarder, &query).await;
        assert_eq!(rcode(&answer), expected, "{name}");
        let ttls: Vec<u32> =
            answer.authority().expect("a section").map(|soa| soa.expect("a record").ttl().as_secs()).collect();
        assert_eq!(ttls, if is_remembered { vec![30] } else { Vec::new() }, "{name}");
        assert_eq!(forwarder.find_cached(&query, Transport::Udp, &mut Vec::new()), is_remembered, "{name}");
    }
}

#[test]
fn ttls_are_counted_down_and_capped_and_nothing_is_remembered_for_no_time() {
    let began = Instant::now();
    let asked = sample::asked("a.example", A);
    let client = sample::query("a.example", A);
    let query = Query::check(&client, Transport::Udp).expect("a query");
    let ttls = |stored: &Stored, age: u64| {
        let mut answer = Vec::new();
        stored.write(&query, began + Duration::from_secs(age), &mut answer);
        addresses(&Message::from_octets(answer).expect("an answer")).iter().map(|(_, ttl)| *ttl).collect::<Vec<_>>()
    };
    let stored = |ttls: &[u32]| {
        let records: Vec<_> = ttls.iter().map(|ttl| sample::address(*ttl, [192, 0, 2, 1])).collect();
        Stored::check(&sample::answer(&asked, 0, &records, &[]), &asked, began).expect("an answer")
    };
    assert_eq!(ttls(&stored(&[100, 40]), 0), [40, 40], "the least one is that of all");
    assert_eq!(ttls(&stored(&[100, 40]), 39), [1, 1]);
    assert_eq!(ttls(&stored(&[1_000_000]), 1), [3599]);
    assert_eq!(stored(&[40, 0]).expires(), None);
    assert_eq!(stored(&[u32::MAX]).expires(), None, "RFC 2181: the highest bit makes it nothing");
}

#[tokio::test]
async fn a_zone_of_its_own_is_asked_of_its_servers() {
    let (corp, fake) = (Fake::replying(right).await, Fake::replying(|asked| sample::answer(asked, 3, &[], &[])).await);
    let forwarder = of(ForwardConfig {
        upstreams: Upstreams::Fixed(vec![fake.address]),
        stub_domains: vec![StubDomain { zone: "corp.example".to_owned(), upstreams: vec![corp.address] }],
        own: Vec::new(),
    });
    assert_eq!(addresses(&ask(&forwarder, &sample::query("Git.Corp.example", A)).await).len(), 1);
    assert_eq!(rcode(&ask(&forwarder, &sample::query("git.example", A)).await), Rcode::NXDOMAIN);
}

#[tokio::test]
async fn without_an_upstream_names_are_refused() {
    let forwarder = of(ForwardConfig::default());
    assert_eq!(rcode(&ask(&forwarder, &sample::query("a.example", A)).await), Rcode::REFUSED);
    assert_eq!(forwarder.counters().refused, 1);
}

#[tokio::test]
async fn who_does_not_want_recursion_gets_what_is_remembered() {
    let fake = Fake::replying(right).await;
    let forwarder = forwarder(&[&fake]);
    let query = sample::query("a.example", A);
    let mut modest = query.clone();
    modest[2] = 0;
    assert_eq!(rcode(&ask(&forwarder, &modest).await), Rcode::REFUSED);
    ask(&forwarder, &query).await;
    let answer = ask(&forwarder, &modest).await;
    assert_eq!((addresses(&answer).len(), answer.header().rd(), answer.header().ra()), (1, false, true));
}

#[tokio::test]
async fn queries_that_cannot_be_forwarded_are_answered_by_rule() {
    let forwarder = of(ForwardConfig::default());
    let query = sample::query("a.example", A);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut query = query.clone();
        change(&mut query);
        query
    };
    for (query, expected) in [
        (changed(&|query| query[2] |= 0x80), None),
        (query[..11].to_vec(), None),
        (changed(&|query| query[2] |= 0x28), Some(Rcode::NOTIMP)),
        (changed(&|query| query[5] = 2), Some(Rcode::FORMERR)),
        (changed(&|query| query[12] = 0xc0), Some(Rcode::FORMERR)),
        (query[..20].to_vec(), Some(Rcode::FORMERR)),
        (query[..query.len() - 1].to_vec(), Some(Rcode::FORMERR)),
        (sample::query("a.example", 252), Some(Rcode::REFUSED)),
    ] {
        let answer = forwarder.resolve(&query, Transport::Udp).await;
        let said = Message::from_octets(answer).ok().map(|answer| answer.header().rcode());
        assert_eq!(said, expected, "{query:02x?}");
    }
}

#[tokio::test]
async fn an_upstream_that_asks_us_is_found_and_not_asked_any_more() {
    let ours: Arc<Mutex<Option<Forwarder>>> = Arc::default();
    let (reported, report) = std::sync::mpsc::channel();
    let relay = {
        let ours = ours.clone();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut query = [0; 2048];
            while let Ok((length, client)) = socket.recv_from(&mut query).await {
                let forwarder = ours.lock().expect("no panic").clone().expect("it is there by now");
                let answer = forwarder.resolve(&query[..length], Transport::Udp).await;
                let _ = socket.send_to(&answer, client).await;
            }
        });
        address
    };
    let fake = Fake::replying(right).await;
    let config = ForwardConfig { upstreams: Upstreams::Fixed(vec![relay, fake.address]), ..ForwardConfig::default() };
    let reported = Mutex::new(reported);
    let forwarder = Forwarder::build(
        config,
        TIMES,
        Box::new(move |text| drop(reported.lock().expect("no panic").send(text.to_owned()))),
    );
    *ours.lock().expect("no panic") = Some(forwarder.clone());
    forwarder.find_loops().await;
    let text = report.try_recv().expect("a report");
    assert!(text.starts_with(&format!("loop: what upstream {relay} is asked")), "{text}");
    assert_eq!(addresses(&ask(&forwarder, &sample::query("a.example", A)).await).len(), 1);
    assert_eq!((forwarder.counters().loops, forwarder.counters().timeouts), (1, 0));
    assert!(report.try_recv().is_err(), "the other one is no loop");
}

#[tokio::test]
async fn the_target_of_an_external_name_is_asked_for() {
    let fake = Fake::replying(right).await;
    let target = Target::from_str("db.example").expect("a name");
    let upstream = forwarder(&[&fake]).chase(&target, Rtype::A).await;
    assert_eq!(addresses(&Message::from_octets(upstream).expect("an answer")).len(), 1);
}

#[test]
fn no_more_questions_are_in_flight_than_there_is_room_for() {
    let flights = Flights::default();
    let key = |number: usize| {
        let query = sample::query(&format!("n{number}.example"), A);
        Query::check(&query, Transport::Udp).expect("a query").key()
    };
    let mut captains = Vec::new();
    for number in 0..FLIGHTS_MAX {
        match flights.board(&key(number)) {
            Boarding::Begin(_, captain) => captains.push(captain),
            _ => panic!("there is room for {number}"),
        }
    }
    assert!(matches!(flights.board(&key(FLIGHTS_MAX)), Boarding::Full));
    assert!(matches!(flights.board(&key(0)), Boarding::Join(_)), "who waits with others takes no room");
    captains.pop();
    assert!(matches!(flights.board(&key(FLIGHTS_MAX)), Boarding::Begin(..)));
}

proptest! {
    #[test]
    fn any_bytes_of_an_upstream_are_refused_or_hold(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        upstream_answer(&bytes);
    }

    #[test]
    fn any_damage_to_an_answer_is_refused_or_holds(
        damage in proptest::collection::vec((2usize..400, any::<u8>()), 0..4),
        counts in (0usize..4, 0usize..2),
        cut in 0usize..400,
    ) {
        let asked = sample::asked("a.example", A);
        let records: Vec<_> = (0..counts.0).map(|number| sample::address(60, [192, 0, 2, number as u8])).collect();
        let mut answer = sample::answer(&asked, 0, &records, &vec![sample::soa(60, 30); counts.1]);
        for (position, value) in damage {
            let length = answer.len();
            answer[position % length] = value;
        }
        answer.truncate(answer.len().max(cut));
        upstream_answer(&answer);
    }
}
