//! The access log: one JSON object for each request, on standard output.
//!
//! Workers put lines into a bounded queue and go on; a thread writes them, as many at a time as there are. When standard output
//! does not keep up, lines are dropped and counted: the log never holds up a request.

use super::upload::UploadProgress;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Lines that may wait. At a few hundred bytes each, what a slow disk may cost in memory stays below 10 MB.
const LINES_MAX: usize = 16 * 1024;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Where workers put lines.
#[derive(Clone, Debug)]
pub(super) struct LogQueue(SyncSender<Vec<u8>>);

impl LogQueue {
    /// A queue with a thread that writes it to `output`.
    pub(super) fn start(output: impl Write + Send + 'static) -> LogQueue {
        let (lines, waiting) = sync_channel(LINES_MAX);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&waiting, output))
            .expect("the system has threads when it starts");
        LogQueue(lines)
    }

    /// Adds a line; `false` if there is no room.
    pub(super) fn add(&self, line: Vec<u8>) -> bool {
        !matches!(self.0.try_send(line), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }
}

fn write_lines(waiting: &Receiver<Vec<u8>>, mut output: impl Write) {
    let mut buffer = Vec::with_capacity(WRITE_BYTES);
    while let Ok(line) = waiting.recv() {
        buffer.clear();
        buffer.extend_from_slice(&line);
        while buffer.len() < WRITE_BYTES
            && let Ok(line) = waiting.try_recv()
        {
            buffer.extend_from_slice(&line);
        }
        // Nobody is left to be told that the log itself fails.
        let _ = output.write_all(&buffer).and_then(|()| output.flush());
    }
}

/// What is said of a request. Written when the answer's body is over.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) began: Instant,
    pub(super) client: SocketAddr,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) protocol: &'static str,
    pub(super) tls: Option<&'static str>,
    pub(super) sni: Option<String>,
    pub(super) request_id: String,
    pub(super) status: u16,
    pub(super) upload: Rc<UploadProgress>,
    pub(super) bytes_out: u64,
    pub(super) upstream: Option<SocketAddr>,
    /// Object and field of the rule.
    pub(super) route: Option<(String, String)>,
    pub(super) retries: u32,
    /// Whether the answer broke off.
    pub(super) broken: bool,
}

impl Record {
    /// The line, as of `now`, when `took` has gone by since the request began.
    pub(super) fn line(&self, now: SystemTime, took: Duration) -> Vec<u8> {
        let mut line = Vec::with_capacity(512);
        let millis = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut object = JsonObject::begin(&mut line);
        object.number("time_ms", millis as u64);
        object.text("client", &self.client.to_string());
        object.text("method", &self.method);
        object.text("host", &self.host);
        object.text("path", &self.path);
        object.text("protocol", self.protocol);
        object.number("status", u64::from(self.status));
        object.number("bytes_in", self.upload.bytes());
        object.number("bytes_out", self.bytes_out);
        object.number("duration_us", took.as_micros() as u64);
        if let Some(upstream) = self.upstream {
            object.text("upstream", &upstream.to_string());
        }
        if let Some((route, field)) = &self.route {
            object.text("route", route);
            object.text("field", field);
        }
        object.number("retries", u64::from(self.retries));
        if let Some(tls) = self.tls {
            object.text("tls", tls);
        }
        if let Some(sni) = &self.sni {
            object.text("sni", sni);
        }
        object.text("request_id", &self.request_id);
        if self.broken {
            object.text("error", "broken off");
        }
        object.end();
        line
    }
}

/// Writes one flat object and a line end.
struct JsonObject<'a> {
    line: &'a mut Vec<u8>,
}

impl<'a> JsonObject<'a> {
    fn begin(line: &'a mut Vec<u8>) -> JsonObject<'a> {
        line.push(b'{');
        JsonObject { line }
    }

    fn name(&mut self, name: &str) {
        if self.line.last() != Some(&b'{') {
            self.line.push(b',');
        }
        write!(self.line, "\"{name}\":").expect("a Vec takes all bytes");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        write!(self.line, "{value}").expect("a Vec takes all bytes");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        serde_json::to_writer(&mut *self.line, value).expect("text is JSON and a Vec takes all bytes");
    }

    fn end(self) {
        self.line.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            began: Instant::now(),
            client: "192.0.2.1:5000".parse().unwrap(),
            method: "GET".into(),
            host: "shop.example".into(),
            path: "/a?b=\"c\"\u{7}".into(),
            protocol: "HTTP/1.1",
            tls: Some("TLSv1.3"),
            sni: None,
            request_id: "1".into(),
            status: 200,
            upload: Rc::default(),
            bytes_out: 12,
            upstream: Some("10.0.0.1:8080".parse().unwrap()),
            route: Some(("Ingress a/b".into(), "spec.rules[0]".into())),
            retries: 0,
            broken: false,
        }
    }

    #[test]
    fn a_line_is_one_json_object_whatever_the_client_sent() {
        let line = record().line(UNIX_EPOCH + Duration::from_millis(1500), Duration::from_micros(42));
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["path"], "/a?b=\"c\"\u{7}");
        assert_eq!(value["time_ms"], 1500);
        assert_eq!(value["duration_us"], 42);
        assert_eq!(value["upstream"], "10.0.0.1:8080");
        assert_eq!(value["field"], "spec.rules[0]");
    }

    #[test]
    fn a_full_queue_drops_lines_and_blocks_nobody() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                // Until the test is over.
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (_over, stuck) = std::sync::mpsc::channel();
        let queue = LogQueue::start(Stuck(stuck));
        let line = vec![b'x'; WRITE_BYTES];
        let taken = (0..LINES_MAX + 10).filter(|_| queue.add(line[..1].to_vec())).count();
        assert!(taken >= LINES_MAX);
        assert!((0..WRITE_BYTES + LINES_MAX).any(|_| !queue.add(Vec::new())));
    }
}
