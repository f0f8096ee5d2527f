//! A client's query, as far as a forwarder needs it: what is asked, and how the answer is to be given.

use crate::dns::{self, Transport, Unreadable};
use domain::base::iana::Rcode;

/// Bytes of a message's header.
pub(super) const HEADER_BYTES: usize = 12;

/// The longest question: a name of 255 bytes, type and class.
pub(super) const QUESTION_BYTES_MAX: usize = 255 + 4;

/// Least that a client takes in a datagram (RFC 1035 §4.2.1).
const DATAGRAM_BYTES_MIN: u16 = 512;

/// Most that is sent in a datagram and asked to be sent: what gets through every path without fragments (DNS flag day 2020).
pub(super) const DATAGRAM_BYTES_MAX: u16 = 1232;

/// Bytes of an OPT record without options.
pub(super) const OPT_BYTES: usize = 11;

/// Bit of the header's third byte: recursion desired.
pub(super) const RD: u8 = 0x01;

/// Bits of the header's fourth byte: recursion available, authentic data, checking disabled.
pub(super) const RA: u8 = 0x80;
pub(super) const AD: u8 = 0x20;
pub(super) const CD: u8 = 0x10;

/// A query that can be answered.
#[derive(Clone, Debug)]
pub(super) struct Query<'a> {
    message: &'a [u8],
    /// The question's name, type and class as they came.
    pub(super) question: &'a [u8],
    read: dns::Query<'a>,
    transport: Transport,
}

/// Why a query is not answered by asking somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// It is no query; nothing is to be said.
    NoQuery,
    /// This is to be said.
    Error(Rcode),
}

impl<'a> Query<'a> {
    /// Reads a query.
    pub(super) fn check(message: &'a [u8], transport: Transport) -> Result<Query<'a>, Unanswerable> {
        let read = dns::Query::parse(message).map_err(|unreadable| match unreadable {
            Unreadable::Silence => Unanswerable::NoQuery,
            Unreadable::Header(_, rcode) | Unreadable::Question(_, rcode) => Unanswerable::Error(rcode),
        })?;
        let question = &message[HEADER_BYTES..HEADER_BYTES + read.name.len() + 4];
        // Transfers and what is about the message itself (RFC 6895 §3.1); ANY is a question like others.
        match read.qtype.to_int() {
            0 | 41 | 128..=254 => Err(Unanswerable::Error(Rcode::REFUSED)),
            _ => Ok(Query { message, question, read, transport }),
        }
    }

    /// What the answer depends on.
    pub(super) fn key(&self) -> Key {
        let mut key = Key { bytes: [0; QUESTION_BYTES_MAX + 1], len: self.question.len() + 1 };
        key.bytes[..self.question.len()].copy_from_slice(self.question);
        key.bytes[..self.read.name.len()].copy_from_slice(self.read.lower());
        key.bytes[self.question.len()] = u8::from(self.dnssec_ok()) | (self.flags() & CD);
        key
    }

    /// Whether the client asks for more than what is known here (RD).
    pub(super) fn wants_recursion(&self) -> bool {
        self.message[2] & RD != 0
    }

    pub(super) fn dnssec_ok(&self) -> bool {
        self.read.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The header's fourth byte.
    pub(super) fn flags(&self) -> u8 {
        self.message[3]
    }

    /// Most bytes of an answer.
    pub(super) fn answer_bytes_max(&self) -> usize {
        match (self.transport, self.read.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => usize::from(DATAGRAM_BYTES_MIN),
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.payload_bytes.clamp(DATAGRAM_BYTES_MIN, DATAGRAM_BYTES_MAX))
            }
        }
    }

    /// Bytes that the answer's own OPT record takes.
    pub(super) fn opt_bytes(&self) -> usize {
        if self.read.edns.is_some() { OPT_BYTES } else { 0 }
    }

    /// Begins an answer in `answer`: header and question, no records yet.
    pub(super) fn begin(&self, rcode: Rcode, answer: &mut Vec<u8>) {
        answer.clear();
        answer.extend_from_slice(&self.message[..2]);
        answer.push(0x80 | (self.message[2] & RD));
        answer.push(RA | (self.flags() & CD) | rcode.to_int());
        answer.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        answer.extend_from_slice(self.question);
    }

    /// Ends an answer: the OPT record, if the client sent one.
    pub(super) fn end(&self, answer: &mut Vec<u8>) {
        if self.read.edns.is_some() {
            push_opt(self.dnssec_ok(), answer);
            let additional = u16::from_be_bytes([answer[10], answer[11]]) + 1;
            answer[10..12].copy_from_slice(&additional.to_be_bytes());
        }
    }

    /// An answer without records.
    pub(super) fn error(&self, rcode: Rcode, answer: &mut Vec<u8>) {
        self.begin(rcode, answer);
        self.end(answer);
    }
}

/// The answer `rcode` to a message that is no more than a header to go by.
pub(super) fn bare_error(message: &[u8], rcode: Rcode, answer: &mut Vec<u8>) {
    answer.clear();
    let Some(header) = message.get(..4) else { return };
    answer.extend_from_slice(&[header[0], header[1], 0x80 | (header[2] & (0x78 | RD)), RA | rcode.to_int()]);
    answer.extend_from_slice(&[0; 8]);
}

/// Appends an OPT record without options (RFC 6891 §6.1.2).
pub(super) fn push_opt(dnssec_ok: bool, message: &mut Vec<u8>) {
    let size = DATAGRAM_BYTES_MAX.to_be_bytes();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    message.extend_from_slice(&[0, 0, 41, size[0], size[1], 0, 0, flags, 0, 0, 0]);
}

/// What an answer depends on: name in lower case, type, class, DO and CD. Kept without a heap, so that what is remembered is
/// found without one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    bytes: [u8; QUESTION_BYTES_MAX + 1],
    len: usize,
}

impl Key {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The name in wire form and lower case.
    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..self.len - 5]
    }
}
