//! The responder against a slow reading of the Kubernetes DNS specification: on generated clusters, every name that there could
//! be, of every type that somebody asks for.
//!
//! `PROPTEST_CASES=N` asks about N clusters if that is more than the default; `PROPTEST_RNG_SEED=S` repeats a run.

mod churn;
mod generate;
mod literal;

use domain::base::iana::{Class, Rcode, Rtype};
use domain::base::message::RecordSection;
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::AllRecordData;
use gateway::dns::{DnsConfig, PodRecords, Responder, Response, Transport};
use generate::{World, questions, world};
use literal::{Literal, Outcome, Record};
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::parse;
use policy::tables::Tables;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::str::FromStr;

/// Clusters that are asked about.
const CLUSTERS: u32 = 60;

/// Each name is asked for addresses, and for one of these in turn.
const TYPES: [Rtype; 5] = [Rtype::SRV, Rtype::PTR, Rtype::TXT, Rtype::CNAME, Rtype::MX];

const MODES: [PodRecords; 3] = [PodRecords::Disabled, PodRecords::Insecure, PodRecords::Verified];

fn compiled(objects: &[Value]) -> Tables {
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    let parsed = parse("generated", &text.join("\n---\n"));
    assert_eq!(parsed.problems, [], "the objects are valid");
    let (cluster, conflicts) = Cluster::from_objects(parsed.objects);
    assert_eq!(conflicts, [], "the objects are valid");
    compile(&cluster, 1).0
}

fn query(name: &str, qtype: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(name.len() as u16);
    let mut builder = builder.question();
    builder.push((Name::<Vec<u8>>::from_str(name).expect("a name"), qtype, Class::IN)).expect("room");
    builder.finish()
}

/// The records of a section in lower case, without what the specification leaves open: times, priorities and weights.
fn records(section: RecordSection<'_, [u8]>) -> Vec<Record> {
    let record = |record: domain::base::ParsedRecord<'_, [u8]>| {
        let record = record.into_record::<AllRecordData<_, _>>().expect("data").expect("any type");
        let data = match record.data() {
            AllRecordData::Srv(srv) => format!("{} {}", srv.port(), srv.target()),
            data => data.to_string().trim_end_matches('.').to_owned(),
        };
        (record.owner().to_string().to_lowercase(), record.rtype().to_string(), data.to_lowercase())
    };
    section.map(|found| record(found.expect("a record"))).collect()
}

/// What the responder says, in the oracle's words, and what it adds.
fn outcome(response: Response, query: &[u8], answer: &[u8]) -> (Outcome, Vec<Record>) {
    if response == Response::Forward {
        return (Outcome::Forward, Vec::new());
    }
    let message = Message::from_slice(answer).expect("a message");
    assert!(message.is_answer(Message::from_slice(query).expect("a query")), "id and question come back");
    let question = 12..query.len();
    assert_eq!(answer[question.clone()], query[question], "in the same case");
    let (_, answers, authorities, additional) = message.sections().expect("sections");
    let (rcode, answers, authorities) = (message.header().rcode(), records(answers), records(authorities));
    let mut each_once = answers.clone();
    each_once.sort();
    each_once.dedup();
    assert_eq!(each_once.len(), answers.len(), "each record once: {answers:?}");
    let outcome = match response {
        Response::Chase(target) => Outcome::Chase(each_once, target.to_string().to_lowercase()),
        _ if rcode == Rcode::SERVFAIL => Outcome::Fails,
        _ if rcode == Rcode::NXDOMAIN => Outcome::NoName(each_once),
        _ if authorities.is_empty() => Outcome::Records(each_once),
        _ => Outcome::NoData(each_once),
    };
    let is_negative = matches!(outcome, Outcome::NoName(_) | Outcome::NoData(_));
    assert_eq!(authorities.iter().any(|(_, rtype, _)| rtype == "SOA"), is_negative, "{authorities:?}");
    (outcome, records(additional))
}

/// Everything that can be asked about a world; counts what came of it.
fn agree(world: &World, mode: PodRecords, tally: &mut BTreeMap<String, u64>) -> Result<(), TestCaseError> {
    let objects = generate::objects(world);
    let tables = compiled(&objects);
    let literal = Literal::new(&objects, mode);
    let mut responder = Responder::new(DnsConfig { pods: mode, ..DnsConfig::default() }, 1);
    let mut answer = Vec::new();
    for (position, name) in questions(&objects).into_iter().enumerate() {
        let turn = position + objects.len();
        for qtype in [Rtype::A, Rtype::AAAA, TYPES[turn % TYPES.len()]] {
            // Whether letters are large or small does not matter.
            let asked = if turn.is_multiple_of(2) { name.clone() } else { name.to_uppercase() };
            let query = query(&asked, qtype);
            let response = responder.respond(Some(&tables), Transport::Tcp, &query, &mut answer);
            let (found, additional) = outcome(response, &query, &answer);
            let wanted = literal.answer(&name, &qtype.to_string());
            prop_assert_eq!(&found, &wanted, "{} {} {:?}", asked, qtype, mode);
            for record in additional {
                prop_assert!(literal.has(&record), "{asked} {qtype}: there is no {record:?}");
            }
            *tally.entry(format!("{} {qtype}", wanted.kind())).or_default() += 1;
        }
    }
    Ok(())
}

#[test]
fn names_are_answered_as_the_specification_says() {
    let default = ProptestConfig::default();
    let cases = default.cases.max(CLUSTERS);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..default });
    let tally = RefCell::new(BTreeMap::new());
    let result = runner.run(&(world(), prop::sample::select(&MODES[..])), |(world, mode)| {
        agree(&world, mode, &mut tally.borrow_mut())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (world, mode))) => {
            let objects: Vec<String> = generate::objects(&world).iter().map(Value::to_string).collect();
            panic!("{reason}\n\npods {mode:?}\n\n{}", objects.join("\n---\n"));
        }
        Err(abort) => panic!("{abort}"),
    }
    let tally = tally.into_inner();
    for seen in [
        "records A",
        "records AAAA",
        "records SRV",
        "records PTR",
        "records TXT",
        "records CNAME",
        "no data A",
        "no data SRV",
        "no name A",
        "chase A",
        "fails A",
        "forward PTR",
    ] {
        assert!(tally.get(seen).is_some_and(|count| *count >= 3), "{seen} hardly happened: {tally:?}");
    }
}
