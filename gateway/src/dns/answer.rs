//! An answer as it is written (RFC 1035 §4, RFC 6891 §6.1).
//!
//! Sections are filled in order: records that answer, the SOA of a zone where there are none, what helps the client besides. What
//! does not fit is left out; a client that misses a part of the answer is told so (TC) and asks again over TCP. Room for what is said of
//! EDNS is kept free from the start.

use super::Transport;
use super::query::{Edns, Query};
use domain::base::iana::{Class, OptRcode, Rcode};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, PushError};
use domain::base::name::Chain;
use domain::base::record::ComposeRecord;
use domain::base::{Header, MessageBuilder, Name, RelativeName, Serial, StaticCompressor, ToRelativeName, Ttl};
use domain::rdata::Soa;

/// Longest datagram that every client takes (RFC 1035 §4.2.1).
const DATAGRAM_BYTES_MIN: usize = 512;

/// Longest datagram that is sent to anybody: as long as goes through every network whole (DNS flag day 2020; what unbound and CoreDNS
/// use). A pod's network would carry more, but nobody has anything of it.
pub(super) const DATAGRAM_BYTES_MAX: u16 = 1232;

/// Longest message over TCP: its length has two bytes.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Bytes of an OPT record without options.
const OPT_BYTES: usize = 11;

/// Times in the SOA record, in seconds (as CoreDNS); nobody transfers the zone.
const SOA_REFRESH_S: u32 = 7_200;
const SOA_RETRY_S: u32 = 1_800;
const SOA_EXPIRE_S: u32 = 86_400;

/// Longest time that the SOA record itself may be kept, in seconds (as CoreDNS).
const SOA_TTL_MAX_S: u32 = 300;

/// Where the DNS is called from, and who is responsible for it, below the zone.
pub(super) const NAME_SERVER: &[u8] = b"\x02ns\x03dns";
const HOSTMASTER: &[u8] = b"\x0ahostmaster";

/// What an answer is written into.
pub(super) type Target<'a> = StaticCompressor<&'a mut Vec<u8>>;

/// Why memory that grows does not run out.
const GROWS: &str = "a vector grows";

/// The answer to one query, with its question.
pub(super) struct Answer<'a> {
    builder: AnswerBuilder<Target<'a>>,
    edns: Option<Edns>,
    /// Whether a record that answers found no room.
    is_truncated: bool,
}

impl<'a> Answer<'a> {
    /// Begins an answer in `into`, whose content is replaced.
    pub(super) fn new(query: &Query<'_>, transport: Transport, into: &'a mut Vec<u8>) -> Answer<'a> {
        let mut builder = start(query.header, Rcode::NOERROR, into);
        let asked = query.edns.map_or(0, |edns| usize::from(edns.payload_bytes.min(DATAGRAM_BYTES_MAX)));
        let bytes_max = match transport {
            Transport::Udp => asked.max(DATAGRAM_BYTES_MIN),
            Transport::Tcp => MESSAGE_BYTES_MAX,
        };
        let reserved = if query.edns.is_some() { OPT_BYTES } else { 0 };
        // The limit itself is too much for the library.
        builder.set_push_limit(bytes_max - reserved + 1);
        let mut question = builder.question();
        question.push((query.name, query.qtype, query.class)).expect("a question fits into the shortest message");
        Answer { builder: question.answer(), edns: query.edns, is_truncated: false }
    }

    /// Adds a record that answers; `false` if there is no room for it, and so for no other one.
    pub(super) fn push(&mut self, record: impl ComposeRecord) -> bool {
        if !self.is_truncated && self.builder.push(record).is_err() {
            self.is_truncated = true;
        }
        !self.is_truncated
    }

    /// How many records answer.
    pub(super) fn len(&self) -> u16 {
        self.builder.counts().ancount()
    }

    /// Whether a record that answers found no room.
    pub(super) fn is_truncated(&self) -> bool {
        self.is_truncated
    }

    /// Notes that a part of what answers is missing.
    pub(super) fn truncate(&mut self) {
        self.is_truncated = true;
    }

    /// Ends an answer that has records, and what helps besides; a part of that may be missing.
    pub(super) fn finish(mut self, help: impl FnOnce(&mut AdditionalBuilder<Target<'a>>) -> Result<(), PushError>) {
        self.builder.header_mut().set_tc(self.is_truncated);
        let is_truncated = self.is_truncated;
        let mut builder = self.builder.additional();
        if !is_truncated {
            // What has no room is left out: the client can ask for it.
            let _ = help(&mut builder);
        }
        finish(builder, self.edns, OptRcode::NOERROR);
    }

    /// Ends an answer of `rcode`; with `soa`, how long it may be kept.
    pub(super) fn finish_without(mut self, rcode: OptRcode, soa: Option<Start<'_>>) {
        if rcode == OptRcode::SERVFAIL {
            // Aliases that lead nowhere are nothing to remember.
            self.builder.rewind();
            self.is_truncated = false;
        }
        let header = self.builder.header_mut();
        header.set_rcode(rcode.rcode());
        header.set_tc(self.is_truncated);
        let mut builder = self.builder.authority();
        if let Some(start) = soa {
            let _ = builder.push(start.soa());
        }
        finish(builder.additional(), self.edns, rcode);
    }
}

