//! The flags about the cluster DNS that `podplane node` and `podplane lab up` share; where it is asked is in `service_flags`.

use super::dns::{Pods, server, stub_domain};
use super::service_flags::Addresses;
use clap::{Args, ValueEnum};
use control::agent::ClusterDns;
use gateway::dns::DnsConfig;
use gateway::dns::forward::StubDomain;
use std::net::SocketAddr;

/// How nodes answer names.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Cluster DNS")]
pub(crate) struct DnsFlags {
    /// Zone of the cluster's names [default: cluster.local]
    #[arg(long, value_name = "ZONE")]
    pub(crate) cluster_domain: Option<String>,
    /// Whether 1-2-3-4.NAMESPACE.pod.ZONE is answered: never, for every address, or where a pod has it [default: insecure]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) dns_pods: Option<Pods>,
    /// Who is asked for names that are not the cluster's, in this order [default: the nameservers of the node's
    /// /etc/resolv.conf]
    #[arg(long, value_name = "ADDR[:PORT],...", value_delimiter = ',', value_parser = server)]
    pub(crate) dns_upstream: Vec<SocketAddr>,
    /// Who is asked for the names of a zone; may be repeated, also with several servers of a zone
    #[arg(long, value_name = "ZONE=ADDR[:PORT]", value_parser = stub_domain)]
    pub(crate) dns_stub_domain: Vec<(String, SocketAddr)>,
}

impl DnsFlags {
    /// As a node is told; `None` if it answers no names. The error is what of the flags contradicts itself.
    pub(crate) fn cluster_dns(&self, addresses: Option<&Addresses>) -> Result<Option<ClusterDns>, String> {
        let defaults = ClusterDns::default();
        let addresses = addresses.map_or(defaults.addresses, |addresses| addresses.0.clone());
        if addresses.is_empty() {
            return Ok(None);
        }
        let of_zone = |zone: &String| DnsConfig::of_zone(zone).map_err(|error| format!("--cluster-domain: {error}"));
        let names = self.cluster_domain.as_ref().map(of_zone).transpose()?.unwrap_or_else(|| defaults.names.clone());
        let pods = self.dns_pods.map_or(defaults.names.pods, Into::into);
        let mut stub_domains: Vec<StubDomain> = Vec::new();
        for (zone, server) in &self.dns_stub_domain {
            match stub_domains.iter_mut().find(|known| known.zone == *zone) {
                Some(known) => known.upstreams.push(*server),
                None => stub_domains.push(StubDomain { zone: zone.clone(), upstreams: vec![*server] }),
            }
        }
        let upstreams = self.dns_upstream.clone();
        let dns = ClusterDns { addresses, names: DnsConfig { pods, ..names }, upstreams, stub_domains };
        dns.check().map_err(|error| format!("cluster DNS: {error}"))?;
        Ok(Some(dns))
    }

    /// The same flags again but for the zone, for the nodes of a lab.
    pub(crate) fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        let pods = self.dns_pods.and_then(|pods| pods.to_possible_value());
        args.extend(pods.map(|value| format!("--dns-pods={}", value.get_name())));
        args.extend(self.dns_upstream.iter().map(|server| format!("--dns-upstream={server}")));
        let stubs = self.dns_stub_domain.iter();
        args.extend(stubs.map(|(zone, server)| format!("--dns-stub-domain={zone}={server}")));
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: DnsFlags,
    }

    fn parse(arguments: &[&str]) -> Result<DnsFlags, String> {
        let line = std::iter::once("podplane").chain(arguments.iter().copied());
        Command::try_parse_from(line).map(|command| command.flags).map_err(|error| error.to_string())
    }

    const ALL: [&str; 6] = [
        "--cluster-domain=k8s.example",
        "--dns-pods=verified",
        "--dns-upstream=192.0.2.1:53",
        "--dns-upstream=[2001:db8::1]:5353",
        "--dns-stub-domain=corp.example=192.0.2.2:53",
        "--dns-stub-domain=corp.example=192.0.2.3:53",
    ];

    #[test]
    fn what_a_lab_is_told_its_nodes_are_told() {
        assert_eq!(parse(&ALL).unwrap().args(), ALL[1..]);
        assert_eq!(DnsFlags::default().args(), [""; 0]);
        let short = parse(&["--dns-upstream", "192.0.2.1,2001:db8::1"]).unwrap();
        assert_eq!(short.args(), ["--dns-upstream=192.0.2.1:53", "--dns-upstream=[2001:db8::1]:53"]);
    }

    #[test]
    fn servers_of_one_zone_are_put_together() {
        let dns = parse(&ALL).unwrap().cluster_dns(None).unwrap().expect("names are answered");
        assert_eq!((dns.upstreams.len(), dns.stub_domains.len(), dns.stub_domains[0].upstreams.len()), (2, 1, 2));
        assert_eq!(dns.names.pods, Pods::Verified.into());
        assert_eq!(dns.addresses, ClusterDns::default().addresses);
        assert_eq!(parse(&ALL).unwrap().cluster_dns(Some(&Addresses(Vec::new()))), Ok(None));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |arguments: &[&str]| parse(arguments).and_then(|flags| flags.cluster_dns(None)).unwrap_err();
        assert!(refused(&["--dns-upstream=dns"]).contains("\"dns\" is not an address"));
        assert!(refused(&["--dns-stub-domain=192.0.2.1"]).contains("is not ZONE=ADDR[:PORT]"));
        assert!(refused(&["--cluster-domain=a..b"]).contains("--cluster-domain: \"a..b\" is not a DNS name"));
        assert!(refused(&["--dns-upstream=10.96.0.10"]).contains("10.96.0.10"), "the node itself");
    }
}
