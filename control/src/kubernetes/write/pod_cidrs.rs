//! Pod ranges of nodes where the controller manager gives none (`--allocate-node-cidrs=false`): the next free part of each of the
//! cluster's ranges.
//!
//! They are written where the controller manager would, to spec.podCIDRs, which the API server lets be set once and never changed; so
//! everybody reads them alike, and a node whose agent was never started has one too. Only the process that leads gives ranges.
//! What it gave is remembered until it shows in the objects; a process that begins to lead looks at all Nodes once more before its
//! first write, because its own objects may be older than the last write of the one before ([`Ranges`]).

use super::{Target, Wish, Wishes};
use crate::ipam::subrange;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use policy::cluster::Cluster;
use policy::objects::{Kind, ObjectRef, Problem, Severity, Source};
use serde_json::Value;
use std::collections::BTreeMap;

/// Prefix lengths of a node's share, as the controller manager's defaults.
const SHARE_V4: u8 = 24;
const SHARE_V6: u8 = 64;

/// Shares of a range that are looked at. A cluster has at most 5,000 nodes or so.
const SHARES_MAX: u128 = 65_536;

/// The ranges that pods of the cluster have their addresses from, at most one per family.
#[derive(Debug, Default)]
pub struct ClusterCidrs {
    cidrs: Vec<IpNet>,
    given: BTreeMap<String, Vec<IpNet>>,
}

impl ClusterCidrs {
    /// Gives parts of `cidrs`; of none: nothing is given.
    pub fn new(cidrs: Vec<IpNet>) -> ClusterCidrs {
        ClusterCidrs { cidrs, given: BTreeMap::new() }
    }

    /// What nodes without a range should have, and for which nothing is left.
    pub fn wishes(&mut self, cluster: &Cluster) -> (Wishes, Vec<Problem>) {
        let (mut wishes, mut problems) = (Wishes::new(), Vec::new());
        if self.cidrs.is_empty() {
            return (wishes, problems);
        }
        let names = |name: &str| cluster.nodes.contains_key(&("".into(), name.into()));
        self.given.retain(|name, _| names(name));
        let mut taken = Ranges::default();
        let mut without = Vec::new();
        for ((_, name), node) in &cluster.nodes {
            let own = ranges_of(&node.object);
            if own.is_empty() {
                without.push((name, &node.source));
            } else {
                self.given.remove(&**name);
                taken.add(name, own);
            }
        }
        for (name, ranges) in &self.given {
            taken.add(name, ranges.clone());
        }
        for (name, source) in without {
            let ranges = match self.given.get(&**name) {
                Some(given) => given.clone(),
                None => match self.cidrs.iter().map(|cidr| taken.free_share(cidr)).collect::<Option<Vec<IpNet>>>() {
                    Some(free) => free,
                    None => {
                        problems.push(self.exhausted(source, name));
                        continue;
                    }
                },
            };
            taken.add(name, ranges.clone());
            let texts = ranges.iter().map(ToString::to_string).collect();
            wishes.insert(Target::new(Kind::Node, "", name), Wish::TheseCidrs(texts));
            self.given.insert(name.to_string(), ranges);
        }
        (wishes, problems)
    }

    fn exhausted(&self, source: &Source, name: &str) -> Problem {
        let cidrs: Vec<String> = self.cidrs.iter().map(ToString::to_string).collect();
        let message = format!(
            "every pod range of {} is some node's: give --cluster-cidr a larger range, or remove Nodes that are gone",
            cidrs.join(", ")
        );
        Problem::of(source, ObjectRef::new("Node", "", name), "spec.podCIDRs", message, Severity::Warning)
    }
}

/// Ranges that are some node's.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(String, IpNet)>);

impl Ranges {
    /// Those of a NodeList.
    pub(super) fn of_list(list: &Value) -> Ranges {
        let mut ranges = Ranges::default();
        for node in list["items"].as_array().into_iter().flatten() {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            let cidrs = node["spec"]["podCIDRs"].as_array().into_iter().flatten();
            ranges.add(name, cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect());
        }
        ranges
    }

    pub(super) fn add(&mut self, node: &str, ranges: Vec<IpNet>) {
        self.0.extend(ranges.into_iter().map(|range| (node.to_owned(), range)));
    }

