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
