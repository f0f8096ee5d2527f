use super::*;
use domain::base::iana::Rtype;
use domain::base::{MessageBuilder, Name, StaticCompressor};
use proptest::prelude::*;
use std::str::FromStr;

enum Value {
    V4([u8; 4]),
    V6(u16),
    Alias(&'static str),
}

fn name(text: &str) -> Name<Vec<u8>> {
    Name::from_str(&text.replace(' ', "\\032")).unwrap()
}

/// An answer to a question for `asked`, with these records.
fn message(asked: &str, records: &[(&str, u32, Value)]) -> Vec<u8> {
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).unwrap();
    builder.header_mut().set_qr(true);
    let mut builder = builder.question();
    builder.push((name(asked), Rtype::A)).unwrap();
    let mut builder = builder.answer();
    for (owner, ttl, value) in records {
        let pushed = match value {
            Value::V4(octets) => builder.push((name(owner), *ttl, A::new((*octets).into()))),
            Value::V6(last) => {
                builder.push((name(owner), *ttl, Aaaa::new([0x2001, 0xdb8, 0, 0, 0, 0, 0, *last].into())))
            }
            Value::Alias(alias) => builder.push((name(owner), *ttl, Cname::new(name(alias)))),
        };
        pushed.unwrap();
    }
    builder.finish().into_target()
}

/// What is read, as `NAME: ADDRESS/SECONDS ...`.
fn told(bytes: &[u8]) -> String {
    match read_datagram(bytes) {
        Ok(Some(answer)) => {
            let addresses = answer.addresses.iter().map(|(addr, ttl)| format!(" {addr}/{}", ttl.as_secs()));
            format!("{}:{}", answer.name, addresses.collect::<String>())
        }
        Ok(None) => "nothing".to_owned(),
        Err(Unreadable) => "unreadable".to_owned(),
    }
}

use Value::{Alias, V4, V6};

#[test]
fn n18_the_addresses_of_the_name_that_was_asked_for_are_read_with_their_own_times() {
    let bytes =
        message("Www.Example.COM", &[("www.example.com", 30, V4([192, 0, 2, 1])), ("WWW.example.com", 5, V6(9))]);
    assert_eq!(told(&bytes), "www.example.com: 192.0.2.1/30 2001:db8::9/5");
}

#[test]
fn n18_a_chain_of_aliases_in_one_answer_is_followed_and_the_shortest_time_on_it_counts() {
    let records = [
        ("b.example", 60, Alias("c.example")),
        ("a.example", 20, Alias("b.example")),
        ("c.example", 300, V4([192, 0, 2, 1])),
        ("c.example", 10, V4([192, 0, 2, 2])),
        ("d.example", 300, V4([192, 0, 2, 3])),
        ("a.example", 300, V4([192, 0, 2, 4])),
    ];
    assert_eq!(told(&message("a.example", &records)), "a.example: 192.0.2.1/20 192.0.2.2/10");
}

#[test]
fn n18_an_alias_that_leads_round_ends() {
    let records = [("a.example", 1, Alias("b.example")), ("b.example", 1, Alias("a.example"))];
    assert_eq!(told(&message("a.example", &records)), "a.example:");
}

#[test]
fn n18_what_is_no_answer_says_nothing() {
    let bytes = message("a.example", &[("a.example", 30, V4([192, 0, 2, 1]))]);
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        told(&bytes)
    };
    assert_eq!(changed(2, bytes[2] & 0x7f), "nothing", "a question");
    assert_eq!(changed(2, bytes[2] | 0x28), "nothing", "another operation");
    assert_eq!(changed(3, bytes[3] | 3), "nothing", "no such name");
    assert_eq!(told(&bytes[..bytes.len() - 1]), "unreadable");
    assert_eq!(told(&[]), "unreadable");
    assert_eq!(told(&vec![0; DATAGRAM_BYTES_MAX + 1]), "unreadable");
    assert_eq!(told(&message("spaced out.example", &[("spaced out.example", 1, V4([192, 0, 2, 1]))])), "nothing");
}

#[test]
fn n18_a_time_with_the_highest_bit_is_none() {
    let bytes = message("a.example", &[("a.example", u32::MAX, V4([192, 0, 2, 1]))]);
    assert_eq!(told(&bytes), "a.example: 192.0.2.1/0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn an_answer_with_any_changes_is_read_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in 0..300usize,
    ) {
        let records = [("a.example", 20, Alias("b.example")), ("b.example", 300, V4([192, 0, 2, 1])), ("b.example", 10, V6(1))];
        let mut bytes = message("a.example", &records);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut);
        let _ = read(&bytes);
    }
}
