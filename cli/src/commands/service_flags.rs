//! The flags about Services and traffic across the edge of the cluster that `podplane node` and `podplane explain` share.
//!
//! A prediction holds only if it is made with the flags that the node runs with, so both take the same ones with the same
//! meaning and the same defaults.

use clap::Args;
use ipnet::IpNet;
use lab::NodeOptions;
use std::net::IpAddr;

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
}

impl ServiceFlags {
    /// As every node of a lab is told.
    pub(crate) fn node_options(&self) -> NodeOptions {
        NodeOptions {
            nodeport_addresses: self.nodeport_addresses.clone(),
            external_ips: self.external_ips.clone(),
            masquerade_all: self.masquerade_all,
            non_masquerade_cidrs: self.non_masquerade_cidrs.clone(),
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
    fn what_is_no_range_is_named() {
        let error = parse(&["--nodeport-addresses", "eth0"]).unwrap_err();
        assert!(error.contains("\"eth0\" is neither a CIDR such as 192.0.2.0/24 nor an address"), "{error}");
    }
}
