//! Header fields on their way through: which end here (RFC 9110 7.6.1), what is said of the client, what rules change.

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use policy::routes::HeaderChanges;
use std::net::IpAddr;
use std::rc::Rc;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that Connection cannot take away: the message means something else without them.
const KEPT: [HeaderName; 2] = [HOST, CONTENT_LENGTH];

/// Whether `name` ends at the next hop by itself.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | TRANSFER_ENCODING | UPGRADE | TE | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION => true,
        _ => *name == KEEP_ALIVE || *name == PROXY_CONNECTION,
    }
}

/// Whether a trailer field is passed on: none that frames, routes or describes the message (RFC 9110 6.5.1).
pub(super) fn may_trail(name: &HeaderName) -> bool {
    !is_hop_by_hop(name) && !matches!(*name, CONTENT_LENGTH | HOST | TRAILER | CONTENT_ENCODING | CONTENT_TYPE)
}

/// Fields that the proxy sets itself. What a client calls almost so, with an underscore for a hyphen, is the same name to a
/// backend that turns fields into variables (RFC 3875 4.1.18), so it does not get there.
const OWN: [&str; 8] = [
    "content-length",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

fn is_almost_own(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_same = |own: &&str| own.bytes().eq(name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }));
    name.contains('_') && OWN.iter().any(is_same)
}

/// Takes out of a request what ends here: hop-by-hop fields, those that Connection names, those that are almost the proxy's own,
/// and Expect, which this proxy answers itself. `TE: trailers` stays for backends that want it said (gRPC).
pub(super) fn strip_request(headers: &mut HeaderMap) {
    let wants_trailers = headers.get_all(TE).iter().any(|value| has_token(value, "trailers"));
    strip_nominated(headers);
    let ending: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name) || **name == EXPECT || **name == HTTP2_SETTINGS || is_almost_own(name))
        .cloned()
        .collect();
    for name in ending {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes out of an answer what ends here.
pub(super) fn strip_answer(headers: &mut HeaderMap) {
    strip_nominated(headers);
    let ending: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in ending {
        headers.remove(name);
    }
}

fn strip_nominated(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    for name in nominated {
        headers.remove(name);
    }
}

/// Whether a comma-separated list has `token`, in any case; parameters after `;` do not count.
pub(super) fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|&byte| byte == b',').any(|part| {
        part.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().eq_ignore_ascii_case(token.as_bytes())
    })
}

/// The protocol that an HTTP/1.1 request asks to change to; `h2c` does not count (RFC 9113 dropped it).
pub(super) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let asks = headers.get_all(CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    let is_h2c = protocol.as_bytes().to_ascii_lowercase().starts_with(b"h2c");
    (asks && !is_h2c).then(|| protocol.clone())
}

/// Whether `name` is one of the fields that describe a client and that nobody else may set.
pub(super) fn is_description(name: &HeaderName) -> bool {
    [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_REAL_IP, X_REQUEST_ID]
        .contains(name)
}

/// A client as backends are told of it; made once for a connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    address: HeaderValue,
    is_trusted: bool,
    scheme: HeaderValue,
    port: HeaderValue,
    /// The lines that are the same for all its requests.
    lines: Rc<[u8]>,
}

impl Client {
    /// Of the client at `address`, which speaks `scheme` to `port`. What a trusted one says of its own clients is believed.
    pub(super) fn new(address: IpAddr, is_trusted: bool, scheme: &'static str, port: u16) -> Client {
        let value = |text: String| HeaderValue::try_from(text).expect("addresses and numbers are visible ASCII");
        let address = address.to_canonical();
        let lines = format!(
            "{X_FORWARDED_FOR}: {address}\r\n{X_REAL_IP}: {address}\r\n\
             {X_FORWARDED_PROTO}: {scheme}\r\n{X_FORWARDED_PORT}: {port}\r\n"
        );
        Client {
            address: value(address.to_string()),
            is_trusted,
            scheme: HeaderValue::from_static(scheme),
            port: value(port.to_string()),
            lines: lines.into_bytes().into(),
        }
    }

