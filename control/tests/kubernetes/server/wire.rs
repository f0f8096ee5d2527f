//! How the server answers: requests, pieces, chunks, watches that wait for news.

use super::{Answer, Shared, State, key, lock, recording};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// Serves one connection, request after request.
pub(super) fn serve(shared: &Shared, connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut connection = connection;
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        // What is written here is not kept.
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        io::copy(&mut reader.by_ref().take(length.unwrap_or(0)), &mut io::sink())?;
        let uri = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let ruled = {
            let mut state = lock(shared);
            if state.is_down || state.is_over {
                return Ok(());
            }
            state.requests.push(uri.clone());
            let rule = state.rules.iter_mut().find(|rule| rule.times > 0 && uri.contains(&rule.text));
            rule.map(|rule| {
                rule.times -= 1;
                rule.answer.clone()
            })
        };
        match ruled {
            Some(answer) => reply(shared, &mut connection, &answer)?,
            None if uri.contains("watch=1") => return watch(shared, &mut connection, &uri),
            None => {
                let answer = list_or_discover(&lock(shared), &uri);
                reply(shared, &mut connection, &answer)?;
            }
        }
    }
}

fn reply(shared: &Shared, connection: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    let Answer { status, headers, body, cut_after } = answer;
    let length = body.len();
    write!(
        connection,
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
    )?;
    send(shared, connection, &body[..length.min(*cut_after)], false)?;
    if *cut_after < length {
        return Err(io::Error::other("cut on purpose"));
    }
    Ok(())
}

/// Sends bytes in the pieces that are asked for, each as a chunk if the body has chunks.
fn send(shared: &Shared, connection: &mut TcpStream, bytes: &[u8], in_chunks: bool) -> io::Result<()> {
    let (size, pause) = lock(shared).piece.unwrap_or((usize::MAX, Duration::ZERO));
    for piece in bytes.chunks(size.min(bytes.len().max(1))) {
        if in_chunks {
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            connection.write_all(&chunk)?;
        } else {
            connection.write_all(piece)?;
        }
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(())
}

/// Path of the resource, the one object that is asked for, and the query.
fn split(uri: &str) -> (String, Option<String>, BTreeMap<String, String>) {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let query: BTreeMap<String, String> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.replace("%3D", "=").replace("%2F", "/")))
        .collect();
    let only = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    match path.split_once("/namespaces/").and_then(|(group, rest)| Some((group, rest.split_once('/')?))) {
        Some((group, (namespace, plural))) => {
            let only = only.map(|name| format!("{namespace}/{name}"));
            (format!("{group}/{plural}"), only, query)
        }
        None => (path.to_owned(), None, query),
    }
}

fn list_or_discover(state: &State, uri: &str) -> Answer {
    let (path, only, query) = split(uri);
    let Some(resource) = state.resources.get(&path) else {
        let below = format!("{path}/");
        let served: Vec<Value> = state
            .resources
            .keys()
            .filter_map(|other| other.strip_prefix(&below))
            .map(|name| json!({"name": name}))
            .collect();
        return match served.is_empty() {
            true => Answer::new(404, recording("notfound.crd.json")),
            false => Answer::new(200, json!({"kind": "APIResourceList", "resources": served}).to_string()),
        };
    };
    let limit: usize = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    if let Some((version, text)) = &resource.recorded
        && *version == resource.version
        && only.is_none()
        && resource.items.len() <= limit
    {
        return Answer::new(200, text.as_str());
    }
    let first: usize = query.get("continue").and_then(|token| token.parse().ok()).unwrap_or_default();
    let wanted = resource.items.iter().filter(|(key, _)| only.as_ref().is_none_or(|only| only == *key));
    let wanted: Vec<&Value> = wanted.map(|(_, item)| item).collect();
    let page: Vec<&Value> = wanted.iter().skip(first).take(limit).copied().collect();
    let next = if first + page.len() < wanted.len() { (first + page.len()).to_string() } else { String::new() };
    let metadata = json!({"resourceVersion": state.version.to_string(), "continue": next});
    let list =
        json!({"kind": format!("{}List", resource.kind), "apiVersion": "v1", "metadata": metadata, "items": page});
    Answer::new(200, list.to_string())
}

/// Serves a watch until it is ended.
fn watch(shared: &Shared, connection: &mut TcpStream, uri: &str) -> io::Result<()> {
    let (path, only, query) = split(uri);
    let from: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default();
    let is_for = |bytes: &[u8]| {
        let Some(only) = &only else { return true };
        serde_json::from_slice::<Value>(bytes).is_ok_and(|event| key(&event["object"]) == *only)
    };
    let (mut next, ends, backlog) = {
        let state = lock(shared);
        let Some(resource) = state.resources.get(&path) else {
            drop(state);
            return reply(shared, connection, &Answer::new(404, recording("notfound.crd.json")));
        };
        let is_gone = from < resource.oldest;
        let news = resource.log.iter().filter(|line| !line.is_lie && line.version > from && is_for(&line.bytes));
        let mut backlog: Vec<u8> = news.flat_map(|line| line.bytes.clone()).collect();
        if is_gone {
            backlog = recording("gone.watch.jsonl").into_bytes();
            backlog.push(b'\n');
        }
        (resource.log.len(), resource.ends, backlog)
    };
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    send(shared, connection, &backlog, true)?;
    loop {
        let mut state = lock(shared);
        let news = loop {
            if state.is_over || state.is_down {
                return Ok(());
            }
            let Some(resource) = state.resources.get(&path) else { return Ok(()) };
            if resource.log.len() < next {
                // The history was forgotten.
                next = resource.log.len();
            }
            if resource.log.len() > next {
                let news = resource.log[next..].iter().filter(|line| line.is_lie || is_for(&line.bytes));
                let news: Vec<u8> = news.flat_map(|line| line.bytes.clone()).collect();
                next = resource.log.len();
                break news;
            }
            if resource.ends != ends {
                let is_clean = resource.is_end_clean;
                drop(state);
                return if is_clean { connection.write_all(b"0\r\n\r\n") } else { Ok(()) };
            }
            state = shared.1.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        };
        drop(state);
        send(shared, connection, &news, true)?;
    }
}
