//! Names of a large headless Service while its pods come and go.

use crate::literal::Outcome;
use crate::{outcome, query};
use domain::base::iana::Rtype;
use gateway::dns::{DnsConfig, Responder, Transport};
use policy::cluster::{Definition, Definitions, FileChange};
use policy::compile::{CompileOptions, Compiler};
use policy::objects::parse;
use std::collections::BTreeSet;
use std::fmt::Write;

const PODS: usize = 10_000;
/// What the EndpointSlice controller puts into a slice.
const PODS_PER_SLICE: usize = 100;
const CHANGES: usize = 100;
const SERVICE: &str = "
{apiVersion: v1, kind: Service, metadata: {name: db, namespace: default}, spec: {clusterIP: None, clusterIPs: [None], selector: {app: db}}}
";

/// Slice number `slice` with the pods that are there, each with a hostname.
fn slice(slice: usize, pods: &BTreeSet<usize>) -> String {
    let mut text = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {{name: db-{slice}, namespace: default, \
         labels: {{kubernetes.io/service-name: db}}}}, endpoints: ["
    );
    for pod in pods.range(slice * PODS_PER_SLICE..(slice + 1) * PODS_PER_SLICE) {
        let _ = write!(text, "{{addresses: [{}], hostname: db-{pod}, conditions: {{ready: true}}}},", address(*pod));
    }
    text + "]}"
}

fn address(pod: usize) -> String {
    format!("10.{}.{}.{}", 100 + pod / 62_500, pod / 250 % 250, 2 + pod % 250)
}

fn file(name: &str, text: &str) -> FileChange {
    let parsed = parse(name, text);
    assert_eq!(parsed.problems, []);
    FileChange { file: name.into(), objects: parsed.objects.iter().map(Definition::new).collect() }
}

#[test]
fn b32_of_ten_thousand_headless_pods_under_churn_no_name_is_answered_wrong() {
    let mut pods: BTreeSet<usize> = (0..PODS).collect();
    let (mut definitions, mut compiler) = (Definitions::default(), Compiler::new(CompileOptions::default()));
    let slices = (0..PODS / PODS_PER_SLICE).map(|number| file(&format!("db-{number}"), &slice(number, &pods)));
    let mut changes: Vec<FileChange> = slices.chain([file("service", SERVICE)]).collect();
    let mut responder = Responder::new(DnsConfig::default(), 7);
    let mut answer = Vec::new();
    let mut ask = |tables: &policy::tables::Tables, name: &str| {
        let query = query(name, Rtype::A);
        let response = responder.respond(Some(tables), Transport::Tcp, &query, &mut answer);
        outcome(response, &query, &answer).0
    };
    for change in 0..CHANGES {
        let delta = definitions.apply(std::mem::take(&mut changes));
        let (tables, problems) = compiler.compile(definitions.cluster(), &delta, change as u64 + 1);
        assert_eq!(problems, []);
        // More addresses than the longest message holds: as many of them as there is room for, and none that is not there.
        let all = "db.default.svc.cluster.local";
        let Outcome::Records(records) = ask(&tables, all) else { panic!("change {change}: {all} is gone") };
        let known: BTreeSet<String> = pods.iter().map(|pod| address(*pod)).collect();
        assert!(records.len() > 1000 && records.iter().all(|(_, _, data)| known.contains(data)), "change {change}");
        for step in 0..60 {
            let pod = (change * 6_007 + step * 167) % PODS;
            let found = ask(&tables, &format!("db-{pod}.{all}"));
            let is_right = match &found {
                Outcome::Records(records) => pods.contains(&pod) && records[0].2 == address(pod),
                Outcome::NoName(_) => !pods.contains(&pod),
                _ => false,
            };
            assert!(is_right, "change {change}, db-{pod}: {found:?}");
        }
        // One slice loses half of its pods, or gets them back.
        let number = change * 37 % (PODS / PODS_PER_SLICE);
        for pod in (number * PODS_PER_SLICE..(number + 1) * PODS_PER_SLICE).step_by(2) {
            if !pods.remove(&pod) {
                pods.insert(pod);
            }
        }
        changes = vec![file(&format!("db-{number}"), &slice(number, &pods))];
    }
}