    /// What is said of it with a request that has `headers` and asked for `authority`.
    pub(super) fn description(
        &self,
        headers: &HeaderMap,
        authority: HeaderValue,
        request_id: impl FnOnce() -> HeaderValue,
    ) -> Description {
        let request_id = headers.get(X_REQUEST_ID).cloned().unwrap_or_else(request_id);
        Description { client: self.clone(), authority, request_id }
    }
}

/// The X-Forwarded fields, X-Real-IP and X-Request-Id of one request.
#[derive(Clone, Debug)]
pub(super) struct Description {
    client: Client,
    authority: HeaderValue,
    request_id: HeaderValue,
}

impl Description {
    /// Whether it holds whatever the request itself says.
    pub(super) fn is_complete(&self) -> bool {
        !self.client.is_trusted
    }

    /// Bytes of its lines.
    pub(super) fn bytes(&self) -> usize {
        // The two names, a colon, a space and a line end each.
        self.client.lines.len() + self.authority.len() + self.request_id.len() + 16 + 12 + 8
    }

    /// Writes its lines.
    pub(super) fn write(&self, head: &mut Vec<u8>) {
        let parts = [
            b"x-forwarded-host: ",
            self.authority.as_bytes(),
            b"\r\nx-request-id: ",
            self.request_id.as_bytes(),
            b"\r\n",
        ];
        head.extend_from_slice(&self.client.lines);
        for part in parts {
            head.extend_from_slice(part);
        }
    }

    /// Sets its fields among others.
    pub(super) fn insert(self, headers: &mut HeaderMap) {
        let Description { client, authority, request_id } = self;
        headers.insert(X_REQUEST_ID, request_id);
        if client.is_trusted {
            // Only its own word is believed: the last address of the chain, which it saw itself.
            let seen = headers.get_all(X_FORWARDED_FOR).iter().next_back().and_then(last_of_list);
            headers.insert(X_FORWARDED_FOR, joined(headers, &X_FORWARDED_FOR, &client.address));
            headers.entry(X_REAL_IP).or_insert_with(|| seen.unwrap_or(client.address));
            headers.entry(X_FORWARDED_PROTO).or_insert(client.scheme);
            headers.entry(X_FORWARDED_HOST).or_insert(authority);
            headers.entry(X_FORWARDED_PORT).or_insert(client.port);
        } else {
            headers.remove(FORWARDED);
            headers.insert(X_FORWARDED_FOR, client.address.clone());
            headers.insert(X_REAL_IP, client.address);
            headers.insert(X_FORWARDED_PROTO, client.scheme);
            headers.insert(X_FORWARDED_HOST, authority);
            headers.insert(X_FORWARDED_PORT, client.port);
        }
    }
}

fn last_of_list(value: &HeaderValue) -> Option<HeaderValue> {
    let last = value.as_bytes().rsplit(|&byte| byte == b',').next()?.trim_ascii();
    HeaderValue::from_bytes(last).ok().filter(|last| !last.is_empty())
}

