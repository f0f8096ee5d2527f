//! A pod's `/etc/resolv.conf`, as the kubelet writes it (D13): by `dnsPolicy` and `dnsConfig`, the cluster's zone and what the node's own
//! file says. Pure: who starts pods reads the node's file and writes the pod's.
//!
//! | dnsPolicy | name servers | search | options |
//! |---|---|---|---|
//! | `ClusterFirst`, `ClusterFirstWithHostNet` | the cluster DNS | `NS.svc.ZONE`, `svc.ZONE`, `ZONE`, the node's | `ndots:5` |
//! | `Default`; `ClusterFirst` in the node's network; where there is no cluster DNS | the node's | the node's | the node's |
//! | `None` | | | |
//!
//! What `dnsConfig` says is added, without what is there already; an option that is there gets its value. What is more than resolvers
//! take is left out.

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::net::IpAddr;

/// Name servers that resolvers read (`MAXNS` of resolv.h).
const NAMESERVERS_MAX: usize = 3;

/// Search domains, and their length in bytes with a blank between each two, that the kubelet writes (KEP-2595).
const SEARCHES_MAX: usize = 32;
const SEARCHES_BYTES_MAX: usize = 2_048;

/// Names with fewer dots are looked up in the search domains first.
const NDOTS: &str = "ndots:5";

/// What a pod says about its resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDns {
    /// spec.dnsPolicy; `None`: ClusterFirst.
    pub policy: Option<String>,
    /// spec.hostNetwork.
    pub host_network: bool,
    /// spec.dnsConfig.nameservers.
    pub nameservers: Vec<String>,
    /// spec.dnsConfig.searches.
    pub searches: Vec<String>,
    /// spec.dnsConfig.options, as `NAME` or `NAME:VALUE`.
    pub options: Vec<String>,
}

impl PodDns {
    /// Of a pod as it is written.
    pub fn of(pod: &Pod) -> PodDns {
        let Some(spec) = &pod.spec else { return PodDns::default() };
        let config = spec.dns_config.as_ref();
        let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
        let options = config.and_then(|config| config.options.as_ref()).into_iter().flatten();
        let option = |name: &String, value: Option<&String>| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        PodDns {
            policy: spec.dns_policy.clone(),
            host_network: spec.host_network.unwrap_or(false),
            nameservers: list(config.and_then(|config| config.nameservers.as_ref())),
            searches: list(config.and_then(|config| config.searches.as_ref())),
            options: options.filter_map(|given| Some(option(given.name.as_ref()?, given.value.as_ref()))).collect(),
        }
    }
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lines {
    nameservers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Lines {
    /// Of the node's file. The last `search` line counts, as in resolvers; comments and what is not understood do not.
    fn read(text: &str) -> Lines {
        let mut lines = Lines::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => lines.nameservers.extend(words.next()),
                Some("search") => lines.searches = words.collect(),
                Some("options") => lines.options = words.collect(),
                _ => {}
            }
        }
        lines
    }
}

/// The file of a pod in `namespace`. `cluster_dns` are the addresses that the pod asks, `node` is the content of the node's file.
pub fn write(dns: &PodDns, namespace: &str, zone: &str, cluster_dns: &[IpAddr], node: &str) -> String {
    let node = Lines::read(node);
    let asks_cluster = match dns.policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" => !dns.host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut lines = match dns.policy.as_deref() {
        Some("None") => Lines::default(),
        _ if asks_cluster && !cluster_dns.is_empty() => {
            let searches = [format!("{namespace}.svc.{zone}"), format!("svc.{zone}"), zone.to_owned()];
            Lines {
                nameservers: cluster_dns.iter().map(ToString::to_string).collect(),
                searches: searches.into_iter().chain(node.searches).collect(),
                options: vec![NDOTS.to_owned()],
            }
        }
        _ => node,
    };
    lines.nameservers.extend(dns.nameservers.iter().cloned());
    lines.searches.extend(dns.searches.iter().cloned());
    for option in &dns.options {
        match lines.options.iter_mut().find(|known| name_of(known) == name_of(option)) {
            Some(known) => known.clone_from(option),
            None => lines.options.push(option.clone()),
        }
    }
    fit(&mut lines);
    text_of(&lines)
}

fn name_of(option: &str) -> &str {
    option.split(':').next().unwrap_or(option)
}

