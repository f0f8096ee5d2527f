//! What bytes of an HTTP/1 client may reach the parser.
//!
//! The parser behind it (hyper's) is lenient in places where another server may read the same bytes differently, and where such
//! a difference hides a second request in the first (RFC 9112 11.2): it takes lines that end without CR, drops Content-Length when
//! Transfer-Encoding is there too, skips chunk extensions unread. By the time that the request is a value, these are gone. So the
//! inspector follows the framing of the bytes itself, before the parser has them: heads line by line, bodies by length or chunks.
//!
//! Pure: bytes in; nothing, or where the message that breaks a rule begins, out. It checks only what the parser does not: names,
//! values and the version are left to that.

use super::chunks::{Chunks, Step, is_token};
use memchr::memchr;

/// Empty lines that may precede a request line: RFC 9112 2.2 asks to ignore at least one.
const LEADING_LINES_MAX: u8 = 2;

/// The rule that a request breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A line ends without CR.
    BareLf,
    /// A header line continues on the next (RFC 9112 5.2).
    Fold,
    /// The request line is not method, target and HTTP/1.0 or HTTP/1.1, each after one space.
    RequestLine,
    /// Content-Length is no number, or there twice.
    ContentLength,
    /// Transfer-Encoding is not `chunked`, or there twice, or in HTTP/1.0.
    TransferEncoding,
    /// Both are there.
    BothLengths,
    /// A field that a careless backend takes for one of them: an underscore for the hyphen.
    Lookalike,
    /// A chunk or a trailer breaks the rules of the coding.
    Chunk,
}

/// Where the inspector is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between messages.
    Idle,
    /// In a head.
    Head,
    /// In a body.
    Body,
}

/// The inspector of one connection.
#[derive(Debug)]
pub(super) struct Inspector {
    state: State,
    /// What came of a line whose end has not.
    partial: Vec<u8>,
    head: Head,
    head_bytes_max: usize,
}

#[derive(Debug)]
enum State {
    Start {
        empty_lines: u8,
    },
    Head,
    /// The head is longer than the parser takes. It will say so; what follows is never parsed.
    Overlong,
    Length(u64),
    Chunked(Chunks),
}

#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    is_http_10: bool,
    length: Option<u64>,
    chunked: bool,
}

impl Inspector {
    /// An inspector of a new connection. Heads of more than `head_bytes_max` must be refused by the parser.
    pub(super) fn new(head_bytes_max: usize) -> Inspector {
        Inspector { state: State::Start { empty_lines: 0 }, partial: Vec::new(), head: Head::default(), head_bytes_max }
    }

