//! What a request is to: its host, path and query, checked before anything is looked up by them (RFC 9110 4, 7; RFC 9112 3.2).
//!
//! Nothing is decoded. A path with a dot segment, plain or percent-encoded, is refused: clients resolve these themselves, and a
//! backend that resolves what routes were not looked up by would be reached through a rule that does not lead there.

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Uri, Version, header};
use std::borrow::Cow;

/// Longest host: a DNS name has 253 characters and may end with a dot; an IPv6 address with brackets is shorter.
const HOST_BYTES_MAX: usize = 254;

/// A checked target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Host without port, in lower case, without a final dot; empty in HTTP/1.0 without Host.
    pub(super) host: Cow<'a, str>,
    /// Host as it was sent, port included.
    authority: Option<&'a Authority>,
    field: Option<&'a HeaderValue>,
    /// Path and query as they were sent.
    pub(super) path: &'a PathAndQuery,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unacceptable {
    /// 400: Host is missing, there twice, or no host.
    Host,
    /// 400: the request line and Host name different hosts.
    HostMismatch,
    /// 400: the target is neither a path nor an http URL.
    Form,
    /// 400: the path has a dot segment.
    DotSegment,
    /// 405: CONNECT asks for a tunnel to anywhere.
    Connect,
    /// 414.
    TooLong,
}

impl<'a> Target<'a> {
    /// The target of `request`.
    pub(super) fn check<B>(request: &'a Request<B>, target_bytes_max: usize) -> Result<Target<'a>, Unacceptable> {
        let uri = request.uri();
        // Extended CONNECT (RFC 8441) has a path and is served as an upgrade; the plain one has none.
        if request.method() == Method::CONNECT {
            return Err(Unacceptable::Connect);
        }
        let Some(path) = uri.path_and_query() else { return Err(Unacceptable::Form) };
        if path.as_str().len() > target_bytes_max {
            return Err(Unacceptable::TooLong);
        }
        // HTTP/2 carries bytes that no request line may have (RFC 9113 8.3.1).
        if !path.as_str().bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
            return Err(Unacceptable::Form);
        }
        if !path.path().starts_with('/') || uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            return Err(Unacceptable::Form);
        }
        if path.path().split('/').any(is_dot_segment) {
            return Err(Unacceptable::DotSegment);
        }
        let mut fields = request.headers().get_all(header::HOST).iter();
        let field = fields.next();
        if fields.next().is_some() {
            return Err(Unacceptable::Host);
        }
        let text = field.map(|field| field.to_str().map_err(|_| Unacceptable::Host)).transpose()?;
        let host = host(named(uri, text, request.version())?)?;
        Ok(Target { host, authority: uri.authority(), field, path })
    }

    /// Host as it was sent, port included, as a field has it.
    pub(super) fn authority(&self) -> HeaderValue {
        let whole = self.authority.map(|authority| HeaderValue::from_str(authority.as_str()));
        match (whole, self.field) {
            (Some(Ok(authority)), _) => authority,
            (_, Some(field)) => field.clone(),
            (_, None) => HeaderValue::from_static(""),
        }
    }
}

/// The one host that the request line and Host name.
fn named<'a>(uri: &'a Uri, field: Option<&'a str>, version: Version) -> Result<&'a str, Unacceptable> {
    match (uri.authority(), field) {
        (Some(authority), Some(field)) if !authority.as_str().eq_ignore_ascii_case(field) => {
            Err(Unacceptable::HostMismatch)
        }
        (Some(authority), _) => Ok(authority.as_str()),
        (None, Some(field)) => Ok(field),
        (None, None) if version == Version::HTTP_10 => Ok(""),
        (None, None) => Err(Unacceptable::Host),
    }
}

