//! One DNS answer: the name that was asked for and the addresses that it leads to (RFC 1035, RFC 3596).

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, RCODE, ResourceRecord};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    let message = Packet::parse(payload).map_err(|_| Unreadable)?;
    let is_answer = message.has_flags(PacketFlag::RESPONSE) && message.opcode() == OPCODE::StandardQuery;
    let [question] = message.questions.as_slice() else { return Ok(None) };
    if !is_answer || message.rcode() != RCODE::NoError {
        return Ok(None);
    }
    let Some(asked) = text(&question.qname) else { return Ok(None) };
    let records: Vec<(String, &ResourceRecord<'_>)> = message
        .answers
        .iter()
        .filter(|record| record.class == CLASS::IN)
        .filter_map(|record| Some((text(&record.name)?, record)))
        .collect();
    let (owner, shortest) = follow(&asked, &records);
    let of_owner = records.iter().filter(|(name, _)| *name == owner);
    let addresses = of_owner.filter_map(|(_, record)| Some((address(record)?, ttl(record).min(shortest)))).collect();
    Ok(Some(Answer { name: asked.into(), addresses }))
}

/// The name that the CNAMEs of `asked` end in, and the shortest time of one.
fn follow(asked: &str, records: &[(String, &ResourceRecord<'_>)]) -> (String, Duration) {
    let (mut owner, mut shortest) = (asked.to_owned(), Duration::MAX);
    for _ in 0..CHAIN_MAX {
        let alias = records.iter().find_map(|(name, record)| match &record.rdata {
            RData::CNAME(alias) if *name == owner => Some((text(&alias.0)?, ttl(record))),
            _ => None,
        });
        let Some((next, ttl)) = alias else { break };
        (owner, shortest) = (next, shortest.min(ttl));
    }
    (owner, shortest)
}

fn address(record: &ResourceRecord<'_>) -> Option<IpAddr> {
    match &record.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.address).into()),
        RData::AAAA(aaaa) => Some(Ipv6Addr::from(aaaa.address).into()),
        _ => None,
    }
}

/// How long a record holds. One with the highest bit set does not at all (RFC 2181 §8).
fn ttl(record: &ResourceRecord<'_>) -> Duration {
    let seconds = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
    Duration::from_secs(seconds.into())
}

/// A name as rules write it; `None` if no rule can.
fn text(name: &Name<'_>) -> Option<String> {
    let mut text = String::new();
    for label in name.get_labels() {
        let label = label.as_ref();
        if label.is_empty() || !label.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) {
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
