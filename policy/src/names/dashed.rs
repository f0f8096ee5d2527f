//! An address as one label: `10-244-1-2`, `fd00-10-244--2`.
//!
//! How an endpoint without a hostname is called (the specification leaves that open; this is what CoreDNS does), and a pod. An
//! IPv6 address that begins or ends in `::` has a 0 there: a label neither begins nor ends in a dash.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

/// The longest one: an IPv6 address in full (39 bytes). One with `::` has room for the zeros.
const DASHED_MAX: usize = 39;

/// A label that spells an address.
#[derive(Clone, Copy, Debug)]
pub struct Dashed {
    bytes: [u8; DASHED_MAX],
    len: u8,
}

impl Dashed {
    /// The label that spells `addr`.
    pub fn new(addr: IpAddr) -> Dashed {
        let mut label = Dashed { bytes: [0; DASHED_MAX], len: 0 };
        let written = match addr {
            // Display has dots in it, which could not be told from colons.
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                let [.., high, low] = v6.segments();
                write!(label, "::ffff:{high:x}:{low:x}")
            }
            addr => write!(label, "{addr}"),
        };
        written.expect("there is room for the longest address");
        if label.starts_with(b"-") {
            label.bytes.copy_within(..DASHED_MAX - 1, 1);
            label.bytes[0] = b'0';
            label.len += 1;
        }
        if label.ends_with(b"-") {
            label.write_str("0").expect("there is room for the longest address");
        }
        label
    }
}

impl Deref for Dashed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Write for Dashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            let byte = if matches!(byte, b':' | b'.') { b'-' } else { byte };
            *self.bytes.get_mut(usize::from(self.len)).ok_or(std::fmt::Error)? = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// The address that `label` spells, in whatever way: three single dashes stand for the dots of IPv4, others for colons.
pub fn parse_dashed(label: &[u8]) -> Option<IpAddr> {
    let dashes = label.iter().filter(|byte| **byte == b'-').count();
    let mut bytes = [0; DASHED_MAX];
    let text = bytes.get_mut(..label.len())?;
    text.copy_from_slice(label);
    let is_v4 = dashes == 3 && !label.windows(2).any(|pair| pair == b"--");
    let separator = if is_v4 { b'.' } else { b':' };
    text.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = separator);
    let text = std::str::from_utf8(text).ok()?;
    match is_v4 {
        true => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        false => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_spelled_as_a_label_is_read_back() {
        for (addr, label) in [
            ("10.244.1.2", "10-244-1-2"),
            ("fd00:10:244::2", "fd00-10-244--2"),
            ("5678:abcd::", "5678-abcd--0"),
            ("::1", "0--1"),
            ("::", "0--0"),
            ("0:1::", "0-1--0"),
            ("::ffff:10.0.0.1", "0--ffff-a00-1"),
            ("0:0:1::", "0-0-1--0"),
            ("fd00:1111:2222:3333:4444:5555:6666:7777", "fd00-1111-2222-3333-4444-5555-6666-7777"),
        ] {
            let addr: IpAddr = addr.parse().expect("an address");
            assert_eq!(std::str::from_utf8(&Dashed::new(addr)), Ok(label));
            assert_eq!(parse_dashed(label.as_bytes()), Some(addr), "{label}");
        }
    }

    #[test]
    fn what_spells_no_address_is_none() {
        for label in ["", "web", "10-0-0", "10-0-0-256", "10-0-0-01", "a-b-c-d-e", "1-2-3-4-5", "-1"] {
            assert_eq!(parse_dashed(label.as_bytes()), None, "{label}");
        }
        assert_eq!(parse_dashed(&[b'1'; 63]), None);
    }
}