    /// Whether a node other than `node` has a part of `range`.
    pub(super) fn is_taken(&self, node: &str, range: &IpNet) -> bool {
        self.0.iter().any(|(owner, other)| owner != node && overlap(range, other))
    }

    fn free_share(&self, cidr: &IpNet) -> Option<IpNet> {
        let usual = if cidr.addr().is_ipv4() { SHARE_V4 } else { SHARE_V6 };
        // A range that is smaller than the usual share is one node's.
        let share = usual.max(cidr.prefix_len());
        let mut shares = (0..SHARES_MAX).map_while(|index| subrange(cidr, share, index));
        shares.find(|share| !self.0.iter().any(|(_, other)| overlap(share, other)))
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn ranges_of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    listed.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::objects::parse;
    use serde_json::json;

    fn cluster(nodes: &[(&str, &str)]) -> Cluster {
        let node = |(name, cidrs): &(&str, &str)| {
            format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{podCIDRs: [{cidrs}]}}\n")
        };
        let parsed = parse("test", &nodes.iter().map(node).collect::<String>());
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        Cluster::from_objects(parsed.objects).0
    }

    fn cidrs(texts: &[&str]) -> ClusterCidrs {
        ClusterCidrs::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn given(wishes: &Wishes) -> Vec<(&str, String)> {
        let text = |wish: &Wish| match wish {
            Wish::TheseCidrs(cidrs) => cidrs.join(","),
            other => panic!("{other:?}"),
        };
        wishes.iter().map(|(target, wish)| (&*target.name, text(wish))).collect()
    }

    #[test]
    fn nodes_without_a_range_get_the_first_free_share_of_each_family() {
        let mut cidrs = cidrs(&["10.244.0.0/16", "fd00:244::/48"]);
        let nodes = cluster(&[("a", ""), ("b", "10.244.0.0/24"), ("c", "")]);
        let (wishes, problems) = cidrs.wishes(&nodes);
        let expected =
            [("a", "10.244.1.0/24,fd00:244::/64".to_owned()), ("c", "10.244.2.0/24,fd00:244:0:1::/64".to_owned())];
        assert_eq!((given(&wishes), problems), (expected.to_vec(), Vec::new()));
        assert_eq!(cidrs.wishes(&nodes).0, wishes, "the same again");
    }

    #[test]
    fn a_range_that_does_not_show_yet_is_nobody_elses() {
        let mut cidrs = cidrs(&["10.244.0.0/16"]);
        cidrs.wishes(&cluster(&[("z", "")]));
        let (wishes, _) = cidrs.wishes(&cluster(&[("a", ""), ("z", "")]));
        assert_eq!(given(&wishes), [("a", "10.244.1.0/24".to_owned()), ("z", "10.244.0.0/24".to_owned())]);
        // What shows is taken as it is, and that of a node that is gone is free.
        let (wishes, _) = cidrs.wishes(&cluster(&[("b", ""), ("z", "10.244.7.0/24")]));
        assert_eq!(given(&wishes), [("b", "10.244.0.0/24".to_owned())]);
    }

    #[test]
    fn when_nothing_is_left_the_node_is_told_of() {
        let mut cidrs = cidrs(&["10.244.0.0/23"]);
        let (wishes, problems) = cidrs.wishes(&cluster(&[("a", ""), ("b", ""), ("c", "")]));
        assert_eq!(wishes.len(), 2);
        assert!(
            problems[0].to_string().contains("Node c: spec.podCIDRs: every pod range of 10.244.0.0/23"),
            "{problems:?}"
        );
        assert_eq!(ClusterCidrs::default().wishes(&cluster(&[("a", "")])), Default::default());
    }

    #[test]
    fn ranges_of_other_nodes_are_known_from_their_list() {
        let list = json!({"items": [{"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.244.0.0/24", "x", 7]}},
                                    {"metadata": {"name": "b"}, "spec": {}}, 5]});
        let ranges = Ranges::of_list(&list);
        let range: IpNet = "10.244.0.0/25".parse().unwrap();
        assert!(ranges.is_taken("b", &range) && !ranges.is_taken("a", &range));
    }
}
