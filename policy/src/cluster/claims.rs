//! What two objects cannot both have: addresses of nodes, pods and Services, and pod CIDRs of nodes.
//!
//! An object gets all that it wishes for, or nothing; what counts is who comes first. Nodes come before pods and pods before
//! Services, so that a mistake in the lesser thing does not take down the greater. Pods of the host network and pods that
//! have ended claim nothing. The order, and who was refused, is kept by the caller ([`super::Definitions`]); here is who
//! wishes for what.

use super::Item;
use super::definitions::{Id, Name};
use crate::objects::{Kind, Source};
use crate::tables::gateway;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, btree_map};
use std::net::IpAddr;

/// What an object claims, and the field that says so.
#[derive(Debug)]
pub(super) struct Wish {
    field: &'static str,
    addresses: Vec<IpAddr>,
    cidrs: Vec<IpNet>,
}

/// Why a wish is not granted: a field of the object, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) field: &'static str,
    pub(super) message: String,
}

/// When objects of a kind are judged; `None` if they claim nothing.
pub(super) fn rank(kind: Kind) -> Option<u8> {
    match kind {
        Kind::Node => Some(0),
        Kind::Pod => Some(1),
        Kind::Service => Some(2),
        _ => None,
    }
}

impl Wish {
    /// `None` if the object claims nothing.
    pub(super) fn of(item: &Item) -> Option<Wish> {
        match item {
            Item::Node(node) => {
                let cidrs = pod_cidrs(node);
                let mut addresses = node_addresses(node);
                addresses.extend(cidrs.iter().copied().map(gateway));
                Some(Wish { field: "status.addresses", addresses, cidrs })
            }
            Item::Pod(pod) if pod.host_network || pod.ended => None,
            Item::Pod(pod) => {
                Some(Wish { field: "status.podIPs", addresses: pod.addresses.to_vec(), cidrs: Vec::new() })
            }
            Item::Service(service) => {
                Some(Wish { field: "spec.clusterIPs", addresses: cluster_ips(service), cidrs: Vec::new() })
            }
            _ => None,
        }
    }
}

/// Who wishes for what, whether it is granted or not.
#[derive(Debug, Default)]
pub(super) struct Claims {
    addresses: HashMap<IpAddr, Vec<Id>>,
    /// By first address and prefix length.
    cidrs: BTreeMap<(IpAddr, u8), Vec<Id>>,
}

impl Claims {
    /// Takes down what `id` wishes for from now on.
    pub(super) fn replace(&mut self, id: &Id, before: Option<&Wish>, after: Option<&Wish>) {
        if let Some(wish) = before {
            for address in &wish.addresses {
                if let Entry::Occupied(mut entry) = self.addresses.entry(*address) {
                    entry.get_mut().retain(|other| other != id);
                    if entry.get().is_empty() {
                        entry.remove();
                    }
                }
            }
            for cidr in &wish.cidrs {
                if let btree_map::Entry::Occupied(mut entry) = self.cidrs.entry(place(*cidr)) {
                    entry.get_mut().retain(|other| other != id);
                    if entry.get().is_empty() {
                        entry.remove();
                    }
                }
            }
        }
        if let Some(wish) = after {
            for address in &wish.addresses {
                self.addresses.entry(*address).or_insert_with(|| Vec::with_capacity(1)).push(id.clone());
            }
            for cidr in &wish.cidrs {
                self.cidrs.entry(place(*cidr)).or_default().push(id.clone());
            }
        }
    }

    /// Everyone who wishes for something of `wish`.
    pub(super) fn concerned<'a>(&'a self, wish: &'a Wish) -> impl Iterator<Item = &'a Id> {
        let of_addresses = wish.addresses.iter().filter_map(|address| self.addresses.get(address)).flatten();
        of_addresses.chain(wish.cidrs.iter().flat_map(|cidr| self.overlapping(*cidr)).map(|(_, id)| id))
    }

    /// Grants all that is wished, or nothing: then the refusal names a field and the holder. `holds` tells of someone else
    /// whether their wish comes first and is granted, and who they are.
    pub(super) fn refuse<'a>(
        &'a self,
        wish: &Wish,
        holds: impl Fn(&'a Id) -> Option<(&'a Name, &'a Source)>,
    ) -> Option<Refusal> {
        for cidr in &wish.cidrs {
            let holder = self.overlapping(*cidr).find_map(|(other, id)| Some((other, holds(id)?)));
            if let Some((other, holder)) = holder {
                return Some(Refusal {
                    field: "spec.podCIDRs",
                    message: format!("{cidr} overlaps {other} of {}", name(holder)),
                });
            }
        }
        for address in &wish.addresses {
            if let Some(holder) = self.addresses.get(address).into_iter().flatten().find_map(&holds) {
                return Some(Refusal {
                    field: wish.field,
                    message: format!("{address} is already used by {}", name(holder)),
                });
            }
        }
        None
    }

    /// CIDRs that share addresses with `cidr`, by their first address: those that hold it, then those in it.
    fn overlapping(&self, cidr: IpNet) -> impl Iterator<Item = (IpNet, &Id)> {
        let wider = (0..cidr.prefix_len()).filter_map(move |length| {
            let wider = IpNet::new(cidr.addr(), length).ok()?.trunc();
            self.cidrs.get_key_value(&place(wider))
        });
        let inside = self.cidrs.range(place(cidr)..=(cidr.broadcast(), u8::MAX));
        wider.chain(inside).flat_map(|((addr, length), ids)| {
            let cidr = IpNet::new(*addr, *length).expect("the length is one of a CIDR");
            ids.iter().map(move |id| (cidr, id))
        })
    }
}

fn place(cidr: IpNet) -> (IpAddr, u8) {
    (cidr.network(), cidr.prefix_len())
}

fn name((holder, source): (&Name, &Source)) -> String {
    format!("{} in {source}", holder.reference())
}

// Fields that do not parse claim nothing: validation has refused their objects.

fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let listed = listed.filter(|entry| matches!(entry.type_.as_str(), "InternalIP" | "ExternalIP"));
    listed.filter_map(|entry| entry.address.parse().ok()).collect()
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let texts = spec.pod_cidrs.as_deref().unwrap_or(spec.pod_cidr.as_slice());
    texts.iter().filter_map(|text| text.parse().ok()).map(|cidr: IpNet| cidr.trunc()).collect()
}

fn cluster_ips(service: &Service) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let texts = spec.cluster_ips.as_deref().unwrap_or(spec.cluster_ip.as_slice());
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
impl Claims {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.cidrs.is_empty()
    }
}

/// Field, addresses and CIDRs that an object claims, for a judge that shares nothing else with this module.
#[cfg(test)]
pub(super) fn literal_wish(object: &crate::objects::Object) -> Option<(&'static str, Vec<IpAddr>, Vec<IpNet>)> {
    Wish::of(&Item::of(object)).map(|wish| (wish.field, wish.addresses, wish.cidrs))
}
