//! What holds for any bytes that a client may send, for property tests and fuzzing alike.

use super::query::Query;
use super::{DnsConfig, PodRecords, Responder, Response, Transport};
use domain::base::Message;
use domain::base::iana::Rcode;
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::parse;
use policy::tables::Tables;
use std::sync::OnceLock;

/// Bytes of a header, and of a datagram that every client takes.
const HEADER_BYTES: usize = 12;
const DATAGRAM_BYTES_MIN: usize = 512;

/// A name of each kind.
const CLUSTER: &str = r#"
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"name": "http", "port": 80}]}}
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "h"}, "spec": {"clusterIP": "None"}}
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "in"}, "spec": {"type": "ExternalName", "externalName": "h.default.svc.cluster.local"}}
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "a.example"}}
{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "o"}, "spec": {"type": "ExternalName", "externalName": "o.default.svc.cluster.local"}}
{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "h", "labels": {"kubernetes.io/service-name": "h"}}, "addressType": "IPv4", "ports": [{"name": "http", "port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}], "endpoints": [ENDPOINTS]}
"#;

/// Endpoints of the headless Service: more than a datagram has room for.
const ENDPOINTS: u32 = 100;

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let endpoint = |last| match last % 3 {
            0 => format!(r#"{{"addresses": ["10.244.0.{last}"], "hostname": "pet{}"}}"#, last % 2),
            _ => format!(r#"{{"addresses": ["10.244.0.{last}"]}}"#),
        };
        let endpoints: Vec<String> = (1..=ENDPOINTS).map(endpoint).collect();
        let parsed = parse("cluster", &CLUSTER.replace("ENDPOINTS", &endpoints.join(", ")));
        let (cluster, problems) = Cluster::from_objects(parsed.objects);
        assert!(parsed.problems.is_empty() && problems.is_empty(), "{:?} {problems:?}", parsed.problems);
        compile(&cluster, 1).0
    })
}

/// Takes `bytes` for a query. It is kept silent about, left to others, or the answer holds together, says whose it is and is no longer than
/// the client takes; what an upstream says of an alias, here the same bytes, changes nothing of that.
pub fn query(bytes: &[u8]) {
    let config = DnsConfig { pods: PodRecords::Insecure, ..DnsConfig::default() };
    let mut responder = Responder::new(config, bytes.len() as u64);
    let mut answer = vec![0xff; 7];
    for transport in [Transport::Udp, Transport::Tcp] {
        for tables in [None, Some(tables())] {
            match responder.respond(tables, transport, bytes, &mut answer) {
                Response::Silence | Response::Forward => assert!(answer.is_empty(), "nothing is to be sent"),
                Response::Answer => hold(&answer, bytes, transport),
                Response::Chase(_) => {
                    let begun = answer.clone();
                    for upstream in [None, Some(bytes), Some(&begun)] {
                        answer.clone_from(&begun);
                        responder.complete(transport, bytes, &mut answer, upstream);
                        hold(&answer, bytes, transport);
                    }
                }
            }
        }
    }
    let counters = responder.counters();
    assert_eq!((counters.udp, counters.tcp), (2, 2));
}

fn hold(answer: &[u8], query: &[u8], transport: Transport) {
    let message = Message::from_slice(answer).expect("an answer has a header");
    assert_eq!(answer[..2], query[..2], "the id comes back");
    assert!(message.header().qr() && message.header().opcode().to_int() == (query[2] >> 3) & 15);
    assert!(message.iter().all(|record| record.is_ok()), "every record can be read");
    assert!(message.question().all(|question| question.is_ok()), "every question can be read");
    let questions = message.question().count();
    let asked = Query::parse(query);
    match &asked {
        Ok(asked) => {
            let end = HEADER_BYTES + asked.name.len() + 4;
            assert_eq!(
                (questions, &answer[HEADER_BYTES..end]),
                (1, &query[HEADER_BYTES..end]),
                "the question comes back"
            );
        }
        Err(_) => assert!(questions < 2 && message.header().rcode() != Rcode::NOERROR),
    }
    let edns = asked.ok().and_then(|asked| asked.edns);
    let takes = edns.map_or(0, |edns| usize::from(edns.payload_bytes));
    let bytes_max = if transport == Transport::Udp { takes.max(DATAGRAM_BYTES_MIN) } else { usize::from(u16::MAX) };
    assert!(answer.len() <= bytes_max, "{} bytes for {bytes_max}", answer.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names, types and options that are of interest, put together.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let labels = [
            "a",
            "h",
            "in",
            "out",
            "o",
            "default",
            "svc",
            "pod",
            "cluster",
            "local",
            "_http",
            "_tcp",
            "pet0",
            "10-244-0-1",
            "arpa",
            "ip6",
            "1",
        ];
        let label = prop::sample::select(labels.to_vec());
        let suffix =
            prop::sample::select(vec![".default.svc.cluster.local", ".cluster.local", ".0.244.10.in-addr.arpa", ""]);
        let name = (prop::collection::vec(label, 0..4), suffix).prop_map(|(labels, suffix)| labels.join(".") + suffix);
        let qtype = prop::sample::select(vec![1u16, 2, 5, 6, 12, 16, 28, 33, 41, 252, 255, 65]);
        let opt = prop::option::of((any::<u16>(), any::<u32>()));
        (any::<[u8; 4]>(), name, qtype, opt).prop_map(|(start, name, qtype, opt)| {
            let mut bytes = [&start[..], &[0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())]].concat();
            // Mostly queries.
            bytes[2] &= 1 | (start[0] & 0x80 & start[1]);
            for label in name.split('.').filter(|label| !label.is_empty()) {
                bytes.push(label.len() as u8);
                bytes.extend(label.bytes());
            }
            bytes.push(0);
            bytes.extend([qtype.to_be_bytes(), [0, 1]].concat());
            if let Some((size, ttl)) = opt {
                bytes.extend([0, 0, 41]);
                bytes.extend(size.to_be_bytes());
                bytes.extend((ttl & 0xff00_ffff).to_be_bytes());
                bytes.extend([0, 0]);
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_hold_the_invariants_of_a_query(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            query(&bytes);
        }

        #[test]
        fn queries_hold_the_invariants(bytes in message()) {
            query(&bytes);
        }

        #[test]
        fn changed_queries_hold_the_invariants(
            bytes in message(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
            more in prop::collection::vec(any::<u8>(), 0..12),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = [bytes, more].concat();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(1 + cut.index(2 * bytes.len()));
            query(&bytes);
        }
    }
}
