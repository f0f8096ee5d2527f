//! An upstream's answer, checked once and kept in the form in which clients get it.
//!
//! In: bytes that claim to be an answer. Out: a [`Stored`], or why it is none. What is kept is the message up to its OPT record,
//! with every TTL lowered to the time for which all of it may be remembered; where the TTLs stand and where records end is
//! noted, so that giving it to a client is copying it, counting down and cutting.

use super::question::{AD, CD, HEADER_BYTES, Key, OPT_BYTES, QUESTION_BYTES_MAX, Query, RD, push_opt};
use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, ParsedName};
use domain::rdata::Soa;
use std::time::{Duration, Instant};

/// Longest that an answer with records is remembered; as CoreDNS.
pub(super) const POSITIVE_MAX: Duration = Duration::from_secs(3600);

/// Longest that "there is no such name" is remembered; as CoreDNS. RFC 2308 §5 takes one to three hours for sensible.
pub(super) const NEGATIVE_MAX: Duration = Duration::from_secs(1800);

/// How long it is remembered that nobody could tell: RFC 9520 §3.2 wants one second at least and RFC 2308 §7 five minutes at
/// most. Short, because a resolver that comes back is to be felt at once.
pub(super) const FAILURE_MAX: Duration = Duration::from_secs(1);

/// Where a record's TTL stands and where the record ends.
#[derive(Clone, Copy, Debug)]
struct Place {
    ttl: u16,
    end: u16,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Stored {
    message: Box<[u8]>,
    /// Of all records, in order.
    places: Box<[Place]>,
    /// How many of them are in the answer section.
    answers: u16,
    question_bytes: usize,
    since: Instant,
    /// How long it may be remembered.
    life: Duration,
}

/// Why bytes are not the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// They answer something else: whoever sent them did not see the question, or is late.
    Other,
    /// They claim to answer it and do not hold together.
    Malformed,
    /// They are the beginning of an answer that is too long for a datagram.
    Truncated,
    /// The server does not know EDNS (RFC 6891 §6.2.2).
    NoEdns,
}

impl Stored {
    /// Checks that `message` is an answer to the query `asked`, and takes it over.
    pub(super) fn check(message: &[u8], asked: &[u8], now: Instant) -> Result<Stored, NoAnswer> {
        let question_bytes = asked_question(asked).len();
        let parsed = Message::from_octets(message).map_err(|_| NoAnswer::Other)?;
        let header = parsed.header();
        if message[..2] != asked[..2] || !header.qr() || header.opcode().to_int() != 0 {
            return Err(NoAnswer::Other);
        }
        // Servers that do not know EDNS may answer with a header alone.
        let has_edns = asked[10..12] != [0, 0];
        if has_edns && [Rcode::FORMERR, Rcode::NOTIMP].contains(&header.rcode()) {
            return Err(NoAnswer::NoEdns);
        }
        let question = message.get(HEADER_BYTES..HEADER_BYTES + question_bytes).ok_or(NoAnswer::Other)?;
        if parsed.header_counts().qdcount() != 1 || !question.eq_ignore_ascii_case(asked_question(asked)) {
            return Err(NoAnswer::Other);
        }
        if header.tc() {
            return Err(NoAnswer::Truncated);
        }
        let mut read = Read::of(&parsed, question).map_err(|_| NoAnswer::Malformed)?;
        if message.len() > usize::from(u16::MAX) || read.extended_rcode {
            return Err(NoAnswer::Malformed);
        }
        let life = read.life(header.rcode());
        let mut message: Box<[u8]> = message[..read.end].into();
        for (section, count) in read.counts.iter().enumerate() {
            message[6 + 2 * section..8 + 2 * section].copy_from_slice(&count.to_be_bytes());
        }
        let life_s = life.as_secs() as u32;
        for place in &read.places {
            let ttl = &mut message[usize::from(place.ttl)..][..4];
            let lowered = read_ttl(ttl).min(life_s);
            ttl.copy_from_slice(&lowered.to_be_bytes());
        }
        read.places.shrink_to_fit();
        Ok(Stored { message, places: read.places.into(), answers: read.counts[0], question_bytes, since: now, life })
    }

    /// That nobody could tell, as the answer to the query `asked`.
    pub(super) fn failure(asked: &[u8], now: Instant) -> Stored {
        let question = asked_question(asked);
        let mut message = vec![0; HEADER_BYTES];
        message[5] = 1;
        message[3] = Rcode::SERVFAIL.to_int();
        message.extend_from_slice(question);
        let question_bytes = question.len();
        Stored {
            message: message.into(),
            places: Box::default(),
            answers: 0,
            question_bytes,
            since: now,
            life: FAILURE_MAX,
        }
    }

    pub(super) fn rcode(&self) -> Rcode {
        Rcode::masked_from_int(self.message[3])
    }

    /// When it is to be forgotten; `None` if it is not to be remembered at all.
    pub(super) fn expires(&self) -> Option<Instant> {
        (!self.life.is_zero()).then(|| self.since + self.life)
    }

