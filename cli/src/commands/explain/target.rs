//! `--to` of `explain`: HOST:PORT, or a URL.

use crate::output::Failure;
use lab::explain::Url;
use lab::probe::{ProbeProtocol, split_target};

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protocol: ProbeProtocol,
    pub(super) url: Option<Url>,
}

/// Reads `text`; a URL is asked over TCP, at its scheme's port if it names none.
pub(super) fn read(text: &str, protocol: Option<ProbeProtocol>) -> Result<Target, Failure> {
    let failure = crate::commands::lab::failure;
    let Some((scheme, rest)) = text.split_once("://") else {
        let protocol = protocol.unwrap_or(ProbeProtocol::Tcp);
        let (host, port) = split_target(text, protocol).map_err(failure)?;
        return Ok(Target { host, port, protocol, url: None });
    };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Err(Failure::BadInput(format!("--to {text}: use http://, https:// or HOST:PORT"))),
    };
    if !matches!(protocol, None | Some(ProbeProtocol::Tcp)) {
        return Err(Failure::BadInput(format!("--to {text}: a URL is asked over TCP: leave --protocol out")));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !port.contains(']') && (!host.contains(':') || host.ends_with(']')));
    let with_port = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    let (host, port) = split_target(&with_port, ProbeProtocol::Tcp).map_err(failure)?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (before_query, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    let path = before_query.find('/').map_or("/", |at| &before_query[at..]);
    let url = Url { tls: default_port == 443, path: path.to_owned(), query: query.map(str::to_owned) };
    Ok(Target { host, port, protocol: ProbeProtocol::Tcp, url: Some(url) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, protocol: Option<ProbeProtocol>) -> (String, u16) {
        let target = read(text, protocol).unwrap_or_else(|failure| panic!("{text}: {failure}"));
        (target.host, target.port)
    }

    #[test]
    fn a_url_stands_for_its_host_and_port() {
        assert_eq!(reads("http://web.shop/path?x=a:1", None), ("web.shop".into(), 80));
        assert_eq!(reads("https://web.shop", None), ("web.shop".into(), 443));
        assert_eq!(reads("HTTP://web.shop:8080/", None), ("web.shop".into(), 8080));
        assert_eq!(reads("http://[fd00::1]/x", None), ("fd00::1".into(), 80));
        assert_eq!(reads("http://[fd00::1]:81", None), ("fd00::1".into(), 81));
        assert_eq!(reads("http://me:secret@web/", None), ("web".into(), 80));
        assert!(read("ftp://web", None).is_err());
        assert!(read("http://web", Some(ProbeProtocol::Udp)).is_err());
        assert!(read("http:///x", None).is_err());
    }

    #[test]
    fn a_url_has_a_path_and_a_query_and_no_fragment() {
        let url = |text: &str| read(text, None).ok().and_then(|target| target.url).expect("a URL");
        let of = |tls, path: &str, query: Option<&str>| Url { tls, path: path.into(), query: query.map(str::to_owned) };
        assert_eq!(url("http://web"), of(false, "/", None));
        assert_eq!(url("http://web?x=/y"), of(false, "/", Some("x=/y")));
        assert_eq!(url("https://web:8443/a/b?x=1#top"), of(true, "/a/b", Some("x=1")));
        assert_eq!(read("web:80", None).ok().and_then(|target| target.url), None);
    }

    #[test]
    fn anything_else_has_a_port() {
        assert_eq!(reads("shop/web:80", None), ("shop/web".into(), 80));
        assert_eq!(reads("10.0.0.1", Some(ProbeProtocol::Icmp)), ("10.0.0.1".into(), 0));
        assert!(read("web", None).is_err());
    }
}
