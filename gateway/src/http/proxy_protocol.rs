//! The PROXY protocol, versions 1 and 2, as HAProxy's specification defines it: a load balancer that hands connections on says
//! before their first byte whose they are.
//!
//! [`parse`] is pure: bytes in, how many of them are the header and whom it names out. [`receive`] reads a header from a
//! connection and not one byte of what follows it.
//!
//! A header that names no TCP addresses (LOCAL, UNKNOWN, Unix sockets, datagrams) leaves those of the connection. Of version 2
//! the type-length-values are passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::{fmt, io, str};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Bytes of the longest header of version 1, its CRLF included (specification, section 2.1).
const V1_LEN_MAX: usize = 107;

/// Bytes of the longest header of version 2 that is read. Addresses take 52 at most; the rest is for values that are passed
/// over, and no sender is known to have as many.
const V2_LEN_MAX: usize = 4096;

/// What a header of version 2 begins with.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 2 before the addresses.
const V2_FIXED_LEN: usize = 16;

/// The two ends of a connection, as a header names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// What bytes at the beginning of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All of them belong to a header that goes on.
    Incomplete,
    /// A header.
    Header {
        /// Its length in bytes.
        len: usize,
        /// Whom it names; `None` leaves the addresses of the connection.
        addresses: Option<Addresses>,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// Reads a header from the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if begins(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else if begins(bytes, b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(Malformed("no PROXY header"))
    }
}

/// Whether `bytes` begin with `beginning`, as far as they go.
fn begins(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.iter().zip(beginning).all(|(one, other)| one == other)
}

fn parse_v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let within = &bytes[..bytes.len().min(V1_LEN_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        // What can still become the end of the line is no reason to wait for more than the longest one.
        return if bytes.len() < V1_LEN_MAX { Ok(Parsed::Incomplete) } else { Err(Malformed("line without an end")) };
    };
    let line = str::from_utf8(&within[..end]).map_err(|_| Malformed("line that is not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let addresses = match words.next() {
        Some("TCP4") => Some(v1_addresses::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(v1_addresses::<Ipv6Addr>(words)?),
        // Whatever follows is to be ignored (section 2.1).
        Some("UNKNOWN") => None,
        _ => return Err(Malformed("unknown family")),
    };
    Ok(Parsed::Header { len: end + 2, addresses })
}

fn v1_addresses<'a, A: FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<Addresses, Malformed> {
    let source: A = v1_address(words.next())?;
    let destination: A = v1_address(words.next())?;
    let source = SocketAddr::new(source.into().to_canonical(), v1_port(words.next())?);
    let destination = SocketAddr::new(destination.into().to_canonical(), v1_port(words.next())?);
    match words.next() {
        None => Ok(Addresses { source, destination }),
        Some(_) => Err(Malformed("more than two addresses and two ports")),
    }
}

fn v1_address<A: FromStr>(word: Option<&str>) -> Result<A, Malformed> {
    word.and_then(|word| word.parse().ok()).ok_or(Malformed("not an address of its family"))
}

/// Decimal, without leading zeros or a sign.
fn v1_port(word: Option<&str>) -> Result<u16, Malformed> {
    let word = word.filter(|word| *word == "0" || !word.starts_with(['0', '+']));
    word.and_then(|word| word.parse().ok()).ok_or(Malformed("not a port"))
}

fn parse_v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some(fixed) = bytes.first_chunk::<V2_FIXED_LEN>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., version_and_command, family_and_transport, high, low] = *fixed;
    if version_and_command >> 4 != 2 {
        return Err(Malformed("unknown version"));
    }
    let is_local = match version_and_command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Malformed("unknown command")),
    };
    let len = V2_FIXED_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > V2_LEN_MAX {
        return Err(Malformed("header too long"));
    }
    let Some(rest) = bytes.get(V2_FIXED_LEN..len) else {
        return Ok(Parsed::Incomplete);
    };
    let addresses = if is_local { None } else { v2_addresses(family_and_transport, rest)? };
    Ok(Parsed::Header { len, addresses })
}

fn v2_addresses(family_and_transport: u8, rest: &[u8]) -> Result<Option<Addresses>, Malformed> {
    let too_short = Malformed("addresses longer than the header");
    let (family, transport) = (family_and_transport >> 4, family_and_transport & 0xf);
    if family > 3 || transport > 2 {
        return Err(Malformed("unknown family or transport"));
    }
    let port = |ports: &[u8], at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    match family_and_transport {
        0x11 => {
            let block = rest.first_chunk::<12>().ok_or(too_short)?;
            let address = |at: usize| Ipv4Addr::new(block[at], block[at + 1], block[at + 2], block[at + 3]);
            let source = SocketAddr::new(address(0).into(), port(block, 8));
            Ok(Some(Addresses { source, destination: SocketAddr::new(address(4).into(), port(block, 10)) }))
        }
        0x21 => {
            let block = rest.first_chunk::<36>().ok_or(too_short)?;
            let address = |at: usize| {
                let bytes: [u8; 16] = block[at..at + 16].try_into().expect("sixteen bytes of thirty-six");
                IpAddr::from(bytes).to_canonical()
            };
            let source = SocketAddr::new(address(0), port(block, 32));
            Ok(Some(Addresses { source, destination: SocketAddr::new(address(16), port(block, 34)) }))
        }
        _ => Ok(None),
    }
}

/// Why no header came.
#[derive(Debug)]
pub enum ReceiveError {
    /// Something else came.
    Malformed(Malformed),
    /// The connection ended or broke.
    Io(io::Error),
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> ReceiveError {
        ReceiveError::Io(error)
    }
}

impl From<Malformed> for ReceiveError {
    fn from(error: Malformed) -> ReceiveError {
        ReceiveError::Malformed(error)
    }
}

/// Reads a header from `stream`, however it is cut into segments, and leaves what follows it there. The caller has the
/// deadline.
pub async fn receive(stream: &mut TcpStream) -> Result<Option<Addresses>, ReceiveError> {
    let mut bytes = vec![0; V2_LEN_MAX];
    let mut held = 0;
    loop {
        let peeked = stream.peek(&mut bytes[held..]).await?;
        if peeked == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match parse(&bytes[..held + peeked])? {
            Parsed::Header { len, addresses } => {
                stream.read_exact(&mut bytes[held..len]).await?;
                return Ok(addresses);
            }
            // All of it is the header's; taken, so that the next look waits for more.
            Parsed::Incomplete => {
                stream.read_exact(&mut bytes[held..held + peeked]).await?;
                held += peeked;
            }
        }
    }
}

#[cfg(test)]
mod tests;
