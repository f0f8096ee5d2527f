//! Captures as bytes: the classic pcap format with nanosecond timestamps (magic `a1b23c4d`, little endian, LINKTYPE_ETHERNET),
//! as libpcap writes and every tool reads it.

use wire::Instant;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
const LINKTYPE_ETHERNET: u32 = 1;
/// The snapshot length that tcpdump uses for "everything"; longer than any frame.
const SNAP_LEN: u32 = 262_144;
const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;

/// A capture that grows in memory.
#[derive(Clone, Debug)]
pub struct Capture {
    bytes: Vec<u8>,
}

impl Default for Capture {
    fn default() -> Capture {
        Capture::new()
    }
}

impl Capture {
    /// A capture without frames.
    pub fn new() -> Capture {
        let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC_NANOSECONDS.to_le_bytes());
        bytes.extend_from_slice(&[2, 0, 4, 0]); // version 2.4
        bytes.extend_from_slice(&[0; 8]); // time zone and accuracy, always 0
        bytes.extend_from_slice(&SNAP_LEN.to_le_bytes());
        bytes.extend_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        Capture { bytes }
    }

    /// Appends a frame.
    pub fn push(&mut self, at: Instant, frame: &[u8]) {
        let length = frame.len() as u32;
        for field in [at.as_secs_u32(), (at.as_nanos() % 1_000_000_000) as u32, length, length] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        self.bytes.extend_from_slice(frame);
    }

    /// The file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The frames of a little-endian Ethernet capture, with their times; `None` if the bytes are no such file.
pub fn read(file: &[u8]) -> Option<Vec<(Instant, Vec<u8>)>> {
    let field = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let nanos_per_unit = match field(file, 0)? {
        MAGIC_NANOSECONDS => 1,
        MAGIC_MICROSECONDS => 1_000,
        _ => return None,
    };
    if field(file, 20)? != LINKTYPE_ETHERNET {
        return None;
    }
    let mut frames = Vec::new();
    let mut rest = &file[FILE_HEADER_BYTES..];
    while !rest.is_empty() {
        let seconds = u64::from(field(rest, 0)?);
        let nanos = u64::from(field(rest, 4)?) * nanos_per_unit;
        let end = RECORD_HEADER_BYTES + field(rest, 8)? as usize;
        frames
            .push((Instant::from_nanos(seconds * 1_000_000_000 + nanos), rest.get(RECORD_HEADER_BYTES..end)?.to_vec()));
        rest = &rest[end..];
    }
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_captured_is_read_back() {
        let frames = [(Instant::from_nanos(1), vec![1, 2, 3]), (Instant::from_nanos(7_000_000_009), vec![])];
        let mut capture = Capture::new();
        frames.iter().for_each(|(at, frame)| capture.push(*at, frame));
        assert_eq!(read(capture.as_bytes()).unwrap(), frames);
    }

    #[test]
    fn the_file_header_is_that_of_a_nanosecond_ethernet_capture() {
        assert_eq!(Capture::new().as_bytes()[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(Capture::new().as_bytes()[20..], [1, 0, 0, 0]);
    }

    #[test]
    fn a_cut_or_foreign_file_is_refused() {
        let mut capture = Capture::new();
        capture.push(Instant::ZERO, &[1, 2, 3]);
        let bytes = capture.as_bytes();
        assert!((0..bytes.len()).filter(|len| *len != 24).all(|len| read(&bytes[..len]).is_none()));
        assert!(read(b"\x0a\x0d\x0d\x0a and what follows in a pcapng file").is_none());
    }
}
