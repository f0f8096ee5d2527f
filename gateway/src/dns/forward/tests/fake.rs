//! An upstream in the same process, which may lie.

use crate::dns::Transport;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

/// What the upstream sends.
pub(super) enum Send {
    /// This, as it should be.
    Reply(Vec<u8>),
    /// This from another port, as who only guesses must.
    FromElsewhere(Vec<u8>),
}

/// What it was asked.
pub(super) type Asked = Arc<Mutex<Vec<(Transport, Vec<u8>)>>>;

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    asked: Asked,
}

impl Fake {
    /// An upstream that says to each query what `behave` gives.
    pub(super) async fn start(
        behave: impl Fn(Transport, &[u8]) -> Vec<Send> + std::marker::Send + Sync + 'static,
    ) -> Fake {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
            // The same port may be somebody else's over TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().expect("bound");
        let asked = Asked::default();
        let behave = Arc::new(behave);
        tokio::spawn(over_udp(udp, behave.clone(), asked.clone()));
        tokio::spawn(over_tcp(tcp, behave, asked.clone()));
        Fake { address, asked }
    }

    /// One that replies what `reply` gives.
    pub(super) async fn replying(reply: impl Fn(&[u8]) -> Vec<u8> + std::marker::Send + Sync + 'static) -> Fake {
        Fake::start(move |_, query| vec![Send::Reply(reply(query))]).await
    }

    /// One that never says anything.
    pub(super) async fn silent() -> Fake {
        Fake::start(|_, _| Vec::new()).await
    }

    /// How often it was asked.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }

    pub(super) fn asked(&self) -> Vec<(Transport, Vec<u8>)> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn over_udp(
    socket: UdpSocket,
    behave: Arc<impl Fn(Transport, &[u8]) -> Vec<Send> + std::marker::Send + Sync + 'static>,
    asked: Asked,
) {
    let elsewhere = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut query = [0; 2048];
    while let Ok((length, client)) = socket.recv_from(&mut query).await {
        asked.lock().expect("no panic").push((Transport::Udp, query[..length].to_vec()));
        for send in behave(Transport::Udp, &query[..length]) {
            let _ = match send {
                Send::Reply(bytes) => socket.send_to(&bytes, client).await,
                Send::FromElsewhere(bytes) => elsewhere.send_to(&bytes, client).await,
            };
        }
    }
}

async fn over_tcp(
    listener: TcpListener,
    behave: Arc<impl Fn(Transport, &[u8]) -> Vec<Send> + std::marker::Send + Sync + 'static>,
    asked: Asked,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let Ok(length) = stream.read_u16().await else { continue };
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            continue;
        }
        asked.lock().expect("no panic").push((Transport::Tcp, query.clone()));
        for send in behave(Transport::Tcp, &query) {
            let (Send::Reply(bytes) | Send::FromElsewhere(bytes)) = send;
            let _ = stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).await;
        }
    }
}