/// The host of an authority, as routes know it.
fn host(authority: &str) -> Result<Cow<'_, str>, Unacceptable> {
    if authority.is_empty() {
        return Ok(Cow::Borrowed(""));
    }
    let (host, port) = match authority.rfind(']') {
        Some(end) if authority.starts_with('[') => authority.split_at(end + 1),
        _ => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.is_empty() || port.parse::<u16>().is_ok());
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if !is_port || !is_host || host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(Unacceptable::Host);
    }
    let is_lower = !host.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok(if is_lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) })
}

/// Whether a path's segment is `.` or `..`, with any of its dots percent-encoded.
fn is_dot_segment(segment: &str) -> bool {
    let Some(rest) = strip_dot(segment) else { return false };
    rest.is_empty() || strip_dot(rest) == Some("")
}

fn strip_dot(text: &str) -> Option<&str> {
    text.strip_prefix('.').or_else(|| text.strip_prefix("%2e")).or_else(|| text.strip_prefix("%2E"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, hosts: &[&str], version: Version) -> Result<(String, String), Unacceptable> {
        let mut request = Request::builder().uri(uri).version(version);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let request = request.body(()).unwrap();
        let target = Target::check(&request, 100)?;
        Ok((target.host.to_string(), target.path.to_string()))
    }

    fn refused(uri: &str, hosts: &[&str], why: Unacceptable) {
        assert_eq!(check(uri, hosts, Version::HTTP_11), Err(why), "{uri} with {hosts:?}");
    }

    fn taken(uri: &str, hosts: &[&str], host: &str, path: &str) {
        assert_eq!(check(uri, hosts, Version::HTTP_11), Ok((host.into(), path.into())), "{uri} with {hosts:?}");
    }

    #[test]
    fn a_host_is_compared_without_case_port_and_final_dot() {
        taken("/a?b=c", &["Shop.Example:8080"], "shop.example", "/a?b=c");
        taken("/", &["shop.example."], "shop.example", "/");
        taken("/", &["10.0.0.1:80"], "10.0.0.1", "/");
        taken("/", &["[fd00::1]:80"], "[fd00::1]", "/");
    }

    #[test]
    fn a_target_may_be_a_whole_url() {
        taken("http://Shop.example/a", &["shop.example"], "shop.example", "/a");
        taken("http://shop.example", &["shop.example"], "shop.example", "/");
        refused("http://shop.example/", &["other.example"], Unacceptable::HostMismatch);
        refused("http://shop.example:81/", &["shop.example"], Unacceptable::HostMismatch);
        refused("ftp://shop.example/", &["shop.example"], Unacceptable::Form);
        refused("*", &["shop.example"], Unacceptable::Form);
    }

    #[test]
    fn a_host_is_there_once_and_is_a_host() {
        refused("/", &[], Unacceptable::Host);
        refused("/", &["a", "a"], Unacceptable::Host);
        for host in [
            "a b",
            "a/b",
            "u@a",
            "a:b",
            "a:70000",
            ":80",
            "[fd00::1",
            "[a]",
            "a,b",
            "\u{e4}",
            "[fd00::1]x",
            "a\\b",
            ".",
        ] {
            refused("/", &[host], Unacceptable::Host);
        }
        assert_eq!(check("/", &[], Version::HTTP_10), Ok((String::new(), "/".into())));
    }

    #[test]
    fn dot_segments_are_refused_in_every_spelling() {
        for path in ["/a/../b", "/a/./b", "/..", "/.", "/a/%2e%2e/b", "/a/.%2E", "/a/%2e/b?c", "/a/..?b"] {
            refused(path, &["a"], Unacceptable::DotSegment);
        }
        for path in ["/...", "/a..b", "/.a", "/a.", "/%2e%2ea", "/a?b=/../c", "/a//b"] {
            taken(path, &["a"], "a", path);
        }
    }

    #[test]
    fn a_long_target_is_refused_by_its_own_name() {
        refused(&format!("/{}", "a".repeat(100)), &["a"], Unacceptable::TooLong);
    }
}
