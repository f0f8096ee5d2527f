//! Bytes that any part of which can be checked without the rest: every 8 bytes are the big-endian number of that group,
//! scrambled so that a swapped, repeated or shifted piece shows.

use std::io::{self, Read, Write};

/// Bytes produced and compared at once.
const CHUNK_LEN: usize = 64 * 1024;

/// Fills `chunk` with the pattern from `offset` on, which must be a multiple of 8.
fn fill(chunk: &mut [u8], offset: u64) {
    debug_assert_eq!(offset % 8, 0);
    for (number, group) in (offset / 8..).zip(chunk.chunks_mut(8)) {
        let bytes = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        group.copy_from_slice(&bytes[..group.len()]);
    }
}

/// The first `len` bytes of the pattern.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(&mut bytes, 0);
    bytes
}

/// Writes the first `len` bytes of the pattern.
pub fn send(to: &mut impl Write, len: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_LEN];
    let mut sent = 0;
    while sent < len {
        let size = CHUNK_LEN.min((len - sent) as usize);
        fill(&mut chunk[..size], sent);
        to.write_all(&chunk[..size])?;
        sent += size as u64;
    }
    to.flush()
}

/// Reads to the end; gives the number of bytes and whether they were the pattern.
pub fn receive(from: &mut impl Read) -> io::Result<(u64, bool)> {
    let mut got = vec![0; CHUNK_LEN];
    let mut expected = vec![0; CHUNK_LEN];
    let (mut received, mut intact) = (0u64, true);
    loop {
        let mut held = 0;
        while held < CHUNK_LEN {
            match from.read(&mut got[held..]) {
                Ok(0) => break,
                Ok(read) => held += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        fill(&mut expected[..held], received);
        intact &= got[..held] == expected[..held];
        received += held as u64;
        if held < CHUNK_LEN {
            return Ok((received, intact));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_received_intact_and_a_changed_byte_shows() {
        let len = 3 * CHUNK_LEN as u64 + 13;
        let mut wire = Vec::new();
        send(&mut wire, len).unwrap();
        assert_eq!(receive(&mut wire.as_slice()).unwrap(), (len, true));
        wire[2 * CHUNK_LEN + 5] ^= 1;
        assert_eq!(receive(&mut wire.as_slice()).unwrap(), (len, false));
    }
}
