//! VXLAN (RFC 7348): the 8-byte header between UDP and the inner Ethernet frame.

/// UDP port assigned by IANA (RFC 7348 §8).
pub const VXLAN_PORT: u16 = 4789;
/// Length of the VXLAN header in bytes.
pub const HEADER_BYTES: usize = 8;

/// A VXLAN network identifier: 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vni(u32);

impl Vni {
    /// `None` if `value` needs more than 24 bits.
    pub const fn new(value: u32) -> Option<Vni> {
        if value < 1 << 24 { Some(Vni(value)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Why a datagram is not a VXLAN frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopError {
    /// Shorter than the header.
    Truncated,
    /// The I flag is not set.
    NoVni,
}

/// The header that is pushed before every inner frame.
pub const fn header(vni: Vni) -> [u8; HEADER_BYTES] {
    let v = vni.0.to_be_bytes();
    [0x08, 0, 0, 0, v[1], v[2], v[3], 0]
}

/// Checks the header at the start of `datagram` and gives its VNI; the inner frame follows at [`HEADER_BYTES`]. Reserved bits
/// are ignored, as RFC 7348 §5 asks.
pub fn pop(datagram: &[u8]) -> Result<Vni, PopError> {
    let header: &[u8; HEADER_BYTES] = datagram.first_chunk().ok_or(PopError::Truncated)?;
    if header[0] & 0x08 == 0 {
        return Err(PopError::NoVni);
    }
    Ok(Vni(u32::from_be_bytes([0, header[4], header[5], header[6]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_rfc_7348_section_5() {
        // Flags RRRRIRRR with I set, 24 reserved bits, 24 bits of VNI, 8 reserved bits.
        assert_eq!(header(Vni::new(0x12_3456).unwrap()), [0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
    }

    #[test]
    fn pushing_and_popping_gives_the_vni() {
        for value in [0, 1, 0xff_ffff] {
            let vni = Vni::new(value).unwrap();
            assert_eq!(pop(&header(vni)), Ok(vni));
        }
        assert_eq!(Vni::new(1 << 24), None);
    }

    #[test]
    fn reserved_bits_are_ignored_and_the_i_flag_is_not() {
        assert_eq!(pop(&[0xff, 1, 2, 3, 0, 0, 9, 4]).map(Vni::get), Ok(9));
        assert_eq!(pop(&[0xf7, 0, 0, 0, 0, 0, 9, 0]), Err(PopError::NoVni));
    }

    #[test]
    fn a_datagram_shorter_than_the_header_is_truncated() {
        for len in 0..HEADER_BYTES {
            assert_eq!(pop(&[0x08; HEADER_BYTES][..len]), Err(PopError::Truncated));
        }
    }
}
