//! What is answered to whom, in the words of the specification, of CoreDNS's tests and of the RFCs.

mod coredns;
mod messages;
mod specification;

use super::*;
use crate::dns::PodRecords;
use domain::base::iana::Rcode;
use domain::base::message_builder::AdditionalBuilder;
use domain::base::{Message, MessageBuilder, Record};
use domain::rdata::AllRecordData;
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::parse;
use std::str::FromStr;

/// The tables of a cluster written in YAML.
fn tables(yaml: &str) -> Tables {
    let parsed = parse("test.yaml", yaml);
    assert_eq!(parsed.problems, []);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert_eq!(problems, []);
    let (tables, problems) = compile(&cluster, 7);
    assert!(problems.iter().all(|problem| !problem.severity.is_error()), "{problems:?}");
    tables
}

fn responder(pods: PodRecords) -> Responder {
    Responder::new(DnsConfig { pods, ..DnsConfig::default() }, 1)
}

/// A query as most clients send it.
fn query(name: &str, qtype: Rtype) -> Vec<u8> {
    query_with(name, qtype, |_| {})
}

/// A query with more at its end.
fn query_with(name: &str, qtype: Rtype, more: impl FnOnce(&mut AdditionalBuilder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(4711);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::<Vec<u8>>::from_str(name).expect("a name"), qtype)).expect("room");
    let mut additional = question.additional();
    more(&mut additional);
    additional.finish()
}

/// An answer in text, records in order.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    rcode: Rcode,
    answers: Vec<String>,
    authorities: Vec<String>,
    additional: Vec<String>,
}

fn read(answer: &[u8]) -> Said {
    let message = Message::from_slice(answer).expect("a message");
    let (_, answers, authorities, additional) = message.sections().expect("sections");
    let texts = |section: domain::base::message::RecordSection<'_, [u8]>| {
        let records = section.map(|record| record.expect("a record").into_record::<AllRecordData<_, _>>());
        let text = |record: Record<_, AllRecordData<_, _>>| match record.data() {
            AllRecordData::Opt(_) => "OPT".to_owned(),
            AllRecordData::Srv(data) => format!("{}. {} SRV {data}.", record.owner(), record.ttl().as_secs()),
            data => format!("{}. {} {} {data}", record.owner(), record.ttl().as_secs(), record.rtype()),
        };
        records.map(|record| text(record.expect("data").expect("any type"))).collect()
    };
    Said {
        rcode: message.header().rcode(),
        answers: texts(answers),
        authorities: texts(authorities),
        additional: texts(additional),
    }
}

/// What is said over TCP, where everything has room.
fn ask(responder: &mut Responder, tables: &Tables, name: &str, qtype: Rtype) -> Said {
    let mut answer = Vec::new();
    let query = query(name, qtype);
    assert_eq!(responder.respond(Some(tables), Transport::Tcp, &query, &mut answer), Response::Answer, "{name}");
    let message = Message::from_slice(&answer).expect("a message");
    assert!(message.is_answer(Message::from_slice(&query).expect("a query")), "{name}: the question comes back");
    read(&answer)
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
