//! A backend that answers every request with `ok` and remembers what it got, byte for byte.
//!
//! One thread reads all connections in the order in which bytes come, so whoever has an answer to a request knows that all
//! that was sent before it is noted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What came on one connection.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Heads of the requests, in order.
    pub heads: Vec<String>,
    /// Bodies of those that were complete, as they were sent (chunks and all).
    pub bodies: Vec<Vec<u8>>,
    /// All bytes.
    pub bytes: Vec<u8>,
}

/// The backend.
pub struct Backend {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Arc<Mutex<Seen>>>>>,
}

impl Backend {
    /// Starts on a free port of loopback.
    pub fn start() -> Backend {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let noted = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a socket");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    let seen = Arc::<Mutex<Seen>>::default();
                    noted.lock().unwrap().push(seen.clone());
                    tokio::spawn(serve(stream, seen));
                }
            });
        });
        Backend { address, seen }
    }

    /// What it has seen, and forgets.
    pub fn take(&self) -> Vec<Seen> {
        let mut seen = self.seen.lock().unwrap();
        let taken = seen.iter().map(|seen| std::mem::take(&mut *seen.lock().unwrap())).collect::<Vec<_>>();
        seen.retain(|seen| Arc::strong_count(seen) > 1);
        taken.into_iter().filter(|seen| !seen.bytes.is_empty()).collect()
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Mutex<Seen>>) {
    let mut unread = Vec::new();
    loop {
        let Some(head) = take_until(&mut stream, &mut unread, &seen, b"\r\n\r\n").await else { return };
        let head = String::from_utf8_lossy(&head).into_owned();
        let lower = head.to_ascii_lowercase();
        seen.lock().unwrap().heads.push(head);
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
        let body = if lower.contains("transfer-encoding: chunked") {
            take_chunks(&mut stream, &mut unread, &seen).await
        } else {
            take(&mut stream, &mut unread, &seen, length.unwrap_or(0)).await
        };
        let Some(body) = body else { return };
        seen.lock().unwrap().bodies.push(body);
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}

/// The bytes up to and with `end`.
async fn take_until(stream: &mut TcpStream, unread: &mut Vec<u8>, seen: &Mutex<Seen>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = unread.windows(end.len()).position(|window| window == end) {
            return Some(unread.drain(..at + end.len()).collect());
        }
        read(stream, unread, seen).await?;
    }
}

/// All chunks, and what stands behind the last one.
async fn take_chunks(stream: &mut TcpStream, unread: &mut Vec<u8>, seen: &Mutex<Seen>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = take_until(stream, unread, seen, b"\r\n").await?;
        let size = String::from_utf8_lossy(&line).trim_end().to_owned();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("the proxy sent a chunk of {size:?}"));
        body.extend(line);
        if size == 0 {
            break;
        }
        body.extend(take(stream, unread, seen, size + 2).await?);
    }
    while !body.ends_with(b"\r\n\r\n") {
        body.extend(take_until(stream, unread, seen, b"\r\n").await?);
    }
    Some(body)
}

async fn take(stream: &mut TcpStream, unread: &mut Vec<u8>, seen: &Mutex<Seen>, length: usize) -> Option<Vec<u8>> {
    while unread.len() < length {
        read(stream, unread, seen).await?;
    }
    Some(unread.drain(..length).collect())
}

async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>, seen: &Mutex<Seen>) -> Option<()> {
    let before = unread.len();
    match stream.read_buf(unread).await {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            seen.lock().unwrap().bytes.extend(&unread[before..]);
            Some(())
        }
    }
}
