//! The chunked transfer coding (RFC 9112 7.1), read strictly.
//!
//! Pure: bytes in, where data lies in them out. What two parsers could read in two ways is malformed: a line that ends without CR,
//! white space around a size, a size without digits or with more than 16, an extension that is no `;name[=value]`, a folded trailer.

/// Bytes of the extensions of one chunk. Extensions mean nothing to anyone; the limit keeps them from being a way to send for free.
const EXTENSION_BYTES_MAX: usize = 256;
/// Bytes of the trailer section, names and values.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// Hexadecimal digits that a 64-bit size has.
const SIZE_DIGITS_MAX: u8 = 16;

/// How far a chunked body has been read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// Size of the chunk, then what is left of it.
    size: u64,
    digits: u8,
    extension_bytes: usize,
    trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    ExtensionStart,
    ExtensionName,
    ExtensionValue,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    End,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The input is used up.
    More,
    /// This many bytes of data follow in the input.
    Data(usize),
    /// The body and its trailers are complete.
    End,
}

/// The body breaks the rules of its coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Chunks {
    /// Reads `input` up to the next data, or to its end. Returns how many bytes precede what was found; the data itself counts as
    /// read once it has been returned.
    pub(super) fn step(&mut self, input: &[u8]) -> Result<(usize, Step), Malformed> {
        for (at, &byte) in input.iter().enumerate() {
            if self.state == State::Data {
                let data = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len() - at);
                self.size -= data as u64;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                return Ok((at, Step::Data(data)));
            }
            self.state = self.byte(byte)?;
            if self.state == State::End {
                return Ok((at + 1, Step::End));
            }
        }
        Ok((input.len(), if self.state == State::End { Step::End } else { Step::More }))
    }

    /// The trailer section as it was sent, its last empty line included; empty if there was none.
    pub(super) fn trailer(&self) -> &[u8] {
        &self.trailer
    }

    fn byte(&mut self, byte: u8) -> Result<State, Malformed> {
        match self.state {
            State::Size => self.size_byte(byte),
            State::ExtensionStart
            | State::ExtensionName
            | State::ExtensionValue
            | State::ExtensionToken
            | State::ExtensionQuoted
            | State::ExtensionEscape
            | State::ExtensionEnd => self.extension_byte(byte),
            State::SizeLf => match (byte, self.size) {
                (b'\n', 0) => Ok(State::TrailerStart),
                (b'\n', _) => {
                    self.digits = 0;
                    self.extension_bytes = 0;
                    Ok(State::Data)
                }
                _ => Err(Malformed),
            },
            State::DataCr => expect(byte, b'\r', State::DataLf),
            State::DataLf => expect(byte, b'\n', State::Size),
            State::TrailerStart => match byte {
                b'\r' if self.trailer.is_empty() => Ok(State::EndLf),
                b'\r' => self.trailer_byte(byte, State::EndLf),
                b' ' | b'\t' | b'\n' | b':' => Err(Malformed),
                _ => self.trailer_byte(byte, State::TrailerLine),
            },
            State::TrailerLine => match byte {
                b'\r' => self.trailer_byte(byte, State::TrailerLf),
                b'\n' | 0 => Err(Malformed),
                _ => self.trailer_byte(byte, State::TrailerLine),
            },
            State::TrailerLf if byte == b'\n' => self.trailer_byte(byte, State::TrailerStart),
            State::EndLf if byte == b'\n' && self.trailer.is_empty() => Ok(State::End),
            State::EndLf if byte == b'\n' => self.trailer_byte(byte, State::End),
            State::TrailerLf | State::EndLf | State::Data | State::End => Err(Malformed),
        }
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, Malformed> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.digits > 0 => return Ok(State::SizeLf),
            b';' if self.digits > 0 => return Ok(State::ExtensionStart),
            _ => return Err(Malformed),
        };
        if self.digits == SIZE_DIGITS_MAX {
            return Err(Malformed);
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn extension_byte(&mut self, byte: u8) -> Result<State, Malformed> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(Malformed);
        }
        match (self.state, byte) {
            (State::ExtensionStart | State::ExtensionName, byte) if is_token(byte) => Ok(State::ExtensionName),
            (State::ExtensionName, b'=') => Ok(State::ExtensionValue),
            (State::ExtensionValue, b'"') => Ok(State::ExtensionQuoted),
            (State::ExtensionValue | State::ExtensionToken, byte) if is_token(byte) => Ok(State::ExtensionToken),
            (State::ExtensionQuoted, b'"') => Ok(State::ExtensionEnd),
            (State::ExtensionQuoted, b'\\') => Ok(State::ExtensionEscape),
            (State::ExtensionQuoted | State::ExtensionEscape, b'\t' | b' '..=b'~' | 0x80..) => {
                Ok(State::ExtensionQuoted)
            }
            (State::ExtensionName | State::ExtensionToken | State::ExtensionEnd, b';') => Ok(State::ExtensionStart),
            (State::ExtensionName | State::ExtensionToken | State::ExtensionEnd, b'\r') => Ok(State::SizeLf),
            _ => Err(Malformed),
        }
    }

    fn trailer_byte(&mut self, byte: u8, next: State) -> Result<State, Malformed> {
        if self.trailer.len() == TRAILER_BYTES_MAX {
            return Err(Malformed);
        }
        self.trailer.push(byte);
        Ok(next)
    }
}

