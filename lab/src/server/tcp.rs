//! The TCP half of the test server.

use super::{Asked, Identity, PATIENCE, Received, ServerProtocol, Sighting, pattern, source_len};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections served at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;

/// Connections that the kernel keeps for a server that is busy.
const BACKLOG: i32 = 1024;

/// Longest line that is waited for; longer ones are answered in pieces.
const LINE_LEN_MAX: u64 = 8192;

/// Header fields of a request that are told.
const FIELDS_MAX: usize = 16;

/// Listens on `port`, both families, and serves on threads.
pub(super) fn start(identity: Identity, port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    std::thread::Builder::new().name(format!("tcp-{port}")).spawn(move || serve(&listener, &identity))?;
    Ok(())
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = match Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)) {
        Ok(socket) => {
            socket.set_only_v6(false)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
            socket
        }
        Err(_) => {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
            socket
        }
    };
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn serve(listener: &TcpListener, identity: &Identity) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The client is gone already, or descriptors ran out for a moment.
            Err(_) => {
                std::thread::yield_now();
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (done, identity) = (open.clone(), identity.clone());
        let started = std::thread::Builder::new().spawn(move || {
            // A client that goes away is the client's business.
            let _ = converse(stream, &identity);
            done.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn sighting(stream: &TcpStream, identity: &Identity) -> io::Result<Sighting> {
    let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Sighting {
        server: identity.pod.clone(),
        node: identity.node.clone(),
        server_ip: local.ip().to_canonical(),
        server_port: local.port(),
        client_ip: peer.ip().to_canonical(),
        client_port: peer.port(),
        protocol: ServerProtocol::Tcp,
        request: None,
    })
}

fn converse(stream: TcpStream, identity: &Identity) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let sighting = sighting(&stream, identity)?;
    let answer = sighting.line();
    let mut output = stream.try_clone()?;
    let mut input = BufReader::with_capacity(64 * 1024, stream);
    input.get_ref().set_read_timeout(Some(PATIENCE))?;
    loop {
        let mut line = Vec::new();
        match (&mut input).take(LINE_LEN_MAX).read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
        input.get_ref().set_read_timeout(None)?;
        let line = String::from_utf8_lossy(&line);
        if is_http(&line) {
            return answer_http(&mut input, &mut output, &line, sighting);
        }
        if let Some(len) = source_len(&line) {
            return pattern::send(&mut output, len);
        }
        if line.trim() == "podplane-sink" {
            let (bytes, intact) = pattern::receive(&mut input)?;
            let received = serde_json::to_string(&Received { bytes, intact }).map_err(io::Error::other)?;
            return writeln!(output, "{received}");
        }
        output.write_all(answer.as_bytes())?;
    }
}

fn is_http(line: &str) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    matches!(words[..], ["GET" | "HEAD" | "POST" | "PUT" | "DELETE", _, version] if version.starts_with("HTTP/1."))
}

/// Answers one request. Its body is read first, else closing would reset the connection under the response.
fn answer_http(input: &mut impl BufRead, output: &mut TcpStream, request: &str, sighting: Sighting) -> io::Result<()> {
    let mut body_len = 0u64;
    let mut fields = BTreeMap::new();
    loop {
        let mut header = Vec::new();
        input.take(LINE_LEN_MAX).read_until(b'\n', &mut header)?;
        let header = String::from_utf8_lossy(&header);
        let Some((name, value)) = header.trim().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        if name == "content-length" {
            body_len = value.parse().unwrap_or(0);
        }
        if (name == "host" || name.starts_with("x-forwarded-")) && fields.len() < FIELDS_MAX {
            fields.insert(name, value.to_owned());
        }
    }
    io::copy(&mut input.take(body_len), &mut io::sink())?;
    let target = request.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
    let body = Sighting { request: Some(Asked { target, fields }), ..sighting }.line();
    write!(
        output,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        body.len(),
        if request.starts_with("HEAD ") { "" } else { &body }
    )?;
    output.flush()
}
