//! What holds for any bytes that an upstream may send, for property tests and fuzzing alike.

use super::cache::Cache;
use super::question::Query;
use super::stored::Stored;
use crate::dns::Transport;
use domain::base::Message;
use domain::base::iana::Rcode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Takes `bytes` for an upstream's answer to a fixed question. It is refused, or what clients get of it holds together, keeps to
/// their limits and never promises more time than was allowed.
pub fn upstream_answer(bytes: &[u8]) {
    let began = Instant::now();
    let client = sample::query("a.example", 1);
    let query = Query::check(&client, Transport::Udp).expect("a query");
    let asked = sample::asked("a.example", 1);
    let mut message = bytes.to_vec();
    if let Some(id) = message.get_mut(..2) {
        id.copy_from_slice(&asked[..2]);
    }
    let Ok(stored) = Stored::check(&message, &asked, began) else { return };
    let cache = Cache::new();
    let stored = Arc::new(stored);
    cache.insert(&query.key(), stored.clone(), began);
    assert_eq!(cache.find(&query.key(), began).is_some(), stored.expires().is_some());
    for age in [0, 1, 30, 3599] {
        let now = began + Duration::from_secs(age);
        let Some(stored) = cache.find(&query.key(), now) else { continue };
        for transport in [Transport::Udp, Transport::Tcp] {
            let query = Query::check(&client, transport).expect("a query");
            let mut answer = Vec::new();
            stored.write(&query, now, &mut answer);
            hold(&answer, &client, transport, age as u32);
        }
    }
}

fn hold(answer: &[u8], client: &[u8], transport: Transport, age_s: u32) {
    assert!(answer.len() <= if transport == Transport::Udp { 1232 } else { 65_535 + 11 }, "{} bytes", answer.len());
    let parsed = Message::from_octets(answer).expect("a message");
    assert!(parsed.header().qr() && parsed.header().ra() && parsed.header().id() == 0x1234);
    assert!(parsed.header().rcode() != Rcode::REFUSED || age_s == 0, "no failure is remembered that long");
    assert_eq!(answer[12..client.len() - 11], client[12..client.len() - 11], "the question as it was asked");
    let (_, answers, authority, additional) = parsed.sections().expect("sections");
    let mut optional = 0;
    for record in answers.chain(authority).chain(additional) {
        let record = record.expect("a record");
        if record.rtype().to_int() == 41 {
            optional += 1;
        } else {
            assert!(record.ttl().as_secs() + age_s <= 3600, "{} s after {age_s} s", record.ttl().as_secs());
        }
    }
    assert_eq!(optional, 1, "our own OPT record");
}

/// Messages to begin with.
pub(crate) mod sample {
    use domain::base::Name;
    use std::str::FromStr;

    /// A record: its owner is the question's name.
    #[cfg(test)]
    pub(crate) type Record = Vec<u8>;

    fn question(name: &str, rtype: u16) -> Vec<u8> {
        let name = Name::<Vec<u8>>::from_str(name).expect("a name");
        [name.as_slice(), &rtype.to_be_bytes(), &[0, 1]].concat()
    }

    /// A client's query with RD and an OPT record for datagrams of 4096 bytes.
    pub(crate) fn query(name: &str, rtype: u16) -> Vec<u8> {
        let head = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        [&head[..], &question(name, rtype), &[0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]].concat()
    }

    /// What an upstream is asked.
    pub(crate) fn asked(name: &str, rtype: u16) -> Vec<u8> {
        let mut query = query(name, rtype);
        query[..2].copy_from_slice(&[0xab, 0xcd]);
        query
    }

    /// The record `rtype` of the question's name.
    #[cfg(test)]
    pub(crate) fn record(rtype: u16, ttl: u32, data: &[u8]) -> Record {
        let length = (data.len() as u16).to_be_bytes();
        [&[0xc0, 12][..], &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length, data].concat()
    }

    /// An A record of the question's name.
    #[cfg(test)]
    pub(crate) fn address(ttl: u32, address: [u8; 4]) -> Record {
        record(1, ttl, &address)
    }

    /// An SOA record of the question's name.
    #[cfg(test)]
    pub(crate) fn soa(ttl: u32, minimum: u32) -> Record {
        let numbers = [1, 2, 3, 4, minimum].map(u32::to_be_bytes).concat();
        record(6, ttl, &[&[0xc0, 12, 0xc0, 12][..], &numbers].concat())
    }

    /// An upstream's answer to `asked`, with an OPT record if that has one.
    #[cfg(test)]
    pub(crate) fn answer(asked: &[u8], rcode: u8, answers: &[Record], authority: &[Record]) -> Vec<u8> {
        let opt = if asked[11] == 1 { &asked[asked.len() - 11..] } else { &[] };
        let count = |records: &[Record]| (records.len() as u16).to_be_bytes();
        let head =
            [&asked[..2], &[0x81, 0x80 | rcode, 0, 1], &count(answers), &count(authority), &[0, asked[11]]].concat();
        let question = &asked[12..asked.len() - opt.len()];
        [&head[..], question, &answers.concat(), &authority.concat(), opt].concat()
    }
}