    /// Where it is.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Start { .. } if self.partial.is_empty() => Phase::Idle,
            State::Start { .. } | State::Head | State::Overlong => Phase::Head,
            State::Length(_) | State::Chunked(_) => Phase::Body,
        }
    }

    /// Follows `bytes`. If they break a rule, returns it, and how many of them belong to messages before.
    pub(super) fn inspect(&mut self, bytes: &[u8]) -> Result<(), (usize, Violation)> {
        let mut message_at = 0;
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Overlong => return Ok(()),
                State::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    at += taken;
                    if *left == 0 {
                        self.begin_message();
                        message_at = at;
                    }
                }
                State::Chunked(chunks) => {
                    let (skip, step) = chunks.step(rest).map_err(|_| (message_at, Violation::Chunk))?;
                    at += skip;
                    match step {
                        Step::More => {}
                        Step::Data(data) => at += data,
                        Step::End => {
                            let framing = chunks.trailer().split(|&byte| byte == b'\n').any(is_framing_line);
                            if framing {
                                return Err((message_at, Violation::Chunk));
                            }
                            self.begin_message();
                            message_at = at;
                        }
                    }
                }
                State::Start { .. } | State::Head => {
                    let line_bytes = memchr(b'\n', rest).map(|end| end + 1);
                    let taken = line_bytes.unwrap_or(rest.len());
                    at += taken;
                    self.head.bytes += taken;
                    if self.head.bytes > self.head_bytes_max {
                        self.state = State::Overlong;
                        self.partial = Vec::new();
                    } else if line_bytes.is_none() {
                        self.partial.extend_from_slice(rest);
                    } else {
                        let was_in_head = matches!(self.state, State::Head);
                        self.whole_line(&rest[..taken]).map_err(|violation| (message_at, violation))?;
                        if was_in_head && matches!(self.state, State::Start { .. }) {
                            message_at = at;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn whole_line(&mut self, end: &[u8]) -> Result<(), Violation> {
        if self.partial.is_empty() {
            return self.line(end);
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(end);
        let result = self.line(&line);
        line.clear();
        self.partial = line;
        result
    }

    /// A line with its end.
    fn line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let line = line.strip_suffix(b"\r\n").ok_or(Violation::BareLf)?;
        match self.state {
            State::Start { empty_lines } if line.is_empty() => {
                self.state = State::Start { empty_lines: empty_lines + 1 };
                if empty_lines == LEADING_LINES_MAX { Err(Violation::RequestLine) } else { Ok(()) }
            }
            State::Start { .. } => {
                self.state = State::Head;
                self.request_line(line)
            }
            _ if line.is_empty() => self.end_of_head(),
            _ => self.field_line(line),
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Violation::RequestLine);
        };
        self.head.is_http_10 = version == b"HTTP/1.0";
        let version_is_known = self.head.is_http_10 || version == b"HTTP/1.1";
        let is_plain = !method.is_empty() && method.iter().all(|&byte| is_token(byte));
        // The parser drops a fragment without a word; bytes beyond ASCII are no part of a target (RFC 3986 2).
        let is_target = !target.is_empty() && target.iter().all(|&byte| matches!(byte, b'!'..=b'~') && byte != b'#');
        if version_is_known && is_plain && is_target { Ok(()) } else { Err(Violation::RequestLine) }
    }

    fn field_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        match line[0] {
            b' ' | b'\t' => return Err(Violation::Fold),
            b'c' | b'C' | b't' | b'T' => {}
            _ => return Ok(()),
        }
        let Some(colon) = memchr(b':', line) else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return Err(Violation::ContentLength);
            }
            self.head.length = Some(parse_length(value).ok_or(Violation::ContentLength)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::TransferEncoding);
            }
            self.head.chunked = true;
        } else if is_lookalike(name) {
            return Err(Violation::Lookalike);
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), Violation> {
        let Head { is_http_10, length, chunked, .. } = self.head;
        self.state = match (chunked, length) {
            (true, Some(_)) => return Err(Violation::BothLengths),
            (true, None) if is_http_10 => return Err(Violation::TransferEncoding),
            (true, None) => State::Chunked(Chunks::default()),
            (false, Some(length)) if length > 0 => State::Length(length),
            _ => State::Start { empty_lines: 0 },
        };
        self.head = Head::default();
        Ok(())
    }

    fn begin_message(&mut self) {
        self.state = State::Start { empty_lines: 0 };
    }
}

/// A length as RFC 9110 8.6 has it: digits, and no more of them than a 64-bit number has.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

fn is_lookalike(name: &[u8]) -> bool {
    let same = |byte: &u8, other: &u8| byte.eq_ignore_ascii_case(other) || (*byte == b'_' && *other == b'-');
    [b"content-length".as_slice(), b"transfer-encoding"]
        .iter()
        .any(|known| known.len() == name.len() && name.iter().zip(*known).all(|(byte, other)| same(byte, other)))
}

