//! Headers, EDNS, lengths, and what is no query.

use super::*;
use crate::dns::DnsCounters;
use domain::base::Message;
use domain::base::iana::{Opcode, OptRcode};

const NAME: &str = "web.default.svc.cluster.local.";

/// A headless Service `web` with so many endpoints.
fn headless(endpoints: u32) -> Tables {
    let mut yaml = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: None}}\n".to_owned();
    let all: Vec<u32> = (0..endpoints).collect();
    for (number, chunk) in all.chunks(1000).enumerate() {
        let endpoints: Vec<String> =
            chunk.iter().map(|at| format!("{{addresses: [10.1.{}.{}]}}", at / 250, at % 250 + 1)).collect();
        yaml += &format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{number}, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}]
endpoints: [{}]
",
            endpoints.join(", ")
        );
    }
    tables(&yaml)
}

fn respond(tables: &Tables, transport: Transport, query: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let response = responder(PodRecords::Disabled).respond(Some(tables), transport, query, &mut answer);
    assert_eq!(response, Response::Answer);
    answer
}

/// Like [`query`], with EDNS.
fn edns(qtype: Rtype, payload_bytes: u16, version: u8, dnssec_ok: bool) -> Vec<u8> {
    query_with(NAME, qtype, |builder| {
        let added = builder.opt(|opt| {
            opt.set_udp_payload_size(payload_bytes);
            opt.set_version(version);
            opt.set_dnssec_ok(dnssec_ok);
            // A cookie and an option that nobody knows.
            opt.push_raw_option(10.into(), 8, |target| {
                domain::dep::octseq::OctetsBuilder::append_slice(target, &[7; 8])
            })?;
            opt.push_raw_option(65001.into(), 0, |_| Ok(()))
        });
        added.expect("room");
    })
}

#[test]
fn the_header_says_what_the_query_said_and_who_answers() {
    let tables = headless(1);
    let mut query = query(NAME, Rtype::A);
    let answer = respond(&tables, Transport::Udp, &query);
    let header = Message::from_slice(&answer).expect("a message").header();
    assert!(header.qr() && header.aa() && header.rd() && header.ra());
    assert!(!header.tc() && !header.ad() && !header.cd() && !header.z());
    assert_eq!((header.id(), header.opcode()), (4711, Opcode::QUERY));
    query[2] &= !1;
    query[3] |= 0x10;
    let answer = respond(&tables, Transport::Udp, &query);
    let header = Message::from_slice(&answer).expect("a message").header();
    assert!(!header.rd() && header.cd(), "RD and CD are copied");
}

#[test]
fn edns_is_answered_if_it_is_asked_for() {
    let tables = headless(1);
    let answer = respond(&tables, Transport::Udp, &query(NAME, Rtype::A));
    assert_eq!(read(&answer).additional, Vec::<String>::new());
    for dnssec_ok in [false, true] {
        for qtype in [Rtype::A, Rtype::AAAA] {
            let answer = respond(&tables, Transport::Udp, &edns(qtype, 4096, 0, dnssec_ok));
            let message = Message::from_slice(&answer).expect("a message");
            let opt = message.opt().expect("an OPT record");
            assert_eq!((opt.udp_payload_size(), opt.version(), opt.dnssec_ok()), (1232, 0, dnssec_ok));
            assert!(opt.opt().is_empty(), "no option is understood");
            assert_eq!(message.opt_rcode(), OptRcode::NOERROR);
        }
    }
}

#[test]
fn another_version_of_edns_is_refused_with_the_one_that_is_known() {
    let answer = respond(&headless(1), Transport::Udp, &edns(Rtype::A, 4096, 1, false));
    let message = Message::from_slice(&answer).expect("a message");
    assert_eq!(message.opt_rcode(), OptRcode::BADVERS);
    assert_eq!(message.opt().expect("an OPT record").version(), 0);
    assert_eq!(read(&answer).answers, Vec::<String>::new());
}

#[test]
fn d12_a_datagram_holds_as_many_records_as_the_client_takes_and_says_that_there_are_more() {
    let tables = headless(100);
    let plain = query(NAME, Rtype::A);
    for (query, bytes_max) in [
        (plain.clone(), 512),
        (edns(Rtype::A, 0, 0, false), 512),
        (edns(Rtype::A, 511, 0, false), 512),
        (edns(Rtype::A, 600, 0, false), 600),
        (edns(Rtype::A, 1232, 0, false), 1232),
        (edns(Rtype::A, 65535, 0, false), 1232),
    ] {
        let answer = respond(&tables, Transport::Udp, &query);
        assert!(answer.len() <= bytes_max && answer.len() + 16 > bytes_max, "{} of {bytes_max}", answer.len());
        let message = Message::from_slice(&answer).expect("a message");
        assert!(message.header().tc());
        assert_eq!(message.opt().is_some(), query.len() > plain.len());
        let whole = respond(&tables, Transport::Tcp, &query);
        assert!(!Message::from_slice(&whole).expect("a message").header().tc());
        assert_eq!(read(&whole).answers.len(), 100);
    }
}

