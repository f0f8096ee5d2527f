//! Pools of addresses for Services of type LoadBalancer: MetalLB's IPAddressPool, under its own name and ours.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that may be given to Services of type LoadBalancer. `podplane.io/v1alpha1`, or MetalLB's `metallb.io/v1beta1`
/// with the same fields and meaning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPool {
    /// One of the two.
    pub api_version: String,
    /// `IPAddressPool`.
    pub kind: String,
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the pool holds.
    #[serde(default)]
    pub spec: IPAddressPoolSpec,
    /// What MetalLB notes about it; not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// What a pool holds, and who gets addresses of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// CIDRs, and ranges `first-last` that include both.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether Services that ask for no pool and address get one of it; true if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Whether IPv4 addresses that end in .0 and .255 are left out; false if not given.
    #[serde(default, rename = "avoidBuggyIPs", skip_serializing_if = "Option::is_none")]
    pub avoid_buggy_ips: Option<bool>,
    /// Restricts the pool to some Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// The Services that get addresses of a pool without asking for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// Pools with a lower number are used first; 0 or none comes last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Namespaces of the Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Namespaces by labels; any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selectors: Option<Vec<LabelSelector>>,
    /// Services by labels; any of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selectors: Option<Vec<LabelSelector>>,
}

impl IPAddressPool {
    /// The ranges of spec.addresses, in order; those that validation would refuse are left out.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        self.spec.addresses.iter().filter_map(|text| text.parse().ok())
    }
}

/// Addresses of one family, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The first address.
    pub first: IpAddr,
    /// The last address, included.
    pub last: IpAddr,
}

impl AddressRange {
    /// Whether two ranges share an address.
    pub fn overlaps(&self, other: &AddressRange) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = String;

    /// A CIDR such as `10.0.0.0/24`, all of whose addresses count, or `10.0.0.1-10.0.0.9`.
    fn from_str(text: &str) -> Result<AddressRange, String> {
        let unreadable =
            || format!("\"{text}\" is neither a CIDR such as 10.0.0.0/24 nor a range such as 10.0.0.1-10.0.0.9");
        if let Some((first, last)) = text.split_once('-') {
            let parse = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| unreadable());
            let (first, last) = (parse(first)?, parse(last)?);
            return match (first, last) {
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                    Err(format!("\"{text}\": both addresses of a range are of one family"))
                }
                _ if first > last => Err(format!("\"{text}\": the first address comes after the last")),
                _ => Ok(AddressRange { first, last }),
            };
        }
        let (addr, length) = text.trim().split_once('/').ok_or_else(unreadable)?;
        let addr: IpAddr = addr.parse().map_err(|_| unreadable())?;
        let length: u32 = length.parse().map_err(|_| unreadable())?;
        let (first, last) = match addr {
            IpAddr::V4(v4) if length <= 32 => {
                let host = u32::MAX.checked_shr(length).unwrap_or(0);
                let bits = u32::from(v4);
                (Ipv4Addr::from(bits & !host).into(), Ipv4Addr::from(bits | host).into())
            }
            IpAddr::V6(v6) if length <= 128 => {
                let host = u128::MAX.checked_shr(length).unwrap_or(0);
                let bits = u128::from(v6);
                (Ipv6Addr::from(bits & !host).into(), Ipv6Addr::from(bits | host).into())
            }
            _ => return Err(unreadable()),
        };
        Ok(AddressRange { first, last })
    }
}

#[cfg(test)]
mod tests {
    use crate::objects::{Object, parse};

    fn pool(spec: &str) -> (Vec<String>, Vec<String>) {
        let mut ranges = Vec::new();
        let mut problems = Vec::new();
        for api_version in ["podplane.io/v1alpha1", "metallb.io/v1beta1"] {
            let yaml =
                format!("{{apiVersion: {api_version}, kind: IPAddressPool, metadata: {{name: p}}, spec: {spec}}}");
            let parsed = parse("test.yaml", &yaml);
            problems = parsed.problems.iter().map(ToString::to_string).collect();
            for sourced in &parsed.objects {
                let Object::IPAddressPool(pool) = &sourced.object else { panic!("a pool") };
                assert_eq!(pool.api_version, api_version);
                ranges = pool.ranges().map(|range| range.to_string()).collect();
            }
        }
        (ranges, problems)
    }

    #[test]
    fn a_pool_holds_blocks_and_ranges_of_both_families() {
        let (ranges, problems) = pool(
            "{addresses: [10.0.0.0/30, 10.0.1.5 - 10.0.1.9, 'fd00::10-fd00::20', 'fd00:1::/127', 10.2.0.7/32], autoAssign: false, \
             avoidBuggyIPs: true, serviceAllocation: {priority: 50, namespaces: [prod]}}",
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            ranges,
            ["10.0.0.0-10.0.0.3", "10.0.1.5-10.0.1.9", "fd00::10-fd00::20", "fd00:1::-fd00:1::1", "10.2.0.7-10.2.0.7"]
        );
    }

    #[test]
    fn what_is_wrong_with_a_pool_is_named_by_field() {
        let (_, problems) =
            pool("{addresses: [10.0.0.0/33, 10.0.0.9-10.0.0.1, 10.0.0.1-fd00::1, 10.0.0.0/24, 10.0.0.7-10.0.1.1]}");
        let name = "test.yaml: IPAddressPool default/p: spec.addresses";
        assert_eq!(
            problems,
            [
                format!(
                    "{name}[0]: \"10.0.0.0/33\" is neither a CIDR such as 10.0.0.0/24 nor a range such as 10.0.0.1-10.0.0.9"
                ),
                format!("{name}[1]: \"10.0.0.9-10.0.0.1\": the first address comes after the last"),
                format!("{name}[2]: \"10.0.0.1-fd00::1\": both addresses of a range are of one family"),
                format!("{name}[4]: 10.0.0.7-10.0.1.1 overlaps spec.addresses[3]"),
            ]
        );
        let (_, problems) = pool("{}");
        assert!(problems[0].contains("spec.addresses: required"), "{problems:?}");
    }

    #[test]
    fn an_object_of_the_same_kind_in_another_group_is_not_taken_for_a_pool() {
        let yaml = "{apiVersion: ipam.example/v1, kind: IPAddressPool, metadata: {name: p}, spec: {}}";
        let parsed = parse("test.yaml", yaml);
        assert!(parsed.objects.is_empty() && parsed.problems[0].to_string().contains("skipped"));
    }
}