/// Whether a trailer line speaks of the framing, which is over (RFC 9110 6.5.1).
fn is_framing_line(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default().trim_ascii();
    is_lookalike(name) || name.eq_ignore_ascii_case(b"host")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the inspector says of `input` in pieces, and where the message that it refuses begins in the whole.
    fn inspect(input: &[u8], piece: usize) -> Result<(), (usize, Violation)> {
        let mut inspector = Inspector::new(1000);
        input.chunks(piece).try_for_each(|part| inspector.inspect(part))
    }

    fn refused(input: &str, violation: Violation) {
        assert_eq!(inspect(input.as_bytes(), 10_000), Err((0, violation)), "{input:?}");
        for piece in [1, 2, 5] {
            let result = inspect(input.as_bytes(), piece).map_err(|(_, violation)| violation);
            assert_eq!(result, Err(violation), "{input:?} in pieces of {piece}");
        }
    }

    fn taken(input: &str) {
        for piece in [1, 2, 5, 10_000] {
            assert_eq!(inspect(input.as_bytes(), piece), Ok(()), "{input:?} in pieces of {piece}");
        }
    }

    #[test]
    fn ordinary_requests_pass_one_after_the_other() {
        taken("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        taken("\r\nGET / HTTP/1.1\r\nHost: a\r\nCookie: b\r\nTE: trailers\r\n\r\n");
        taken("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.0\r\n\r\n");
        taken(
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:\tChunked \r\n\r\n\
             5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        );
    }

    #[test]
    fn framing_that_can_be_read_in_two_ways_is_refused() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        let with = |fields: &str| format!("{head}{fields}\r\n\r\n");
        refused(&with("Content-Length: 5\r\nTransfer-Encoding: chunked"), Violation::BothLengths);
        refused(&with("Transfer-Encoding: chunked\r\nContent-Length: 5"), Violation::BothLengths);
        refused(&with("Content-Length: 5\r\nContent-Length: 5"), Violation::ContentLength);
        refused(&with("Content-Length: 5, 5"), Violation::ContentLength);
        refused(&with("Content-Length: +5"), Violation::ContentLength);
        refused(&with("Content-Length: -5"), Violation::ContentLength);
        refused(&with("Content-Length: 0x5"), Violation::ContentLength);
        refused(&with("Content-Length:"), Violation::ContentLength);
        refused(&with("Content-Length: 18446744073709551616"), Violation::ContentLength);
        refused(&with("Transfer-Encoding: xchunked"), Violation::TransferEncoding);
        refused(&with("Transfer-Encoding: identity"), Violation::TransferEncoding);
        refused(&with("Transfer-Encoding: gzip, chunked"), Violation::TransferEncoding);
        refused(&with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Violation::TransferEncoding);
        refused(&with("Content_Length: 5"), Violation::Lookalike);
        refused(&with("Transfer_encoding: chunked"), Violation::Lookalike);
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::TransferEncoding);
    }

    #[test]
    fn lines_end_with_cr_and_lf_and_do_not_continue() {
        refused("GET / HTTP/1.1\nHost: a\r\n\r\n", Violation::BareLf);
        refused("GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::BareLf);
        refused("GET / HTTP/1.1\r\nHost: a\r\n\n", Violation::BareLf);
        refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::BareLf);
        refused("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Violation::Fold);
        refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Violation::Fold);
    }

    #[test]
    fn a_request_line_has_three_parts() {
        for line in [
            "GET / HTTP/1.2",
            "GET / http/1.1",
            "GET / HTTP/1.1 ",
            "GET  / HTTP/1.1",
            "GET\t/ HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/2.0",
            "GET /",
            " GET / HTTP/1.1",
            "GE(T / HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /\u{e4} HTTP/1.1",
        ] {
            refused(&format!("{line}\r\nHost: a\r\n\r\n"), Violation::RequestLine);
        }
        refused("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Violation::RequestLine);
    }

    #[test]
    fn what_precedes_the_refused_message_is_told() {
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let second = "GET / HTTP/1.1\nHost: a\r\n\r\n";
        assert_eq!(inspect(format!("{first}{second}").as_bytes(), 1000), Err((first.len(), Violation::BareLf)));
    }

    #[test]
    fn chunks_and_trailers_are_read_strictly() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        refused(&format!("{head}5\nhello\r\n0\r\n\r\n"), Violation::Chunk);
        refused(&format!("{head}5;a\nhello\r\n0\r\n\r\n"), Violation::Chunk);
        refused(&format!("{head}0\r\nContent-Length: 5\r\n\r\n"), Violation::Chunk);
        refused(&format!("{head}0\r\nTransfer-Encoding: chunked\r\n\r\n"), Violation::Chunk);
    }

    #[test]
    fn an_overlong_head_is_left_to_the_parser() {
        taken(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\n", "b".repeat(2000)));
    }
}
