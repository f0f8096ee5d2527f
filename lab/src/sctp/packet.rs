//! SCTP packets: a common header and chunks (RFC 9260, section 3).

pub(crate) const DATA: u8 = 0;
pub(crate) const INIT: u8 = 1;
pub(crate) const INIT_ACK: u8 = 2;
pub(crate) const SACK: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 4;
pub(crate) const HEARTBEAT_ACK: u8 = 5;
pub(crate) const ABORT: u8 = 6;
pub(crate) const SHUTDOWN: u8 = 7;
pub(crate) const SHUTDOWN_ACK: u8 = 8;
pub(crate) const COOKIE_ECHO: u8 = 10;
pub(crate) const COOKIE_ACK: u8 = 11;
pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;

/// Parameter of INIT ACK that carries the cookie (section 3.3.3).
const STATE_COOKIE: u16 = 7;

/// Flags of a DATA chunk that is a message of its own, without order: U, B and E (section 3.3.1).
const WHOLE_MESSAGE: u8 = 0x07;

/// Flag of ABORT: the verification tag is the peer's own, because we have none (section 3.3.7).
pub(crate) const TAG_REFLECTED: u8 = 0x01;

/// Receive window that is offered, in bytes: more than is ever sent.
const WINDOW: u32 = 65_536;

const HEADER_LEN: usize = 12;

/// A packet taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    pub(crate) tag: u32,
    pub(crate) chunks: Vec<Chunk<'a>>,
}

/// A chunk without its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) value: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet; `None` if it is too short, cut inside a chunk, or its checksum is wrong.
    pub(crate) fn check(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let header = bytes.get(..HEADER_LEN)?;
        let mut zeroed = bytes.to_vec();
        zeroed[8..12].fill(0);
        // The checksum is the one field of SCTP in little-endian order (appendix A).
        if crc32c::crc32c(&zeroed).to_le_bytes() != header[8..12] {
            return None;
        }
        let mut chunks = Vec::new();
        let mut rest = &bytes[HEADER_LEN..];
        while let [kind, flags, a, b, ..] = *rest {
            let len = usize::from(u16::from_be_bytes([a, b]));
            chunks.push(Chunk { kind, flags, value: rest.get(4..len)? });
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Some(Packet {
            src_port: u16::from_be_bytes([header[0], header[1]]),
            dst_port: u16::from_be_bytes([header[2], header[3]]),
            tag: u32_at(header, 4)?,
            chunks,
        })
    }

    /// The first chunk of this kind.
    pub(crate) fn find(&self, kind: u8) -> Option<&Chunk<'a>> {
        self.chunks.iter().find(|chunk| chunk.kind == kind)
    }
}

impl<'a> Chunk<'a> {
    /// Initiate tag and initial TSN of INIT and INIT ACK.
    pub(crate) fn initial(&self) -> Option<(u32, u32)> {
        Some((u32_at(self.value, 0)?, u32_at(self.value, 12)?))
    }

    /// The cookie of INIT ACK.
    pub(crate) fn cookie(&self) -> Option<&'a [u8]> {
        let mut rest = self.value.get(16..)?;
        while let [a, b, c, d, ..] = *rest {
            let len = usize::from(u16::from_be_bytes([c, d]));
            let value = rest.get(4..len)?;
            if u16::from_be_bytes([a, b]) == STATE_COOKIE {
                return Some(value);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
        None
    }

    /// TSN and message of DATA.
    pub(crate) fn data(&self) -> Option<(u32, &'a [u8])> {
        Some((u32_at(self.value, 0)?, self.value.get(12..)?))
    }
}

/// A packet under construction.
pub(crate) struct Builder(Vec<u8>);

impl Builder {
    pub(crate) fn new(src_port: u16, dst_port: u16, tag: u32) -> Builder {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(src_port.to_be_bytes());
        bytes.extend(dst_port.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0; 4]);
        Builder(bytes)
    }

    /// Adds a chunk.
    pub(crate) fn chunk(mut self, kind: u8, flags: u8, value: &[u8]) -> Builder {
        let len = u16::try_from(value.len() + 4).expect("chunks of the lab are short");
        self.0.extend([kind, flags]);
        self.0.extend(len.to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds INIT, or INIT ACK with a cookie.
    pub(crate) fn initial(self, tag: u32, tsn: u32, cookie: Option<&[u8]>) -> Builder {
        let mut value = Vec::new();
        value.extend(tag.to_be_bytes());
        value.extend(WINDOW.to_be_bytes());
        value.extend([0, 1, 0, 1]);
        value.extend(tsn.to_be_bytes());
        if let Some(cookie) = cookie {
            value.extend(STATE_COOKIE.to_be_bytes());
            value.extend(u16::try_from(cookie.len() + 4).expect("cookies of the lab are short").to_be_bytes());
            value.extend(cookie);
        }
        self.chunk(if cookie.is_some() { INIT_ACK } else { INIT }, 0, &value)
    }

    /// Adds DATA with one message.
    pub(crate) fn data(self, tsn: u32, message: &[u8]) -> Builder {
        let mut value = tsn.to_be_bytes().to_vec();
        value.extend([0; 8]);
        value.extend(message);
        self.chunk(DATA, WHOLE_MESSAGE, &value)
    }

    /// Adds SACK up to `tsn`.
    pub(crate) fn sack(self, tsn: u32) -> Builder {
        let mut value = tsn.to_be_bytes().to_vec();
        value.extend(WINDOW.to_be_bytes());
        value.extend([0; 4]);
        self.chunk(SACK, 0, &value)
    }

    /// The finished packet.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = crc32c::crc32c(&self.0);
        self.0[8..12].copy_from_slice(&checksum.to_le_bytes());
        self.0
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}