/// All values of `name` and then `last`, in one.
fn joined(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let mut chain = Vec::new();
    for value in headers.get_all(name) {
        chain.extend_from_slice(value.as_bytes());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(last.as_bytes());
    HeaderValue::from_bytes(&chain).unwrap_or_else(|_| last.clone())
}

/// Changes fields as a rule says. What frames the message is not a rule's to change.
pub(super) fn change(headers: &mut HeaderMap, changes: &HeaderChanges) {
    let is_free = |name: &HeaderName| !is_hop_by_hop(name) && *name != CONTENT_LENGTH;
    for (name, value) in changes.set.iter().filter(|(name, _)| is_free(name)) {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in changes.add.iter().filter(|(name, _)| is_free(name)) {
        headers.append(name.clone(), value.clone());
    }
    for name in changes.remove.iter().filter(|name| is_free(name)) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        lines.sort();
        lines
    }

    fn check(sent: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut sent = headers(sent);
        strip_request(&mut sent);
        assert_eq!(lines(&sent), lines(&headers(expected)));
    }

    #[test]
    fn what_concerns_one_hop_ends_here() {
        check(
            &[
                ("host", "a"),
                ("connection", "close, X-Hop"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "gzip"),
                ("upgrade", "h2c"),
                ("http2-settings", "AA"),
                ("expect", "100-continue"),
                ("accept", "b"),
            ],
            &[("host", "a"), ("accept", "b")],
        );
    }

    #[test]
    fn what_is_almost_a_field_of_the_proxys_own_ends_here() {
        check(
            &[("x_forwarded_for", "1"), ("content_length", "5"), ("x-forwarded_proto", "https"), ("my_field", "a")],
            &[("my_field", "a")],
        );
    }

    #[test]
    fn te_trailers_goes_on_and_connection_cannot_take_the_host_away() {
        check(
            &[
                ("host", "a"),
                ("connection", "host, content-length, te"),
                ("te", "gzip, trailers"),
                ("content-length", "1"),
            ],
            &[("host", "a"), ("te", "trailers"), ("content-length", "1")],
        );
    }

    fn describe(is_trusted: bool, sent: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut sent = headers(sent);
        let client = Client::new("192.0.2.1".parse().unwrap(), is_trusted, "https", 443);
        let authority = HeaderValue::from_static("a:443");
        let description = client.description(&sent, authority, || HeaderValue::from_static("id"));
        let mut written = Vec::new();
        description.write(&mut written);
        assert!(written.len() <= description.bytes());
        if description.is_complete() {
            let mut direct: HeaderMap = sent
                .iter()
                .filter(|(name, _)| !is_description(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            for line in std::str::from_utf8(&written).unwrap().lines() {
                let (name, value) = line.split_once(": ").unwrap();
                direct.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
            }
            assert_eq!(lines(&direct), lines(&headers(expected)), "written directly");
        }
        description.insert(&mut sent);
        assert_eq!(lines(&sent), lines(&headers(expected)));
    }

    #[test]
    fn what_an_untrusted_client_says_of_others_is_dropped() {
        describe(
            false,
            &[
                ("x-forwarded-for", "198.51.100.1"),
                ("x-forwarded-proto", "gopher"),
                ("x-real-ip", "198.51.100.1"),
                ("forwarded", "for=x"),
            ],
            &[
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "a:443"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "https"),
                ("x-real-ip", "192.0.2.1"),
                ("x-request-id", "id"),
            ],
        );
    }

    #[test]
    fn what_a_trusted_client_says_is_kept_and_extended() {
        describe(
            true,
            &[
                ("x-forwarded-for", "198.51.100.1"),
                ("x-forwarded-for", "203.0.113.1"),
                ("x-forwarded-proto", "http"),
                ("x-request-id", "theirs"),
            ],
            &[
                ("x-forwarded-for", "198.51.100.1, 203.0.113.1, 192.0.2.1"),
                ("x-forwarded-host", "a:443"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "203.0.113.1"),
                ("x-request-id", "theirs"),
            ],
        );
    }

    #[test]
    fn rules_set_add_and_remove_but_leave_the_framing() {
        let mut sent = headers(&[("a", "1"), ("b", "2"), ("content-length", "3")]);
        change(
            &mut sent,
            &HeaderChanges {
                set: vec![(HeaderName::from_static("a"), HeaderValue::from_static("9"))],
                add: vec![
                    (HeaderName::from_static("a"), HeaderValue::from_static("8")),
                    (TRANSFER_ENCODING, HeaderValue::from_static("x")),
                ],
                remove: vec![HeaderName::from_static("b"), CONTENT_LENGTH],
            },
        );
        assert_eq!(lines(&sent), lines(&headers(&[("a", "8"), ("a", "9"), ("content-length", "3")])));
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_fields() {
        let ask = |connection, upgrade| super::upgrade(&headers(&[("connection", connection), ("upgrade", upgrade)]));
        assert_eq!(ask("keep-alive, Upgrade", "websocket"), Some(HeaderValue::from_static("websocket")));
        assert_eq!(ask("keep-alive", "websocket"), None);
        assert_eq!(ask("Upgrade, HTTP2-Settings", "h2c"), None);
    }
}