#[test]
fn d12_what_only_helps_is_left_out_without_a_word() {
    let answer = respond(&headless(7), Transport::Udp, &query(NAME, Rtype::SRV));
    let said = read(&answer);
    assert_eq!(said.answers.len(), 7);
    assert!(said.additional.len() < 7 && answer.len() <= 512);
    assert!(!Message::from_slice(&answer).expect("a message").header().tc());
}

#[test]
fn d18_thousands_of_addresses_have_room_over_tcp_up_to_the_longest_message() {
    let answer = respond(&headless(1000), Transport::Tcp, &query(NAME, Rtype::A));
    let mut addresses = read(&answer).answers;
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 1000);
    assert!(!Message::from_slice(&answer).expect("a message").header().tc());
    let answer = respond(&headless(5000), Transport::Tcp, &edns(Rtype::A, 1232, 0, false));
    assert!(answer.len() <= 65_535 && answer.len() + 16 > 65_535, "{}", answer.len());
    let message = Message::from_slice(&answer).expect("a message");
    assert!(message.header().tc() && message.opt().is_some());
}

#[test]
fn d18_addresses_come_in_another_order_each_time_and_the_seed_decides_which() {
    let tables = headless(10);
    let query = query(NAME, Rtype::A);
    let orders = |seed| {
        let mut responder = Responder::new(DnsConfig::default(), seed);
        let mut answer = Vec::new();
        let mut next = || {
            responder.respond(Some(&tables), Transport::Udp, &query, &mut answer);
            read(&answer).answers
        };
        (0..200).map(|_| next()).collect::<Vec<_>>()
    };
    let all = orders(1);
    for place in 0..10 {
        let there: std::collections::BTreeSet<_> = all.iter().map(|order| order[place].clone()).collect();
        assert_eq!(there.len(), 10, "each address is at place {place} once");
    }
    assert!(all.iter().all(|order| sorted(order.clone()) == sorted(all[0].clone())));
    assert_eq!(orders(1), all);
    assert_ne!(orders(2), all);
}

#[test]
fn any_is_answered_with_one_small_record_and_transfers_are_refused() {
    let tables = headless(50);
    assert_eq!(read(&respond(&tables, Transport::Udp, &query(NAME, Rtype::ANY))).answers.len(), 1);
    let absent = query("absent.default.svc.cluster.local.", Rtype::ANY);
    assert_eq!(read(&respond(&tables, Transport::Udp, &absent)).rcode, Rcode::NXDOMAIN);
    for (name, qtype) in [("cluster.local.", Rtype::AXFR), ("cluster.local.", Rtype::IXFR), ("a.example.", Rtype::AXFR)]
    {
        assert_eq!(read(&respond(&tables, Transport::Tcp, &query(name, qtype))).rcode, Rcode::REFUSED);
    }
}

#[test]
fn another_class_than_in_is_refused() {
    let mut chaos = query("version.bind.", Rtype::TXT);
    let at = chaos.len() - 1;
    chaos[at] = 3;
    let said = read(&respond(&headless(1), Transport::Udp, &chaos));
    assert_eq!((said.rcode, said.answers.len()), (Rcode::REFUSED, 0));
}

#[test]
fn compressed_names_are_compressed() {
    let answer = respond(&headless(3), Transport::Udp, &query(NAME, Rtype::A));
    // Header, question, and for each record a pointer, type, class, time, length and address.
    assert_eq!(answer.len(), 12 + (NAME.len() + 1 + 4) + 3 * 16);
}

