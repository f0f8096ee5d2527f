//! One DNS answer: the name that was asked for and the addresses that it leads to (RFC 1035, RFC 3596).

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message::Section;
use domain::base::{Message, ParsedName, ParsedRecord};
use domain::rdata::{A, Aaaa, Cname};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Longest answer in a datagram that is read. Who sends more than 4,096 bytes over UDP is not a resolver (RFC 6891 §6.2.5).
const DATAGRAM_BYTES_MAX: usize = 4_096;

/// CNAMEs that are followed.
const CHAIN_MAX: usize = 16;

/// It is no DNS message, or not one that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// What was asked for, in lower case and without a final dot.
    pub(super) name: Arc<str>,
    /// Its addresses, and how long each holds.
    pub(super) addresses: Vec<(IpAddr, Duration)>,
}

/// What the payload of a datagram says; `None` if it names no address.
pub(super) fn read_datagram(payload: &[u8]) -> Result<Option<Answer>, Unreadable> {
    if payload.len() > DATAGRAM_BYTES_MAX { Err(Unreadable) } else { read(payload) }
}

/// The same for a message of any length.
pub(super) fn read(payload: &[u8]) -> Result<Option<Answer>, Unreadable> {
    let message = Message::from_slice(payload).map_err(|_| Unreadable)?;
    let asked = match message.question().collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([question]) => text(question.qname()),
        Ok(_) => None,
        Err(_) => return Err(Unreadable),
    };
    let mut records = Vec::new();
    for record in message.iter() {
        let (record, section) = record.map_err(|_| Unreadable)?;
        if let (Section::Answer, Class::IN, Some(owner)) = (section, record.class(), text(&record.owner())) {
            records.push(Record { owner, ttl: ttl(&record), data: data(&record)? });
        }
    }
    let header = message.header();
    let is_answer = header.qr() && header.opcode() == Opcode::QUERY && header.rcode() == Rcode::NOERROR;
    let Some(asked) = asked.filter(|_| is_answer) else { return Ok(None) };
    let (owner, shortest) = follow(&asked, &records);
    let of_owner = records.iter().filter(|record| record.owner == owner);
    let addresses = of_owner.filter_map(|record| match record.data {
        Data::Address(addr) => Some((addr, record.ttl.min(shortest))),
        _ => None,
    });
    Ok(Some(Answer { name: asked.as_str().into(), addresses: addresses.collect() }))
}

/// A record that answers.
struct Record {
    owner: String,
    ttl: Duration,
    data: Data,
}

enum Data {
    Address(IpAddr),
    /// Another name; `None` if no rule can name it.
    Alias(Option<String>),
    Other,
}

fn data(record: &ParsedRecord<'_, [u8]>) -> Result<Data, Unreadable> {
    if let Some(a) = record.to_record::<A>().map_err(|_| Unreadable)? {
        return Ok(Data::Address(a.data().addr().into()));
    }
    if let Some(aaaa) = record.to_record::<Aaaa>().map_err(|_| Unreadable)? {
        return Ok(Data::Address(aaaa.data().addr().into()));
    }
    let alias = record.to_record::<Cname<_>>().map_err(|_| Unreadable)?;
    Ok(alias.map_or(Data::Other, |alias| Data::Alias(text(alias.data().cname()))))
}

/// The name that the CNAMEs of `asked` end in, and the shortest time of one.
fn follow(asked: &str, records: &[Record]) -> (String, Duration) {
    let (mut owner, mut shortest) = (asked.to_owned(), Duration::MAX);
    for _ in 0..CHAIN_MAX {
        let alias = records.iter().find_map(|record| match &record.data {
            Data::Alias(Some(alias)) if record.owner == owner => Some((alias.clone(), record.ttl)),
            _ => None,
        });
        let Some((next, ttl)) = alias else { break };
        (owner, shortest) = (next, shortest.min(ttl));
    }
    (owner, shortest)
}

/// How long a record holds. One with the highest bit set does not at all (RFC 2181 §8).
fn ttl(record: &ParsedRecord<'_, [u8]>) -> Duration {
    let seconds = record.ttl().as_secs();
    Duration::from_secs(if seconds > i32::MAX as u32 { 0 } else { seconds.into() })
}

/// A name as rules write it; `None` if no rule can.
fn text<O: AsRef<[u8]>>(name: &ParsedName<O>) -> Option<String> {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        let label = label.as_slice();
        if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| byte.to_ascii_lowercase() as char));
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
