//! IPAddressPool.

use super::selector::validate_selector;
use super::{Findings, at, name};
use crate::objects::{AddressRange, IPAddressPool};

pub(super) fn validate_pool(pool: &IPAddressPool, out: &mut Findings) {
    if pool.spec.addresses.is_empty() {
        out.add("spec.addresses", "required: at least one CIDR or range, such as 172.30.0.200-172.30.0.250");
    }
    let mut ranges: Vec<(usize, AddressRange)> = Vec::new();
    for (index, text) in pool.spec.addresses.iter().enumerate() {
        let field = at("spec.addresses", index);
        let Some(range) = out.check(field.clone(), text.parse::<AddressRange>()) else { continue };
        match ranges.iter().find(|(_, other)| other.overlaps(&range)) {
            Some((other, _)) => out.add(field, format!("{range} overlaps spec.addresses[{other}]")),
            None => ranges.push((index, range)),
        }
    }
    let Some(allocation) = &pool.spec.service_allocation else { return };
    for (index, namespace) in allocation.namespaces.iter().flatten().enumerate() {
        out.check(at("spec.serviceAllocation.namespaces", index), name::label(namespace));
    }
    for (index, selector) in allocation.namespace_selectors.iter().flatten().enumerate() {
        validate_selector(&at("spec.serviceAllocation.namespaceSelectors", index), selector, out);
    }
    for (index, selector) in allocation.service_selectors.iter().flatten().enumerate() {
        validate_selector(&at("spec.serviceAllocation.serviceSelectors", index), selector, out);
    }
}