/// What becomes of bytes that are no good query: the code of the answer, or silence.
fn fate(bytes: &[u8]) -> (Option<Rcode>, DnsCounters) {
    let mut responder = responder(PodRecords::Disabled);
    let mut answer = vec![0xff; 20];
    let response = responder.respond(Some(&headless(1)), Transport::Udp, bytes, &mut answer);
    let counters = DnsCounters { udp: 0, ..responder.counters() };
    match response {
        Response::Silence => {
            assert!(answer.is_empty());
            (None, counters)
        }
        Response::Answer => {
            assert_eq!(answer[..2], bytes[..2], "the id comes back");
            (Some(read(&answer).rcode), counters)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_query_is_not_answered() {
    let good = query(NAME, Rtype::A);
    let silent = (None, DnsCounters { silent: 1, ..DnsCounters::default() });
    for len in 0..12 {
        assert_eq!(fate(&good[..len]), silent, "{len} bytes");
    }
    let mut answer = good.clone();
    answer[2] |= 0x80;
    assert_eq!(fate(&answer), silent, "two servers would answer each other for ever");
}

#[test]
fn what_cannot_be_read_is_told_so_with_its_id() {
    let good = query(NAME, Rtype::A);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let header = |counts: [u8; 4]| {
        let mut bytes = good[..4].to_vec();
        bytes.extend(counts.iter().flat_map(|count| [0, *count]));
        bytes
    };
    let question = |name: &[u8]| [&header([1, 0, 0, 0]), name, &[0, 1, 0, 1]].concat();
    let opt = |owner: &[u8], rdata: &[u8]| [owner, &[0, 41, 4, 0, 0, 0, 0, 0, 0, rdata.len() as u8], rdata].concat();
    let additional = |records: &[Vec<u8>]| {
        let mut bytes = with(&|bytes| bytes[11] = records.len() as u8);
        records.iter().for_each(|record| bytes.extend_from_slice(record));
        bytes
    };
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("no question", header([0, 0, 0, 0])),
        ("two questions", with(&|bytes| bytes[5] = 2)),
        ("the question is missing", header([1, 0, 0, 0])),
        ("the question ends early", good[..good.len() - 1].to_vec()),
        ("the name ends early", good[..20].to_vec()),
        ("a name that points to itself", question(&[0xc0, 12])),
        ("a name that points into the header", question(&[0xc0, 4])),
        ("a name that points ahead", question(&[0xc0, 14, 1, b'a', 0])),
        ("a label of an unknown kind", question(&[0x40, b'a', 0])),
        ("a label longer than 63 bytes", question(&[&[64][..], &[b'a'; 64], &[0]].concat())),
        ("a name longer than 255 bytes", question(&[[&[63][..], &[b'a'; 63]].concat().repeat(4), vec![0]].concat())),
        ("bytes after the end", with(&|bytes| bytes.push(0))),
        ("two answers", with(&|bytes| bytes[7] = 2)),
        ("three additional records", with(&|bytes| bytes[11] = 3)),
        ("a record that is not there", with(&|bytes| bytes[11] = 1)),
        ("two OPT records", additional(&[opt(&[0], &[]), opt(&[0], &[])])),
        ("an OPT record with a name", additional(&[opt(&[1, b'a', 0], &[])])),
        ("an option that ends early", additional(&[opt(&[0], &[0, 10, 0, 8, 1])])),
        (
            "an OPT record among the answers",
            with(&|bytes| {
                bytes[7] = 1;
                bytes.extend(opt(&[0], &[]));
            }),
        ),
    ];
    for (why, bytes) in wrong {
        assert_eq!(
            fate(&bytes),
            (Some(Rcode::FORMERR), DnsCounters { form_err: 1, ..DnsCounters::default() }),
            "{why}"
        );
    }
    let (rcode, counters) = fate(&additional(&[opt(&[0], &[])]));
    assert_eq!((rcode, counters.no_error), (Some(Rcode::NOERROR), 1), "the good form of the same");
}

#[test]
fn other_requests_than_queries_are_not_implemented() {
    for opcode in 1..16 {
        let mut bytes = query(NAME, Rtype::A);
        bytes[2] = opcode << 3;
        let counters = DnsCounters { not_imp: 1, ..DnsCounters::default() };
        assert_eq!(fate(&bytes), (Some(Rcode::NOTIMP), counters));
    }
}

#[test]
fn every_message_is_counted_once_by_how_it_came_and_once_by_what_became_of_it() {
    let tables = headless(100);
    let mut responder = responder(PodRecords::Disabled);
    let mut answer = Vec::new();
    for name in [NAME, "absent.default.svc.cluster.local.", "example.com.", "default.svc.cluster.local."] {
        for qtype in [Rtype::A, Rtype::AAAA, Rtype::SRV, Rtype::PTR, Rtype::TXT, Rtype::ANY, Rtype::MX, Rtype::AXFR] {
            responder.respond(Some(&tables), Transport::Udp, &query(name, qtype), &mut answer);
        }
    }
    responder.respond(Some(&tables), Transport::Tcp, &query(NAME, Rtype::A), &mut answer);
    responder.respond(None, Transport::Tcp, &query(NAME, Rtype::A), &mut answer);
    responder.respond(Some(&tables), Transport::Tcp, &[1], &mut answer);
    let counters = responder.counters();
    let wanted = DnsCounters {
        udp: 32,
        tcp: 3,
        a: 6,
        aaaa: 4,
        srv: 4,
        ptr: 4,
        txt: 4,
        any: 4,
        other_types: 4,
        no_error: 5,
        no_data: 10,
        nx_domain: 7,
        serv_fail: 1,
        refused: 4,
        forwarded: 7,
        silent: 1,
        truncated: 2,
        ..DnsCounters::default()
    };
    assert_eq!(counters, wanted);
}
