//! Definitions after changes in any order against the same files read at once by a literal judge.

use super::*;
use crate::objects::parse;
use proptest::prelude::*;
use std::net::IpAddr;

/// What one file of the test holds: each object is its kind's letter, its number and its addresses.
type Text = Vec<(u8, u8, Vec<u8>)>;

fn yaml(objects: &Text) -> String {
    objects.iter().map(document).collect()
}

/// One of few nodes, pods, Services and EndpointSlices that claim some of few addresses.
fn document((kind, number, claims): &(u8, u8, Vec<u8>)) -> String {
    let addresses: Vec<String> = claims.iter().map(|last| format!("10.0.0.{last}")).collect();
    let first = addresses.first().map_or("''".to_owned(), |first| first.clone());
    match kind {
        0 => {
            // Some of these ranges hold others, and their gateways are addresses that pods claim.
            let cidrs = ["10.0.0.0/30", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.8/29"];
            let cidr = claims.first().map_or("10.1.0.0/24", |claim| cidrs[usize::from(*claim) % cidrs.len()]);
            format!(
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{number}}}\nspec: {{podCIDRs: [{cidr}]}}\nstatus: {{addresses: \
                 [{{type: InternalIP, address: 10.0.0.{}}}]}}\n",
                10 + number
            )
        }
        1 => format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}}}\nspec: {{containers: []}}\nstatus: {{podIP: {first}}}\n"
        ),
        2 => format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{clusterIP: {first}, ports: [{{port: 80}}]}}\n"
        ),
        3 => format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{number}, labels: \
             {{kubernetes.io/service-name: s{}}}}}\naddressType: IPv4\nendpoints: [{{addresses: [10.0.0.9]}}]\n",
            claims.first().copied().unwrap_or_default() % 3
        ),
        _ => format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: x{number}}}\n"),
    }
}

fn objects(file: &str, text: &Text) -> Vec<Sourced<Object>> {
    let parsed = parse(file, &yaml(text));
    assert_eq!(parsed.problems, [], "{}", yaml(text));
    parsed.objects
}

fn change(file: &str, text: &Text) -> FileChange {
    let objects = objects(file, text).iter().map(Definition::new).collect();
    FileChange { file: file.into(), objects }
}

/// The names in force and the problems, judged object by object as the words of the documentation say.
fn literal(files: &BTreeMap<String, Text>) -> (BTreeSet<String>, Vec<String>) {
    let mut problems = Vec::new();
    let mut first: Vec<Sourced<Object>> = Vec::new();
    for object in files.iter().flat_map(|(file, text)| objects(file, text)) {
        match first.iter().find(|first| first.object.reference() == object.object.reference()) {
            Some(first) => problems.push(format!(
                "{}: {}: metadata.name: defined twice: the definition in {} (document {}) stays in force, this one is refused",
                object.source.file, object.object.reference(), first.source.file, first.source.document
            )),
            None => first.push(object),
        }
    }
    let mut taken: Vec<(IpAddr, &Sourced<Object>)> = Vec::new();
    let mut cidrs: Vec<(ipnet::IpNet, &Sourced<Object>)> = Vec::new();
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    for kind in [Kind::Node, Kind::Pod, Kind::Service] {
        for (position, object) in first.iter().enumerate().filter(|(_, object)| object.object.kind() == kind) {
            let Some((field, addresses, nets)) = super::super::claims::literal_wish(&object.object) else { continue };
            let mut overlapping: Vec<_> = Vec::new();
            let mut against = None;
            for net in &nets {
                overlapping.extend(cidrs.iter().filter(|(other, _)| other.contains(net) || net.contains(other)));
                overlapping.sort_by_key(|(other, _)| other.network());
                if let (None, Some((other, holder))) = (&against, overlapping.first()) {
                    against = Some(("spec.podCIDRs", format!("{net} overlaps {other} of {}", place(holder))));
                }
            }
            for address in &addresses {
                let holder = taken.iter().find(|(other, _)| other == address);
                if let (None, Some((_, holder))) = (&against, holder) {
                    against = Some((field, format!("{address} is already used by {}", place(holder))));
                }
            }
            match against {
                Some((field, message)) => {
                    let reference = object.object.reference();
                    refused.insert(position, format!("{}: {reference}: {field}: {message}", object.source.file));
                }
                None => {
                    taken.extend(addresses.into_iter().map(|address| (address, object)));
                    cidrs.extend(nets.into_iter().map(|net| (net, object)));
                }
            }
        }
    }
    let in_force = first.iter().enumerate().filter(|(position, _)| !refused.contains_key(position));
    let in_force =
        in_force.map(|(_, object)| format!("{} in {}", object.object.reference(), object.source.file)).collect();
    problems.extend(refused.into_values());
    (in_force, problems)
}

fn place(holder: &Sourced<Object>) -> String {
    format!("{} in {} (document {})", holder.object.reference(), holder.source.file, holder.source.document)
}

/// The same of definitions.
fn held(definitions: &Definitions) -> (BTreeSet<String>, Vec<String>) {
    let mut held = BTreeSet::new();
    let cluster = definitions.cluster();
    let mut add = |kind: Kind, key: &Key, source: &Source| {
        let reference = ObjectRef::new(kind.as_str(), &*key.0, &*key.1);
        held.insert(format!("{reference} in {}", source.file));
    };
    cluster.namespaces.iter().for_each(|(key, sourced)| add(Kind::Namespace, key, &sourced.source));
    cluster.nodes.iter().for_each(|(key, sourced)| add(Kind::Node, key, &sourced.source));
    cluster.pods.iter().for_each(|(key, sourced)| add(Kind::Pod, key, &sourced.source));
    cluster.services.iter().for_each(|(key, sourced)| add(Kind::Service, key, &sourced.source));
    cluster.endpoint_slices.iter().for_each(|(key, sourced)| add(Kind::EndpointSlice, key, &sourced.source));
    (held, definitions.problems().iter().map(ToString::to_string).collect())
}

