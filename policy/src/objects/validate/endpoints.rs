//! EndpointSlice, and Endpoints, which came before it.

use super::{Findings, address, at, name, one_of, port_number, protocol, reachable};
use crate::objects::Leniency;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Limits of the API server for one slice.
const SLICE_ENDPOINTS_MAX: usize = 1000;
const SLICE_PORTS_MAX: usize = 20_000;
const SLICE_ADDRESSES_MAX: usize = 100;

pub(super) fn validate_slice(slice: &EndpointSlice, leniency: Leniency, out: &mut Findings) {
    let kinds = ["IPv4", "IPv6", "FQDN"];
    out.check("addressType", one_of(Some(&slice.address_type), &kinds));
    let endpoints = slice.endpoints.as_deref().unwrap_or_default();
    if endpoints.len() > SLICE_ENDPOINTS_MAX {
        out.add("endpoints", format!("at most {SLICE_ENDPOINTS_MAX} are allowed"));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let field = at("endpoints", index);
        if endpoint.addresses.is_empty() || endpoint.addresses.len() > SLICE_ADDRESSES_MAX {
            out.add(format!("{field}.addresses"), format!("between 1 and {SLICE_ADDRESSES_MAX} are required"));
        }
        if let Some(hostname) = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
            out.check(format!("{field}.hostname"), name::label(hostname));
        }
        if slice.address_type == "FQDN" {
            continue;
        }
        for (index, text) in endpoint.addresses.iter().enumerate() {
            let field = at(format_args!("{field}.addresses"), index);
            let Some(address) = out.check(field.clone(), address(text)) else { continue };
            if let Err(message) = endpoint_address(address, &slice.address_type, leniency) {
                out.add(field, message);
            }
        }
    }
    let ports = slice.ports.as_deref().unwrap_or_default();
    if ports.len() > SLICE_PORTS_MAX {
        out.add("ports", format!("at most {SLICE_PORTS_MAX} are allowed"));
    }
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let field = at("ports", index);
        let name = port.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            out.check(format!("{field}.name"), name::label(name));
        }
        if !names.insert(name) {
            out.add(format!("{field}.name"), format!("duplicate \"{name}\""));
        }
        out.check(format!("{field}.protocol"), protocol(port.protocol.as_deref()));
        if let Some(number) = port.port {
            out.check(format!("{field}.port"), port_number(number));
        }
    }
}

fn endpoint_address(address: IpAddr, family: &str, leniency: Leniency) -> Result<(), String> {
    if address.is_ipv4() != (family == "IPv4") {
        return Err(format!("{address} is not {family}"));
    }
    if address.is_loopback() && leniency.loopback_endpoints {
        return Ok(());
    }
    reachable(address)
}

pub(super) fn validate_endpoints(endpoints: &Endpoints, out: &mut Findings) {
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let field = at("subsets", index);
        let lists = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
        if lists.iter().all(|(_, list)| list.as_ref().is_none_or(Vec::is_empty)) {
            out.add(format!("{field}.addresses"), "required: addresses or notReadyAddresses");
        }
        for (list, addresses) in lists {
            for (index, entry) in addresses.iter().flatten().enumerate() {
                let field = format!("{field}.{list}[{index}].ip");
                let Some(address) = out.check(field.clone(), address(&entry.ip)) else { continue };
                out.check(field, reachable(address));
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        let mut names = BTreeSet::new();
        for (index, port) in ports.iter().enumerate() {
            let field = at(format_args!("{field}.ports"), index);
            out.check(format!("{field}.port"), port_number(port.port));
            out.check(format!("{field}.protocol"), protocol(port.protocol.as_deref()));
            match port.name.as_deref() {
                None | Some("") if ports.len() > 1 => out.add(format!("{field}.name"), "required with several ports"),
                None | Some("") => {}
                Some(name) => {
                    out.check(format!("{field}.name"), name::label(name));
                    if !names.insert(name) {
                        out.add(format!("{field}.name"), format!("duplicate \"{name}\""));
                    }
                }
            }
        }
    }
}
