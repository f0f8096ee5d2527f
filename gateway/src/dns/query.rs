//! A query, read once and checked (RFC 1035 §4, RFC 6891).
//!
//! In: bytes from anybody. Out: what is asked, or what is wrong. The name of the question stays where it is, and a copy in lower case
//! is what names are looked up by. A message with more in it than a query has (answers, several questions, bytes after the end) is
//! refused rather than read generously.

use domain::base::iana::{Class, Opcode, Rcode, Rtype};
use domain::base::opt::Opt;
use domain::base::{Header, HeaderCounts, Message, Name};

/// Bytes of a header, and of what follows the name in a question.
const HEADER_BYTES: usize = 12;
const QUESTION_TAIL_BYTES: usize = 4;

/// Longest name (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// Records of each section beside the question that a query may have: updates and zone transfers know some; two in the last one are
/// OPT and a signature.
const ANSWERS_MAX: u16 = 1;
const AUTHORITIES_MAX: u16 = 1;
const ADDITIONAL_MAX: u16 = 2;

/// A query of one question.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Id, flags and opcode.
    pub header: Header,
    /// The name that is asked for, as it was written.
    pub name: &'a Name<[u8]>,
    lower: [u8; NAME_BYTES_MAX],
    /// The type that is asked for.
    pub qtype: Rtype,
    /// The class that is asked for.
    pub class: Class,
    /// What the client says of itself, if it does.
    pub edns: Option<Edns>,
}

/// What an OPT record says (RFC 6891 §6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Longest datagram that the client takes, in bytes.
    pub payload_bytes: u16,
    /// Its version of EDNS; there is only 0.
    pub version: u8,
    /// Whether it wants signatures (DO).
    pub dnssec_ok: bool,
}

/// What is wrong with a message.
#[derive(Clone, Debug)]
pub enum Unreadable<'a> {
    /// Nothing is to be said: it is no query at all.
    Silence,
    /// This is to be said, with nothing but the query's id and opcode.
    Header(Header, Rcode),
    /// This is to be said; the question could be read.
    Question(Box<Query<'a>>, Rcode),
}

impl<'a> Query<'a> {
    /// Reads `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Query<'a>, Unreadable<'a>> {
        let message = Message::from_slice(bytes).map_err(|_| Unreadable::Silence)?;
        let (header, counts) = (message.header(), message.header_counts());
        if header.qr() {
            return Err(Unreadable::Silence);
        }
        if header.opcode() != Opcode::QUERY {
            return Err(Unreadable::Header(header, Rcode::NOTIMP));
        }
        let form_err = Unreadable::Header(header, Rcode::FORMERR);
        if counts.qdcount() != 1 {
            return Err(form_err);
        }
        let Some((mut query, end)) = Query::question(header, bytes) else { return Err(form_err) };
        match read_edns(message, counts, end) {
            Some(edns) => query.edns = edns,
            None => return Err(Unreadable::Question(Box::new(query), Rcode::FORMERR)),
        }
        Ok(query)
    }

    /// Reads the question, and where it ends. A name in it cannot be compressed: there is nothing before it that it could point to.
    fn question(header: Header, bytes: &'a [u8]) -> Option<(Query<'a>, usize)> {
        let rest = &bytes[HEADER_BYTES..];
        let mut len = 0;
        loop {
            let label = usize::from(*rest.get(len)?);
            len += 1 + label;
            if label > 63 || len > NAME_BYTES_MAX {
                return None;
            }
            if label == 0 {
                break;
            }
        }
        let name = Name::from_slice(&rest[..len]).ok()?;
        let mut lower = [0; NAME_BYTES_MAX];
        lower[..len].copy_from_slice(&rest[..len]);
        // The lengths of labels are smaller than any letter.
        lower[..len].make_ascii_lowercase();
        let tail = rest.get(len..len + QUESTION_TAIL_BYTES)?;
        let qtype = Rtype::from_int(u16::from_be_bytes([tail[0], tail[1]]));
        let class = Class::from_int(u16::from_be_bytes([tail[2], tail[3]]));
        let query = Query { header, name, lower, qtype, class, edns: None };
        Some((query, HEADER_BYTES + len + QUESTION_TAIL_BYTES))
    }

    /// The name in lower case: labels with their lengths in front, the root's too.
    pub fn lower(&self) -> &[u8] {
        &self.lower[..self.name.len()]
    }
}

/// The part of `name` in front of `zone`, both in lower case, if it is that zone or below it. Names are labels with their lengths in
/// front.
pub(super) fn below<'a>(name: &'a [u8], zone: &[u8]) -> Option<&'a [u8]> {
    let below = name.strip_suffix(zone)?;
    // A suffix of the bytes is one of the labels only if a label begins there.
    let mut at = 0;
    while at < below.len() {
        at += 1 + usize::from(below[at]);
    }
    (at == below.len()).then_some(below)
}

/// What the message says of EDNS; `None` if something after the question cannot be read or does not belong into a query.
fn read_edns(message: &Message<[u8]>, counts: HeaderCounts, question_end: usize) -> Option<Option<Edns>> {
    let bytes = message.as_slice();
    if counts.ancount() == 0 && counts.nscount() == 0 && counts.arcount() == 0 {
        return (bytes.len() == question_end).then_some(None);
    }
    if counts.ancount() > ANSWERS_MAX || counts.nscount() > AUTHORITIES_MAX || counts.arcount() > ADDITIONAL_MAX {
        return None;
    }
    let mut section = message.answer().ok()?;
    for _ in 0..2 {
        for record in &mut section {
            if record.ok()?.rtype() == Rtype::OPT {
                return None;
            }
        }
        section = section.next_section().ok()??;
    }
    let mut found = None;
    for record in &mut section {
        let record = record.ok()?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        let record = record.into_record::<Opt<_>>().ok()??;
        if found.is_some() || !record.owner().is_root() {
            return None;
        }
        let ttl = record.ttl().as_secs();
        found = Some(Edns {
            payload_bytes: record.class().to_int(),
            version: (ttl >> 16) as u8,
            dnssec_ok: ttl & 0x8000 != 0,
        });
    }
    (section.pos() == bytes.len()).then_some(found)
}
