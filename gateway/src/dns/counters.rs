//! What a responder did, counted.

use super::Transport;
use super::count::plain_counts;
use domain::base::iana::{OptRcode, Rtype};

plain_counts! {
    /// Counts of one responder since it was made; they only grow. Every message that was handed in is counted once in `udp` or `tcp`, and once in what
    /// became of it: `silent`, `forwarded`, `chased`, or by the code of its answer.
    pub struct DnsCounters;
    udp, "Messages over UDP.";
    tcp, "Messages over TCP.";
    a, "Questions for A; questions are counted if they could be read and are of the class IN.";
    aaaa, "Questions for AAAA.";
    srv, "Questions for SRV.";
    ptr, "Questions for PTR.";
    txt, "Questions for TXT.";
    any, "Questions for any type.";
    other_types, "Questions for other types.";
    no_error, "Answers with records.";
    no_data, "The name exists and has no such records.";
    nx_domain, "There is no such name.";
    serv_fail, "Not known yet, or aliases in a circle.";
    form_err, "The message could not be read, or has in it what no query has.";
    not_imp, "It was something else than a query.";
    refused, "A zone transfer, or another class than IN.";
    bad_vers, "Another version of EDNS than 0.";
    forwarded, "Names that are not the cluster's.";
    chased, "ExternalNames that lead out of the cluster.";
    silent, "Messages that were not answered at all: too short, or answers themselves.";
    truncated, "Answers with records that had no room.";
}

impl DnsCounters {
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
