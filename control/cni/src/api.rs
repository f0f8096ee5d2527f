//! What goes over the node process's socket for CNI. Fields are added, never renamed.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/cni/add` | [`Add`] in, [`Added`] out, when policies judge the port |
//! | `POST /v1/cni/del` | [`Del`] in, [`Removed`] out; what is not there is removed already |
//! | `POST /v1/cni/check` | [`Check`] in, `{}` out if all is as it was added |
//! | `POST /v1/cni/gc` | [`Gc`] in, [`Collected`] out |
//! | `GET /v1/cni/status` | `{}` if an add could succeed |

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Asks for an interface in a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Add {
    /// Name of the network in the configuration.
    pub network: String,
    /// Id of the sandbox; with `ifname` the name of the attachment.
    pub container_id: String,
    /// Name of the interface.
    pub ifname: String,
    /// The sandbox's network namespace.
    pub netns: PathBuf,
    /// Who it is to Kubernetes, as far as the runtime says.
    pub pod: PodArgs,
    /// Labels of a pod that no object describes.
    pub labels: BTreeMap<String, String>,
    /// Addresses that it is to have; of a family without one, the next free one.
    pub ips: Vec<IpAddr>,
    /// MAC that it is to have.
    pub mac: Option<String>,
    /// Ports of the node that lead to it.
    pub port_mappings: Vec<PortMapping>,
    /// Limits of its interface.
    pub bandwidth: Option<Bandwidth>,
}

/// `K8S_POD_*` of CNI_ARGS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodArgs {
    /// metadata.namespace.
    pub namespace: Option<String>,
    /// metadata.name.
    pub name: Option<String>,
    /// metadata.uid.
    pub uid: Option<String>,
}

/// A port of the node that leads into a sandbox (capability portMappings).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port of the node; 0 asks for none.
    pub host_port: u16,
    /// Port in the sandbox.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`, in any case.
    #[serde(default = "tcp")]
    pub protocol: String,
    /// The node's address that it is on; none, or an unspecified one: all.
    #[serde(
        default,
        rename = "hostIP",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "address_or_empty"
    )]
    pub host_ip: Option<IpAddr>,
}

fn tcp() -> String {
    "tcp".to_owned()
}

fn address_or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("hostIP {text:?} is not an IP address")))
}

/// Limits of an interface (capability bandwidth), in bits per second and bits; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// Towards the sandbox.
    pub ingress_rate: u64,
    /// See `ingress_rate`.
    pub ingress_burst: u64,
    /// From the sandbox.
    pub egress_rate: u64,
    /// See `egress_rate`.
    pub egress_burst: u64,
}

impl Bandwidth {
    /// Whether it limits anything.
    pub fn is_limited(&self) -> bool {
        self.ingress_rate > 0 || self.egress_rate > 0
    }
}

/// An interface that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Its MAC.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Its addresses and the gateway of each.
    pub addresses: Vec<Address>,
    /// What its resolver should be told.
    pub dns: Dns,
    /// What was asked for and is not done.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address, set as /32 or /128.
    pub address: IpAddr,
    /// Where everything is sent through.
    pub gateway: IpAddr,
}

/// `dns` of a configuration and of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Ends an attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Del {
    /// Id of the sandbox.
    pub container_id: String,
    /// Name of the interface.
    pub ifname: String,
}

/// Whether there was something to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Whether there was such an attachment.
    pub removed: bool,
}

/// Asks whether an attachment is as it was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Id of the sandbox.
    pub container_id: String,
    /// Name of the interface.
    pub ifname: String,
    /// The sandbox's network namespace.
    pub netns: PathBuf,
    /// Addresses that the interface has by the last result.
    pub addresses: Vec<IpAddr>,
    /// Gateways of default routes by the last result; plugins behind may have replaced others.
    pub gateways: Vec<IpAddr>,
}

/// Asks to end all attachments of a network but the valid ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gc {
    /// Name of the network in the configuration.
    pub network: String,
    /// What the runtime still has.
    pub valid: Vec<Del>,
}

/// What was ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// How many attachments.
    pub removed: usize,
    /// What could not be ended.
    pub errors: Vec<String>,
}
