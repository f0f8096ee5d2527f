//! The flags about Services and traffic across the edge of the cluster that `podplane node` and `podplane explain` share.
//!
//! A prediction holds only if it is made with the flags that the node runs with, so both take the same ones with the same
//! meaning and the same defaults.

use clap::Args;
use gateway::dns::desk::ADDRESSES_MAX;
use ipnet::IpNet;
use lab::NodeOptions;
use std::net::IpAddr;
use std::str::FromStr;

/// What is served to the outside, and when a packet's source becomes the node's address.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Services and traffic from and to the outside")]
pub(crate) struct ServiceFlags {
    /// Serve nodePorts only on node addresses in these ranges; may be repeated [default: on all node addresses]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = range)]
    pub(crate) nodeport_addresses: Vec<IpNet>,
    /// Serve spec.externalIPs of Services in these ranges; an address outside of them is reported and not served, because
    /// whoever may write a Service could take any address over (CVE-2020-8554) [default: none]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = range)]
    pub(crate) external_ips: Vec<IpNet>,
    /// Give every packet to a Service the node's address as its source; without it backends see the client's own address
    #[arg(long)]
    pub(crate) masquerade_all: bool,
    /// Pods reach these ranges with their own address instead of the node's; pods, Services and nodes are always reached so
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = range)]
    pub(crate) non_masquerade_cidrs: Vec<IpNet>,
    /// Addresses at which every node answers the cluster DNS itself, or `none`: then pods do [default: 10.96.0.10 and
    /// fd00:10:96::a]
    #[arg(long, value_name = "ADDR,...|none")]
    pub(crate) cluster_dns: Option<Addresses>,
}

/// Addresses, or `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses(pub(crate) Vec<IpAddr>);

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Addresses, String> {
        if text == "none" {
            return Ok(Addresses(Vec::new()));
        }
        let parse = |part: &str| part.parse().map_err(|_| format!("{part:?} is not an address, nor none"));
        let addresses = text.split(',').map(parse).collect::<Result<Vec<IpAddr>, _>>()?;
        match addresses.len() {
            ..=ADDRESSES_MAX => Ok(Addresses(addresses)),
            _ => Err(format!("no more than {ADDRESSES_MAX} addresses")),
        }
    }
}

impl ServiceFlags {
    /// As every node of a lab is told.
    pub(crate) fn node_options(&self) -> NodeOptions {
        NodeOptions {
            nodeport_addresses: self.nodeport_addresses.clone(),
            external_ips: self.external_ips.clone(),
            masquerade_all: self.masquerade_all,
            non_masquerade_cidrs: self.non_masquerade_cidrs.clone(),
            cluster_dns: self.cluster_dns.clone().map(|addresses| addresses.0),
            cluster_domain: None,
            others: Vec::new(),
        }
    }
}

/// A range, or a single address.
pub(crate) fn range(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().map(|net| net.trunc()).or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| format!("{text:?} is neither a CIDR such as 192.0.2.0/24 nor an address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: ServiceFlags,
    }

    fn parse(arguments: &[&str]) -> Result<ServiceFlags, String> {
        let line = std::iter::once("podplane").chain(arguments.iter().copied());
        Command::try_parse_from(line).map(|command| command.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_are_separated_by_commas_or_repeated_and_take_single_addresses() {
        let flags = parse(&["--external-ips", "192.0.2.7/24,2001:db8::1", "--external-ips", "10.0.0.1"]).unwrap();
        let texts: Vec<String> = flags.external_ips.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.0/24", "2001:db8::1/128", "10.0.0.1/32"]);
        assert_eq!(parse(&[]).unwrap(), ServiceFlags::default());
        assert!(parse(&["--masquerade-all"]).unwrap().masquerade_all);
    }

    #[test]
    fn the_addresses_of_the_cluster_dns_are_listed_or_none() {
        let listed = |text: &str| parse(&["--cluster-dns", text]).map(|flags| flags.node_options().cluster_dns);
        assert_eq!(
            listed("10.0.0.10,fd00::a"),
            Ok(Some(vec!["10.0.0.10".parse().unwrap(), "fd00::a".parse().unwrap()]))
        );
        assert_eq!(listed("none"), Ok(Some(Vec::new())));
        assert!(listed("10.0.0.10,dns").unwrap_err().contains("\"dns\" is not an address, nor none"));
        assert!(listed("::1,::2,::3,::4,::5").unwrap_err().contains("no more than 4 addresses"));
    }

    #[test]
    fn what_is_no_range_is_named() {
        let error = parse(&["--nodeport-addresses", "eth0"]).unwrap_err();
        assert!(error.contains("\"eth0\" is neither a CIDR such as 192.0.2.0/24 nor an address"), "{error}");
    }
}
