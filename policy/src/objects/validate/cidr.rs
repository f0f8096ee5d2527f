//! Blocks of addresses. Which forms of one are accepted depends on the field.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// An address block; host bits that are set are cleared.
pub(super) fn parse_cidr(text: &str) -> Result<IpNet, String> {
    text.parse().map(|cidr: IpNet| cidr.trunc()).map_err(|_| unreadable(text))
}

/// An address block as the API server takes it since 1.36 in fields of its own kinds (KEP-4858): what some programs read in
/// one way and some in another is refused.
pub(super) fn subnet(text: &str) -> Result<IpNet, String> {
    let cidr = block(text)?;
    if cidr.trunc() != cidr {
        let one = IpNet::from(cidr.addr());
        return Err(format!("\"{text}\" has bits set beyond the prefix length: use {} or {one}", cidr.trunc()));
    }
    Ok(cidr)
}

/// An address block for which CEL's `isCIDR` holds; bits beyond the prefix length are as they are.
pub(super) fn block(text: &str) -> Result<IpNet, String> {
    let (address, length) = text.split_once('/').ok_or_else(|| unreadable(text))?;
    let is_number = !length.is_empty() && length.len() <= 3 && length.bytes().all(|byte| byte.is_ascii_digit());
    let has_leading_zero = length.len() > 1 && length.starts_with('0');
    let length: u8 = length.parse().ok().filter(|_| is_number).ok_or_else(|| unreadable(text))?;
    let is_plain = address.parse::<IpAddr>().is_ok() && !has_leading_zero;
    let address = without_leading_zeros(address).ok_or_else(|| unreadable(text))?;
    let cidr = IpNet::new(address, length).map_err(|_| unreadable(text))?;
    if !is_plain {
        return Err(format!("\"{text}\" has leading zeros: use {cidr}"));
    }
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("\"{text}\" is an IPv4-mapped IPv6 block: write it as an IPv4 block"))
        }
        _ => Ok(cidr),
    }
}

/// An address, also an IPv4 address of decimal numbers with leading zeros.
fn without_leading_zeros(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut octets = text.split('.').map(|octet| {
        let is_number = !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
        octet.parse::<u8>().ok().filter(|_| is_number)
    });
    let address = Ipv4Addr::new(octets.next()??, octets.next()??, octets.next()??, octets.next()??);
    octets.next().is_none().then_some(address.into())
}

fn unreadable(text: &str) -> String {
    format!("\"{text}\" is not a CIDR such as 10.0.0.0/8")
}
