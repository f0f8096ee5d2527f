//! What a responder did, counted.

use super::Transport;
use domain::base::iana::{OptRcode, Rtype};

/// Counts of one responder since it was made; they only grow. Every message that was handed in is counted once in `udp` or `tcp`, and once in what
/// became of it: `silent`, `forwarded`, `chased`, or by the code of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsCounters {
    /// Messages over UDP.
    pub udp: u64,
    /// Messages over TCP.
    pub tcp: u64,
    /// Questions for A; questions are counted if they could be read and are of the class IN.
    pub a: u64,
    /// Questions for AAAA.
    pub aaaa: u64,
    /// Questions for SRV.
    pub srv: u64,
    /// Questions for PTR.
    pub ptr: u64,
    /// Questions for TXT.
    pub txt: u64,
    /// Questions for any type.
    pub any: u64,
    /// Questions for other types.
    pub other_types: u64,
    /// Answers with records.
    pub no_error: u64,
    /// The name exists and has no such records.
    pub no_data: u64,
    /// There is no such name.
    pub nx_domain: u64,
    /// Not known yet, or aliases in a circle.
    pub serv_fail: u64,
    /// The message could not be read, or has in it what no query has.
    pub form_err: u64,
    /// It was something else than a query.
    pub not_imp: u64,
    /// A zone transfer, or another class than IN.
    pub refused: u64,
    /// Another version of EDNS than 0.
    pub bad_vers: u64,
    /// Names that are not the cluster's.
    pub forwarded: u64,
    /// ExternalNames that lead out of the cluster.
    pub chased: u64,
    /// Messages that were not answered at all: too short, or answers themselves.
    pub silent: u64,
    /// Answers with records that had no room.
    pub truncated: u64,
}

impl DnsCounters {
    /// Adds those of another responder.
    pub fn add(&mut self, other: &DnsCounters) {
        let DnsCounters {
            udp,
            tcp,
            a,
            aaaa,
            srv,
            ptr,
            txt,
            any,
            other_types,
            no_error,
            no_data,
            nx_domain,
            serv_fail,
            form_err,
            not_imp,
            refused,
            bad_vers,
            forwarded,
            chased,
            silent,
            truncated,
        } = *other;
        self.udp += udp;
        self.tcp += tcp;
        self.a += a;
        self.aaaa += aaaa;
        self.srv += srv;
        self.ptr += ptr;
        self.txt += txt;
        self.any += any;
        self.other_types += other_types;
        self.no_error += no_error;
        self.no_data += no_data;
        self.nx_domain += nx_domain;
        self.serv_fail += serv_fail;
        self.form_err += form_err;
        self.not_imp += not_imp;
        self.refused += refused;
        self.bad_vers += bad_vers;
        self.forwarded += forwarded;
        self.chased += chased;
        self.silent += silent;
        self.truncated += truncated;
    }

    pub(super) fn came(&mut self, transport: Transport) {
        match transport {
            Transport::Udp => self.udp += 1,
            Transport::Tcp => self.tcp += 1,
        }
    }

    pub(super) fn asked(&mut self, qtype: Rtype) {
        let count = match qtype {
            Rtype::A => &mut self.a,
            Rtype::AAAA => &mut self.aaaa,
            Rtype::SRV => &mut self.srv,
            Rtype::PTR => &mut self.ptr,
            Rtype::TXT => &mut self.txt,
            Rtype::ANY => &mut self.any,
            _ => &mut self.other_types,
        };
        *count += 1;
    }

    /// An answer of `rcode`, with records or without.
    pub(super) fn answered(&mut self, rcode: OptRcode, has_records: bool) {
        let count = match rcode {
            OptRcode::NOERROR if has_records => &mut self.no_error,
            OptRcode::NOERROR => &mut self.no_data,
            OptRcode::NXDOMAIN => &mut self.nx_domain,
            OptRcode::FORMERR => &mut self.form_err,
            OptRcode::NOTIMP => &mut self.not_imp,
            OptRcode::REFUSED => &mut self.refused,
            OptRcode::BADVERS => &mut self.bad_vers,
            _ => &mut self.serv_fail,
        };
        *count += 1;
    }
}