/// Leaves out what is there twice and what is too much.
fn fit(lines: &mut Lines) {
    for list in [&mut lines.nameservers, &mut lines.searches] {
        let mut seen: Vec<String> = Vec::new();
        list.retain(|entry| {
            let is_new = !seen.contains(entry);
            seen.push(entry.clone());
            is_new
        });
    }
    lines.nameservers.truncate(NAMESERVERS_MAX);
    lines.searches.truncate(SEARCHES_MAX);
    let mut len = 0;
    lines.searches.retain(|search| {
        len += search.len() + usize::from(len > 0);
        len <= SEARCHES_BYTES_MAX
    });
}

fn text_of(lines: &Lines) -> String {
    let mut text = String::new();
    if !lines.searches.is_empty() {
        let _ = writeln!(text, "search {}", lines.searches.join(" "));
    }
    for nameserver in &lines.nameservers {
        let _ = writeln!(text, "nameserver {nameserver}");
    }
    if !lines.options.is_empty() {
        let _ = writeln!(text, "options {}", lines.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "# of the node\ndomain old\nsearch example.org corp.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions edns0 ndots:2\n";

    fn pod(spec: &str) -> PodDns {
        let yaml = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [], {spec}}}}}");
        let parsed = policy::objects::parse("pod.yaml", &yaml);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        match &parsed.objects[0].object {
            policy::objects::Object::Pod(pod) => PodDns::of(pod),
            other => panic!("{other:?}"),
        }
    }

    fn written(spec: &str) -> String {
        write(&pod(spec), "shop", "cluster.local", &["10.96.0.10".parse().unwrap()], NODE)
    }

    const CLUSTER_FIRST: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local example.org corp.example
nameserver 10.96.0.10
options ndots:5
";

    #[test]
    fn d13_a_pod_asks_the_cluster_and_one_in_the_nodes_network_whom_the_node_asks() {
        let node =
            "search example.org corp.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\noptions edns0 ndots:2\n";
        for (spec, expected) in [
            ("", CLUSTER_FIRST),
            ("dnsPolicy: ClusterFirst", CLUSTER_FIRST),
            ("dnsPolicy: ClusterFirst, hostNetwork: true", node),
            ("hostNetwork: true", node),
            ("dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true", CLUSTER_FIRST),
            ("dnsPolicy: Default", node),
            ("dnsPolicy: None", ""),
        ] {
            assert_eq!(written(spec), expected, "{spec}");
        }
        assert_eq!(write(&pod(""), "shop", "cluster.local", &[], NODE), node, "nobody answers for the cluster");
    }

    #[test]
    fn d13_what_dns_config_says_is_added_and_options_are_told_apart_by_their_names() {
        let config = "dnsConfig: {nameservers: [192.0.2.9, 10.96.0.10], searches: [svc.cluster.local, more.example], \
                      options: [{name: ndots, value: '2'}, {name: edns0}, {name: timeout, value: '1'}]}";
        assert_eq!(
            written(config),
            "search shop.svc.cluster.local svc.cluster.local cluster.local example.org corp.example more.example\n\
             nameserver 10.96.0.10\nnameserver 192.0.2.9\noptions ndots:2 edns0 timeout:1\n"
        );
        let none = format!("dnsPolicy: None, {config}");
        assert_eq!(
            written(&none),
            "search svc.cluster.local more.example\nnameserver 192.0.2.9\nnameserver 10.96.0.10\noptions ndots:2 edns0 timeout:1\n"
        );
    }

    #[test]
    fn d13_what_is_more_than_resolvers_take_is_left_out() {
        let many = |count: usize, text: &str| (0..count).map(|n| format!("{n}{text}")).collect::<Vec<_>>().join(", ");
        let config = |nameservers: usize, searches: usize, text: &str| {
            let nameservers = (0..nameservers).map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>().join(", ");
            format!(
                "dnsPolicy: None, dnsConfig: {{nameservers: [{nameservers}], searches: [{}]}}",
                many(searches, text)
            )
        };
        let lines = Lines::read(&written(&config(5, 40, ".example")));
        assert_eq!((lines.nameservers.len(), lines.searches.len()), (3, 32));
        let lines = Lines::read(&written(&config(1, 20, &format!(".{}.example", "x".repeat(190)))));
        assert_eq!(lines.searches.len(), 10);
        assert!(lines.searches.join(" ").len() <= SEARCHES_BYTES_MAX);
    }
}
