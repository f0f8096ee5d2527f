//! The UDP half of the test server.

use super::{Identity, ServerProtocol, Sighting, pattern, source_len};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Largest UDP payload over IPv4.
const DATAGRAM_LEN_MAX: usize = 65_507;

/// A datagram that begins so is sent back.
const ECHO: &[u8] = b"podplane-echo ";

/// Listens on `port` of every address of the server and of loopback.
pub(super) fn start(identity: &Identity, port: u16) -> io::Result<()> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in &identity.addresses {
        serve_on(identity, *address, port)?;
    }
    for address in loopback {
        // Nobody outside of the pod misses it, and a machine without IPv6 has no ::1.
        let _ = serve_on(identity, address, port);
    }
    Ok(())
}

fn serve_on(identity: &Identity, address: IpAddr, port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((address, port))?;
    let identity = identity.clone();
    std::thread::Builder::new().name(format!("udp-{port}")).spawn(move || serve(&socket, &identity, address, port))?;
    Ok(())
}

fn serve(socket: &UdpSocket, identity: &Identity, address: IpAddr, port: u16) {
    let mut request = vec![0; DATAGRAM_LEN_MAX];
    loop {
        // An error here is an ICMP answer to an earlier datagram of ours.
        let Ok((len, client)) = socket.recv_from(&mut request) else { continue };
        if request[..len].starts_with(ECHO) {
            let _ = socket.send_to(&request[..len], client);
            continue;
        }
        let text = String::from_utf8_lossy(&request[..len.min(64)]);
        let answer = match source_len(text.lines().next().unwrap_or_default()) {
            Some(len) => pattern::bytes((len as usize).min(DATAGRAM_LEN_MAX)),
            None => Sighting {
                server: identity.pod.clone(),
                node: identity.node.clone(),
                server_ip: address,
                server_port: port,
                client_ip: client.ip(),
                client_port: client.port(),
                protocol: ServerProtocol::Udp,
                request: None,
            }
            .line()
            .into_bytes(),
        };
        let _ = socket.send_to(&answer, client);
    }
}
