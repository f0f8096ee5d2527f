//! What of a lab's command line outlives the command that started it: kept in `RUN_DIR/settings.json`, read by every later
//! command and by the lab's own processes.

use crate::error::{LabError, Result};
use crate::underlay::UnderlayKind;
use control::controller::LabNetwork;
use ipnet::IpNet;
use policy::compile::CompileOptions;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// How the nodes of a lab open TAPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TapMode {
    /// With offloads where the kernel has them.
    #[default]
    Auto,
    /// With offloads, or not at all.
    Offload,
    /// Without offloads.
    Plain,
}

impl TapMode {
    /// The value of `podplane node --tap-mode`.
    pub fn as_str(self) -> &'static str {
        match self {
            TapMode::Auto => "auto",
            TapMode::Offload => "offload",
            TapMode::Plain => "plain",
        }
    }
}

/// What every node of a lab is told about Services and the outside: the flags of `podplane node` of the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeOptions {
    /// `--nodeport-addresses`: node addresses that serve nodePorts; empty means all.
    pub nodeport_addresses: Vec<IpNet>,
    /// `--external-ips`: ranges that externalIPs may come from; empty means none.
    pub external_ips: Vec<IpNet>,
    /// `--masquerade-all`: servers see the node's address instead of the client's.
    pub masquerade_all: bool,
    /// `--non-masquerade-cidrs`: outside destinations that see the pod's own address.
    pub non_masquerade_cidrs: Vec<IpNet>,
    /// `--cluster-dns`: where nodes answer the cluster DNS; empty: nowhere, `None`: at the addresses of the lab's network.
    #[serde(default)]
    pub cluster_dns: Option<Vec<IpAddr>>,
    /// `--cluster-domain`: the zone of the cluster's names; `None`: `cluster.local`.
    #[serde(default)]
    pub cluster_domain: Option<String>,
    /// Other arguments as they were given, which only the nodes need to know: `--dns-upstream=...` and the like.
    #[serde(default)]
    pub others: Vec<String>,
}

impl NodeOptions {
    /// The zone of the cluster's names.
    pub(crate) fn cluster_domain(&self) -> &str {
        self.cluster_domain.as_deref().unwrap_or("cluster.local")
    }

    /// Where nodes answer the cluster DNS.
    pub fn cluster_dns(&self) -> Vec<IpAddr> {
        self.cluster_dns.clone().unwrap_or_else(|| LabNetwork::default().dns_addresses())
    }

    /// What of it changes the tables: the lab judges manifests as its nodes will.
    pub(crate) fn compile_options(&self) -> CompileOptions {
        CompileOptions {
            external_ips: self.external_ips.clone(),
            node_port_addresses: self.nodeport_addresses.clone(),
            cluster_dns: self.cluster_dns(),
        }
    }

    /// As arguments of `podplane node`; what is not given is left to its default.
    pub(crate) fn args(&self) -> Vec<String> {
        let lists = [
            ("--nodeport-addresses", &self.nodeport_addresses),
            ("--external-ips", &self.external_ips),
            ("--non-masquerade-cidrs", &self.non_masquerade_cidrs),
        ];
        let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
        let mut args: Vec<String> = given
            .map(|(flag, list)| {
                let list: Vec<String> = list.iter().map(IpNet::to_string).collect();
                format!("{flag}={}", list.join(","))
            })
            .collect();
        args.extend(self.masquerade_all.then(|| "--masquerade-all".to_owned()));
        args.extend(self.cluster_dns.as_ref().map(|addresses| {
            let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("--cluster-dns={}", if listed.is_empty() { "none".to_owned() } else { listed.join(",") })
        }));
        args.extend(self.cluster_domain.as_ref().map(|zone| format!("--cluster-domain={zone}")));
        args.extend(self.others.iter().cloned());
        args
    }
}

/// What this machine or container is in a lab whose other parts run elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Member {
    /// The node of this name.
    Node(String),
    /// The host outside of the cluster.
    World,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::Node(name) => f.write_str(name),
            Member::World => f.write_str("world"),
        }
    }
}

/// What of a lab's settings outlives the command that started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Number of nodes where the manifests name none.
    pub(crate) nodes: u16,
    /// How they open TAPs.
    pub(crate) tap_mode: TapMode,
    /// What joins them.
    pub(crate) underlay: UnderlayKind,
    /// What else every node is told.
    pub(crate) node_options: NodeOptions,
    /// What of the lab runs here; `None`: all of it.
    #[serde(default)]
    pub(crate) member: Option<Member>,
    /// Networks that join the nodes, one per family; none: those of the address plan.
    #[serde(default)]
    pub(crate) underlay_ranges: Vec<IpNet>,
}

impl Settings {
    /// The address plan.
    pub(crate) fn network(&self) -> LabNetwork {
        let network = LabNetwork::with_nodes(self.nodes);
        if self.underlay_ranges.is_empty() { network } else { network.on(self.underlay_ranges.clone()) }
    }

    pub(crate) fn write(&self, run_dir: &Path) -> Result<()> {
        let path = run_dir.join("settings.json");
        let bytes = serde_json::to_vec(self).expect("settings are plain data");
        fs::write(&path, bytes).map_err(|e| LabError::io(path.display(), e))
    }

    pub(crate) fn read(run_dir: &Path) -> Result<Settings> {
        let path = run_dir.join("settings.json");
        let bytes = fs::read(&path).map_err(|e| LabError::io(path.display(), e))?;
        serde_json::from_slice(&bytes).map_err(|e| LabError::Failed(format!("{}: {e}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_told_what_was_given_and_nothing_else() {
        assert_eq!(NodeOptions::default().args(), Vec::<String>::new());
        let options = NodeOptions {
            external_ips: vec!["198.51.100.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
            masquerade_all: true,
            cluster_dns: Some(Vec::new()),
            others: vec!["--shards=2".to_owned()],
            ..NodeOptions::default()
        };
        let expected =
            ["--external-ips=198.51.100.0/24,2001:db8::/64", "--masquerade-all", "--cluster-dns=none", "--shards=2"];
        assert_eq!(options.args(), expected);
    }
}
