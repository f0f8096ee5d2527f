//! The small clients and servers of the bench, run inside of the places as a hidden subcommand of the binary.
//!
//! `serve` listens on [`PORTS`]; a thread per port answers one connection after the other, byte by byte. A client of the
//! connection workload has ports of its own, so it never waits for another client, and two of them, so that ports in
//! TIME_WAIT do not run out within a round.

use crate::error::{LabError, Result};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

/// What a client connects to.
pub(crate) type Address = IpAddr;

/// First port of the server.
const FIRST_PORT: u16 = 5300;
/// Clients of the connection workload.
const CLIENTS: u16 = 4;
/// Ports for each of them.
const PORTS_PER_CLIENT: u16 = 3;
/// The port of the request/response workload comes behind those.
const RR_PORT: u16 = FIRST_PORT + CLIENTS * PORTS_PER_CLIENT;
/// All ports of the server.
pub(super) const PORTS: RangeInclusive<u16> = FIRST_PORT..=RR_PORT;
/// Round trips before the measurement: the first ones fill caches and open the flow.
const WARM_UP: usize = 200;

/// Runs `lab-internal bench ARGS`.
pub(crate) fn run(args: &[String]) -> Result<i32> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["serve"] => serve(),
        ["rr", address, seconds] => round_trips(parse(address)?, Duration::from_secs(parse(seconds)?)),
        ["conn", address, seconds] => connections(parse(address)?, Duration::from_secs(parse(seconds)?)),
        _ => return Err(LabError::BadInput("bench serve | rr ADDRESS SECONDS | conn ADDRESS SECONDS".to_owned())),
    };
    let line = result.map_err(|e| LabError::io(words.join(" "), e))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").map_err(|e| LabError::io("standard output", e))?;
    Ok(0)
}

fn parse<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().map_err(|_| LabError::BadInput(format!("{word:?}: not a value of its kind")))
}

fn serve() -> io::Result<serde_json::Value> {
    let mut threads = Vec::new();
    for port in PORTS {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
        threads.push(thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is the end of its connection, not of the server.
                let _ = answer(stream);
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
    Ok(json!({}))
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn round_trips(address: Address, length: Duration) -> io::Result<serde_json::Value> {
    let mut stream = TcpStream::connect((address, RR_PORT))?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    for _ in 0..WARM_UP {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    let mut times_ns = Vec::new();
    let end = Instant::now() + length;
    let mut before = Instant::now();
    while before < end {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        let after = Instant::now();
        times_ns.push(after.duration_since(before).as_nanos() as u64);
        before = after;
    }
    times_ns.sort_unstable();
    let at = |percent: usize| times_ns.get(times_ns.len() * percent / 100).map(|ns| *ns as f64 / 1000.0);
    Ok(json!({ "p50_us": at(50), "p99_us": at(99) }))
}

fn connections(address: Address, length: Duration) -> io::Result<serde_json::Value> {
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || -> io::Result<u64> {
                let mut count = 0;
                let ports = (0..PORTS_PER_CLIENT).map(|turn| FIRST_PORT + client * PORTS_PER_CLIENT + turn);
                for port in ports.cycle() {
                    if start.elapsed() >= length {
                        break;
                    }
                    connect_once(SocketAddr::new(address, port))?;
                    count += 1;
                }
                Ok(count)
            })
        })
        .collect();
    let mut total = 0;
    for client in clients {
        total += client.join().expect("a client does not panic")?;
    }
    Ok(json!({ "per_second": total as f64 / start.elapsed().as_secs_f64() }))
}

fn connect_once(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut byte = [0];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)
}
