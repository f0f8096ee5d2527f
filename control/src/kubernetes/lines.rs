//! Cuts the body of a watch into lines, however the network has cut it into pieces.
//!
//! A server says when a line ends, so the room that one may take is bounded.

use memchr::memchr;

/// Bytes of a line. The API server's database takes objects of 1.5 MiB; as JSON with everything that a server adds they stay
/// well below this.
pub(super) const LINE_BYTES_MAX: usize = 8 << 20;

/// A line that is longer than a line may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bytes that were received and are not used.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// How far the next line has no end.
    scanned: usize,
    max: usize,
}

impl Lines {
    /// Nothing yet; lines may have `max` bytes.
    pub(super) fn new(max: usize) -> Lines {
        Lines { buffer: Vec::new(), start: 0, scanned: 0, max }
    }

    /// Takes a piece that was received.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole line without its end; `None` if more is to come first.
    pub(super) fn next(&mut self) -> Option<Result<&[u8], TooLong>> {
        loop {
            let Some(at) = memchr(b'\n', &self.buffer[self.scanned..]) else {
                self.scanned = self.buffer.len();
                let is_too_long = self.scanned - self.start > self.max;
                return is_too_long.then_some(Err(TooLong));
            };
            let (start, end) = (self.start, self.scanned + at);
            self.start = end + 1;
            self.scanned = self.start;
            if end - start > self.max {
                return Some(Err(TooLong));
            }
            if end > start {
                return Some(Ok(&self.buffer[start..end]));
            }
        }
    }

    /// Bytes of a line that has no end.
    pub(super) fn rest_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &[u8], pieces: &[usize], max: usize) -> (Vec<Vec<u8>>, usize) {
        let (mut lines, mut found, mut rest) = (Lines::new(max), Vec::new(), text);
        let mut take = |piece: &[u8]| {
            lines.push(piece);
            while let Some(Ok(line)) = lines.next() {
                found.push(line.to_vec());
            }
        };
        for length in pieces {
            let (piece, later) = rest.split_at((*length).min(rest.len()));
            take(piece);
            rest = later;
        }
        take(rest);
        let rest = lines.rest_bytes();
        (found, rest)
    }

    proptest! {
        #[test]
        fn lines_are_the_same_wherever_the_network_cuts(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            pieces in proptest::collection::vec(0usize..20, 0..40),
        ) {
            let mut expected: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let rest = expected.pop().unwrap_or_default();
            expected.retain(|line| !line.is_empty());
            prop_assert_eq!(cut(&text, &pieces, 1000), (expected, rest.len()));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_with_and_without_its_end() {
        let mut lines = Lines::new(4);
        lines.push(b"1234\n12345\n1\n12345");
        assert_eq!(lines.next(), Some(Ok(&b"1234"[..])));
        assert_eq!(lines.next(), Some(Err(TooLong)));
        assert_eq!(lines.next(), Some(Ok(&b"1"[..])));
        assert_eq!(lines.next(), Some(Err(TooLong)));
    }
}
