//! An ExternalName whose target is outside of the cluster: what an upstream says of the target is put behind the aliases that lead
//! there (RFC 1034 §3.6.2).

use super::Transport;
use super::answer::Answer;
use super::query::Query;
use domain::base::iana::{Class, OptRcode, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::{Message, ParsedRecord};
use domain::rdata::AllRecordData;

/// Records of an upstream's answer that are taken over: more than that is no answer to one question.
const RECORDS_MAX: usize = 4_096;

/// Writes the whole answer to `query` into `into`: the aliases in `begun`, then what `upstream` says. Whether something had no room.
pub(super) fn complete(
    query: &Query<'_>,
    transport: Transport,
    begun: &[u8],
    upstream: Option<&[u8]>,
    into: &mut Vec<u8>,
) -> bool {
    let mut answer = Answer::new(query, transport, into);
    let begun = Message::from_slice(begun).ok();
    if let Some(section) = begun.and_then(|begun| begun.answer().ok()) {
        push_all(section, query.qtype, &mut answer);
    }
    let upstream = upstream.and_then(|bytes| Message::from_slice(bytes).ok()).filter(|message| message.header().qr());
    let has_said = |message: &&Message<[u8]>| matches!(message.header().rcode(), Rcode::NOERROR | Rcode::NXDOMAIN);
    let Some(upstream) = upstream.filter(has_said) else {
        answer.finish_without(OptRcode::SERVFAIL, None);
        return false;
    };
    if let Ok(section) = upstream.answer() {
        push_all(section, query.qtype, &mut answer);
    }
    if upstream.header().tc() {
        answer.truncate();
    }
    let is_truncated = answer.is_truncated();
    answer.finish_without(upstream.header().rcode().into(), None);
    is_truncated
}

/// Adds the aliases and the records of the type `qtype` of a section, as far as they can be read.
fn push_all(section: RecordSection<'_, [u8]>, qtype: Rtype, answer: &mut Answer<'_>) {
    let is_wanted = |record: &ParsedRecord<'_, [u8]>| {
        record.class() == Class::IN && (record.rtype() == Rtype::CNAME || record.rtype() == qtype)
    };
    for record in section.take(RECORDS_MAX).map_while(Result::ok).filter(is_wanted) {
        if let Ok(Some(record)) = record.into_record::<AllRecordData<_, _>>() {
            answer.push(record);
        }
    }
}