fn expect(byte: u8, expected: u8, next: State) -> Result<State, Malformed> {
    if byte == expected { Ok(next) } else { Err(Malformed) }
}

/// Whether `byte` may stand in a token (RFC 9110 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that arrives in pieces of `piece` bytes, with what follows it.
    fn read(mut input: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        while !input.is_empty() {
            let part = &input[..piece.min(input.len())];
            let (skip, step) = chunks.step(part)?;
            let taken = match step {
                Step::Data(bytes) => {
                    data.extend(&part[skip..skip + bytes]);
                    skip + bytes
                }
                Step::More => skip,
                Step::End => return Ok((data, chunks.trailer().to_vec())),
            };
            input = &input[taken..];
        }
        Err(Malformed)
    }

    fn check(input: &str, data: &str, trailer: &str) {
        for piece in [1, 2, 3, 7, 1000] {
            let expected = Ok((data.as_bytes().to_vec(), trailer.as_bytes().to_vec()));
            assert_eq!(read(input.as_bytes(), piece), expected, "{input:?} in pieces of {piece}");
        }
    }

    #[test]
    fn data_is_found_however_it_is_cut() {
        check("0\r\n\r\n", "", "");
        check("5\r\nhello\r\n0\r\n\r\n", "hello", "");
        check("5\r\nhello\r\n00A\r\n0123456789\r\n000\r\n\r\n", "hello0123456789", "");
        check("1;a;b=c;d=\"e;\\\"\"\r\nx\r\n0\r\n\r\n", "x", "");
        check("1\r\nx\r\n0\r\nGrpc-Status: 0\r\nA: b\r\n\r\n", "x", "Grpc-Status: 0\r\nA: b\r\n\r\n");
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_malformed() {
        for input in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5;\na\r\nhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5;a b\r\nhello\r\n0\r\n\r\n",
            "5;\r\nhello\r\n0\r\n\r\n",
            "5;;a\r\nhello\r\n0\r\n\r\n",
            "5;a=\r\nhello\r\n0\r\n\r\n",
            "5;a=\"\0\"\r\nhello\r\n0\r\n\r\n",
            "5\r\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
            "0\r\n: b\r\n\r\n",
        ] {
            assert_eq!(read(input.as_bytes(), 1000), Err(Malformed), "{input:?}");
            assert_eq!(read(input.as_bytes(), 1), Err(Malformed), "{input:?} byte by byte");
        }
    }

    #[test]
    fn extensions_and_trailers_have_an_end() {
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(300));
        assert_eq!(read(long.as_bytes(), 1000), Err(Malformed));
        let long = format!("0\r\nA: {}\r\n\r\n", "b".repeat(20_000));
        assert_eq!(read(long.as_bytes(), 30_000), Err(Malformed));
    }
}