    /// Room that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.message.len() + size_of_val(&*self.places) + size_of::<Stored>()
    }

    /// Writes the answer to `query`, which asks what this answers, into `answer`.
    pub(super) fn write(&self, query: &Query<'_>, now: Instant, answer: &mut Vec<u8>) {
        query.begin(self.rcode(), answer);
        // That a validating resolver found the data authentic is for clients that ask (RFC 6840 §5.8).
        if query.dnssec_ok() || query.flags() & AD != 0 {
            answer[3] |= self.message[3] & AD;
        }
        let begin = HEADER_BYTES + self.question_bytes;
        let room = query.answer_bytes_max() - query.opt_bytes();
        let places = if self.message.len() <= room { &self.places[..] } else { self.fitting(room) };
        let end = places.last().map_or(begin, |place| usize::from(place.end));
        answer.extend_from_slice(&self.message[begin..end]);
        if places.len() == self.places.len() {
            answer[6..HEADER_BYTES].copy_from_slice(&self.message[6..HEADER_BYTES]);
        } else {
            answer[2] |= 0x02;
            answer[6..8].copy_from_slice(&(places.len() as u16).to_be_bytes());
        }
        let age_s = now.saturating_duration_since(self.since).as_secs() as u32;
        for place in places {
            let ttl = &mut answer[usize::from(place.ttl)..][..4];
            let left = read_ttl(ttl).saturating_sub(age_s);
            ttl.copy_from_slice(&left.to_be_bytes());
        }
        query.end(answer);
    }

    /// The first records of the answer section that fit into `room` bytes: clients that never ask over TCP have those.
    fn fitting(&self, room: usize) -> &[Place] {
        let answers = &self.places[..usize::from(self.answers)];
        &answers[..answers.partition_point(|place| usize::from(place.end) <= room)]
    }
}

/// A query of our own: header, question, and perhaps an OPT record.
fn asked_question(asked: &[u8]) -> &[u8] {
    let has_edns = asked[10..12] != [0, 0];
    &asked[HEADER_BYTES..asked.len() - if has_edns { OPT_BYTES } else { 0 }]
}

/// The query that asks `question` of an upstream.
pub(super) fn ask(question: &[u8], id: u16, key: &Key, edns: bool) -> Vec<u8> {
    let flags = key.as_bytes()[key.as_bytes().len() - 1];
    let mut query = Vec::with_capacity(HEADER_BYTES + QUESTION_BYTES_MAX + OPT_BYTES);
    query.extend_from_slice(&id.to_be_bytes());
    // AD asks for the AD bit in the answer (RFC 6840 §5.7); who did not ask for it does not get it.
    query.extend_from_slice(&[RD, AD | (flags & CD)]);
    query.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    query.extend_from_slice(question);
    if edns {
        push_opt(flags & 1 != 0, &mut query);
    }
    query
}

/// A TTL; one with the highest bit set counts as none (RFC 2181 §8).
fn read_ttl(bytes: &[u8]) -> u32 {
    let ttl = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

/// What a message's records say, up to its OPT record.
#[derive(Debug, Default)]
struct Read {
    places: Vec<Place>,
    /// Records by section.
    counts: [u16; 3],
    end: usize,
    ttl_min: Option<u32>,
    /// Whether a record of the type that was asked for is there.
    has_wanted: bool,
    /// How long the SOA record lets "no" be remembered.
    negative_s: Option<u32>,
    extended_rcode: bool,
}

impl Read {
    fn of(message: &Message<&[u8]>, question: &[u8]) -> Result<Read, domain::base::wire::ParseError> {
        let wanted = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
        let mut read = Read { end: HEADER_BYTES + question.len(), ..Read::default() };
        let mut section = Some(message.answer()?);
        for index in 0..3 {
            let Some(mut records) = section.take() else { break };
            while let Some(record) = records.next() {
                let record = record?;
                if index == 2 && matches!(record.rtype(), Rtype::OPT | Rtype::TSIG) {
                    // Both are between two servers. What comes after them is optional, as all of this section.
                    let is_opt = record.rtype() == Rtype::OPT;
                    read.extended_rcode = is_opt && record.ttl().as_secs() >> 24 != 0;
                    return Ok(read);
                }
                let end = records.pos();
                let ttl = end - usize::from(record.rdlen()) - 6;
                let place = |position: usize| u16::try_from(position).unwrap_or(u16::MAX);
                read.places.push(Place { ttl: place(ttl), end: place(end) });
                read.counts[index] += 1;
                read.end = end;
                let ttl = read_ttl(&record.ttl().as_secs().to_be_bytes());
                read.ttl_min = Some(read.ttl_min.map_or(ttl, |least| least.min(ttl)));
                read.has_wanted |= index == 0 && (wanted == Rtype::ANY.to_int() || record.rtype().to_int() == wanted);
                if index == 1
                    && let Some(soa) = record.to_record::<Soa<ParsedName<_>>>()?
                {
                    read.negative_s = Some(read_ttl(&soa.data().minimum().as_secs().to_be_bytes()).min(ttl));
                }
            }
            section = records.next_section()?;
        }
        Ok(read)
    }

    /// How long the answer may be remembered.
    fn life(&self, rcode: Rcode) -> Duration {
        let least = Duration::from_secs(self.ttl_min.unwrap_or(0).into());
        match rcode {
            Rcode::NOERROR if self.has_wanted => least.min(POSITIVE_MAX),
            // No SOA record, no memory (RFC 2308 §5).
            Rcode::NOERROR | Rcode::NXDOMAIN => {
                let said = Duration::from_secs(self.negative_s.unwrap_or(0).into());
                least.min(said).min(NEGATIVE_MAX)
            }
            Rcode::SERVFAIL => FAILURE_MAX,
            _ => Duration::ZERO,
        }
    }
}