/// An answer to what could not be read: nothing but the code.
pub(super) fn refuse(header: Header, rcode: Rcode, into: &mut Vec<u8>) {
    start(header, rcode, into);
}

fn start(query: Header, rcode: Rcode, into: &mut Vec<u8>) -> MessageBuilder<Target<'_>> {
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(into)).expect(GROWS);
    let header = builder.header_mut();
    header.set_id(query.id());
    header.set_qr(true);
    header.set_opcode(query.opcode());
    header.set_aa(true);
    header.set_rd(query.rd());
    header.set_ra(true);
    header.set_cd(query.cd());
    header.set_rcode(rcode);
    builder
}

fn finish(mut builder: AdditionalBuilder<Target<'_>>, edns: Option<Edns>, rcode: OptRcode) {
    let Some(edns) = edns else { return };
    builder.clear_push_limit();
    let added = builder.opt(|opt| {
        opt.set_udp_payload_size(DATAGRAM_BYTES_MAX);
        opt.set_rcode(rcode);
        opt.set_version(0);
        opt.set_dnssec_ok(edns.dnssec_ok);
        Ok(())
    });
    added.expect(GROWS);
}

/// What a negative answer says of its zone.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// The zone as the client wrote it.
    pub(super) zone: &'a Name<[u8]>,
    /// Number of the tables.
    pub(super) serial: u32,
    /// How long names that do not exist may be remembered as such.
    pub(super) ttl_s: u32,
}

/// A SOA record.
type SoaRecord<'a> = (&'a Name<[u8]>, Class, u32, Soa<Chain<&'a RelativeName<[u8]>, &'a Name<[u8]>>>);

impl<'a> Start<'a> {
    /// The SOA record of the zone; the zone is short enough for one.
    pub(super) fn soa(&self) -> SoaRecord<'a> {
        let below = |labels: &'static [u8]| {
            let labels = RelativeName::from_slice(labels).expect("constant labels are valid");
            labels.chain(self.zone).expect("zones are far shorter than names may be")
        };
        let soa = Soa::new(
            below(NAME_SERVER),
            below(HOSTMASTER),
            Serial(self.serial),
            Ttl::from_secs(SOA_REFRESH_S),
            Ttl::from_secs(SOA_RETRY_S),
            Ttl::from_secs(SOA_EXPIRE_S),
            Ttl::from_secs(self.ttl_s),
        );
        (self.zone, Class::IN, self.ttl_s.min(SOA_TTL_MAX_S), soa)
    }
}
