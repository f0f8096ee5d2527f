//! How the node answers the cluster DNS: what its command line says, with the defaults of kubeadm's CoreDNS.

use crate::controller::LabNetwork;
use crate::log::{Level, event};
use gateway::dns::forward::{DNS_PORT, ForwardConfig, ForwardError, StubDomain, Upstreams};
use gateway::dns::{DnsConfig, PodRecords};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Who is asked for names that are not the cluster's, unless somebody says otherwise: whom the node asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The cluster DNS of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDns {
    /// Where pods ask, the same on every node.
    pub addresses: Vec<IpAddr>,
    /// The cluster's zone and which pods have names.
    pub names: DnsConfig,
    /// Who is asked for all other names; empty: whom the node's resolv.conf names.
    pub upstreams: Vec<SocketAddr>,
    /// Zones that have servers of their own.
    pub stub_domains: Vec<StubDomain>,
}

impl Default for ClusterDns {
    /// At the addresses of the lab's network, `cluster.local`, pods by their addresses whether they exist or not (`pods insecure`).
    fn default() -> ClusterDns {
        ClusterDns {
            addresses: LabNetwork::default().dns_addresses(),
            names: DnsConfig { pods: PodRecords::Insecure, ..DnsConfig::default() },
            upstreams: Vec::new(),
            stub_domains: Vec::new(),
        }
    }
}

impl ClusterDns {
    /// Whether everybody named here can be asked.
    pub fn check(&self) -> Result<(), ForwardError> {
        self.forward().check()
    }

    /// The same as the dataplane is told.
    pub(super) fn of_node(&self) -> node::ClusterDns {
        node::ClusterDns {
            addresses: self.addresses.clone(),
            responder: DnsConfig { addresses: self.addresses.clone(), ..self.names.clone() },
            forward: self.forward(),
            report: |what| event(Level::Warn, "cluster DNS", &[("what", &what)]),
        }
    }

    fn forward(&self) -> ForwardConfig {
        let upstreams = match self.upstreams.is_empty() {
            true => Upstreams::ResolvConf(PathBuf::from(RESOLV_CONF)),
            false => Upstreams::Fixed(self.upstreams.clone()),
        };
        ForwardConfig {
            upstreams,
            stub_domains: self.stub_domains.clone(),
            own: self.addresses.iter().map(|addr| SocketAddr::new(*addr, DNS_PORT)).collect(),
        }
    }
}