/// Everything that a compiler sees, to find out what changed.
fn contents(cluster: &Cluster) -> BTreeMap<(Kind, Key), String> {
    let mut contents = BTreeMap::new();
    let nodes = cluster.nodes.iter().map(|(key, object)| ((Kind::Node, key.clone()), format!("{object:?}")));
    contents.extend(nodes);
    let pods = cluster.pods.iter().map(|(key, object)| ((Kind::Pod, key.clone()), format!("{object:?}")));
    contents.extend(pods);
    let services = cluster.services.iter().map(|(key, object)| ((Kind::Service, key.clone()), format!("{object:?}")));
    contents.extend(services);
    let slices = cluster.endpoint_slices.iter();
    contents.extend(slices.map(|(key, object)| ((Kind::EndpointSlice, key.clone()), format!("{object:?}"))));
    let namespaces = cluster.namespaces.iter();
    contents.extend(namespaces.map(|(key, object)| ((Kind::Namespace, key.clone()), format!("{object:?}"))));
    contents
}

fn text() -> impl Strategy<Value = Text> {
    prop::collection::vec((0..5u8, 0..4u8, prop::collection::vec(1..16u8, 0..3)), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn b21_any_order_of_changes_ends_as_if_the_files_were_read_at_once(
        rounds in prop::collection::vec(prop::collection::vec((0..4usize, text()), 1..3), 1..12),
    ) {
        const NAMES: [&str; 4] = ["a.yaml", "b/c.yaml", "b.yaml", "d.yaml"];
        let mut files = BTreeMap::new();
        let mut definitions = Definitions::default();
        for round in rounds {
            let before = contents(definitions.cluster());
            for (file, text) in &round {
                files.insert(NAMES[*file].to_owned(), text.clone());
            }
            let delta = definitions.apply(round.iter().map(|(file, text)| change(NAMES[*file], text)));
            prop_assert_eq!(held(&definitions), literal(&files));
            let after = contents(definitions.cluster());
            let differing: BTreeSet<_> = before.iter().filter(|(name, content)| after.get(name) != Some(content)).map(|(name, _)| name.clone())
                .chain(after.keys().filter(|name| !before.contains_key(name)).cloned()).collect();
            prop_assert_eq!(&delta.changed, &differing);
            for service in delta.changed.iter().filter(|(kind, _)| *kind == Kind::Service) {
                prop_assert!(delta.services.contains(&service.1));
            }
        }
        let all = files.iter().map(|(file, text)| change(file, text));
        let mut at_once = Definitions::default();
        at_once.apply(all);
        prop_assert_eq!(contents(at_once.cluster()), contents(definitions.cluster()));
        definitions.apply(files.keys().map(|file| FileChange { file: file.as_str().into(), objects: Vec::new() }));
        prop_assert!(definitions.defined.is_empty() && definitions.files.is_empty() && definitions.contested.is_empty());
        prop_assert!(definitions.claims.is_empty() && contents(definitions.cluster()).is_empty());
        prop_assert!(definitions.cluster().slices_of.is_empty());
    }
}

#[test]
fn a_slice_that_changes_its_service_concerns_both() {
    let mut definitions = Definitions::default();
    definitions.apply([change("a.yaml", &vec![(3, 0, vec![1])])]);
    let delta = definitions.apply([change("a.yaml", &vec![(3, 0, vec![2])])]);
    let names: Vec<&str> = delta.services.iter().map(|(_, name)| &**name).collect();
    assert_eq!(names, ["s1", "s2"]);
    assert!(delta.touches(Kind::EndpointSlice) && !delta.touches(Kind::Service));
}

#[test]
fn a_kept_object_is_what_its_file_said_before_and_the_same_content_changes_nothing() {
    let mut definitions = Definitions::default();
    let text = vec![(1, 0, vec![1]), (1, 1, vec![2])];
    definitions.apply([change("a.yaml", &text)]);
    assert!(definitions.apply([change("a.yaml", &text)]).is_empty());
    let kept = |name| Definition::kept(&ObjectRef::new("Pod", "default", name)).expect("Pod is a kind");
    let (kept, unknown) = (kept("p0"), kept("p7"));
    let delta = definitions.apply([FileChange { file: "a.yaml".into(), objects: vec![kept, unknown] }]);
    let names: Vec<&str> = delta.of(Kind::Pod).map(|(_, name)| &**name).collect();
    assert_eq!(names, ["p1"], "only the one that is neither written nor kept went");
    assert_eq!(definitions.cluster().pods.len(), 1);
}

#[test]
fn what_one_object_gives_up_goes_to_the_next_and_all_that_follows_from_it() {
    // p0 keeps p1 from 10.0.0.1; without p0, p1 gets it and keeps s0 from 10.0.0.1.
    let mut definitions = Definitions::default();
    definitions.apply([
        change("a.yaml", &vec![(1, 0, vec![1])]),
        change("b.yaml", &vec![(1, 1, vec![1])]),
        change("c.yaml", &vec![(2, 0, vec![1])]),
    ]);
    assert_eq!(definitions.problems().len(), 2);
    let delta = definitions.apply([change("a.yaml", &vec![])]);
    assert_eq!(delta.of(Kind::Pod).count(), 2);
    assert!(!delta.touches(Kind::Service), "s0 is refused for another reason now, and was not in force before");
    let problems: Vec<String> = definitions.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "c.yaml: Service default/s0: spec.clusterIPs: 10.0.0.1 is already used by Pod default/p1 in b.yaml (document 1)"
        ]
    );
}
