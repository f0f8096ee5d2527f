//! Redirects and rewrites of URLs (Gateway API HTTPRequestRedirectFilter and HTTPURLRewriteFilter). Pure.

use http::uri::PathAndQuery;
use policy::routes::{PathRewrite, Redirect};

/// The path and query that a request has after `rewrite`. `matched_prefix_bytes` is how much of its path the rule's prefix took.
/// `None` if that is no path.
pub(super) fn path(path: &PathAndQuery, rewrite: &PathRewrite, matched_prefix_bytes: usize) -> Option<PathAndQuery> {
    let changed = match rewrite {
        PathRewrite::Full(full) => full.clone(),
        PathRewrite::Prefix(prefix) => replace_prefix(path.path(), prefix, matched_prefix_bytes),
    };
    let changed = if changed.starts_with('/') { changed } else { format!("/{changed}") };
    match path.query() {
        Some(query) => PathAndQuery::try_from(format!("{changed}?{query}")).ok(),
        None => PathAndQuery::try_from(changed).ok(),
    }
}

/// The specification's table: the new prefix and what followed the matched one, with one slash between them.
fn replace_prefix(path: &str, prefix: &str, matched_prefix_bytes: usize) -> String {
    let rest = path.get(matched_prefix_bytes..).unwrap_or_default();
    if rest.is_empty() {
        return if prefix.is_empty() { "/".to_owned() } else { prefix.to_owned() };
    }
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    format!("{}/{rest}", prefix.strip_suffix('/').unwrap_or(prefix))
}

/// What a redirect needs to know of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redirected<'a> {
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// Host without port.
    pub(super) host: &'a str,
    /// Port that the request came in on.
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: &'a PathAndQuery,
    /// How much of the path the rule's prefix took.
    pub(super) matched_prefix_bytes: usize,
}

/// The Location of a redirect.
pub(super) fn location(redirect: &Redirect, request: &Redirected<'_>) -> Option<String> {
    let scheme = redirect.scheme.unwrap_or(request.scheme);
    let host = redirect.host.as_deref().unwrap_or(request.host);
    // Without a port of its own, a given scheme brings its well-known one; else the listener's port stays.
    let port = redirect.port.unwrap_or(match redirect.scheme {
        Some("https") => 443,
        Some(_) => 80,
        None => request.port,
    });
    let rewritten = match &redirect.path {
        Some(rewrite) => Some(path(request.path, rewrite, request.matched_prefix_bytes)?),
        None => None,
    };
    let path = rewritten.as_ref().unwrap_or(request.path);
    if matches!((scheme, port), ("http", 80) | ("https", 443)) {
        return Some(format!("{scheme}://{host}{path}"));
    }
    Some(format!("{scheme}://{host}:{port}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_prefix(sent: &str, matched: &str, prefix: &str, expected: &str) {
        let sent = PathAndQuery::try_from(sent).unwrap();
        let rewrite = PathRewrite::Prefix(prefix.to_owned());
        let rewritten = path(&sent, &rewrite, matched.trim_end_matches('/').len()).unwrap();
        assert_eq!(rewritten.as_str(), expected, "{sent} with {matched} -> {prefix}");
    }

    #[test]
    fn a_prefix_is_replaced_as_the_table_of_the_specification_says() {
        check_prefix("/foo/bar", "/foo", "/xyz", "/xyz/bar");
        check_prefix("/foo/bar", "/foo", "/xyz/", "/xyz/bar");
        check_prefix("/foo/bar", "/foo/", "/xyz", "/xyz/bar");
        check_prefix("/foo/bar", "/foo/", "/xyz/", "/xyz/bar");
        check_prefix("/foo", "/foo", "/xyz", "/xyz");
        check_prefix("/foo/", "/foo", "/xyz", "/xyz/");
        check_prefix("/foo/bar", "/foo", "", "/bar");
        check_prefix("/foo/", "/foo", "", "/");
        check_prefix("/foo", "/foo", "", "/");
        check_prefix("/foo/", "/foo", "/", "/");
        check_prefix("/foo", "/foo", "/", "/");
        check_prefix("/foo/bar?q=1", "/", "/xyz", "/xyz/foo/bar?q=1");
        check_prefix("/foo?q=1", "/foo", "/xyz", "/xyz?q=1");
    }

    #[test]
    fn a_whole_path_is_replaced_and_the_query_stays() {
        let sent = PathAndQuery::from_static("/a/b?q=1");
        assert_eq!(path(&sent, &PathRewrite::Full("/c".into()), 2).unwrap(), "/c?q=1");
    }

    fn check_location(redirect: Redirect, scheme: &'static str, port: u16, expected: &str) {
        let sent = PathAndQuery::from_static("/a/b?q=1");
        let request = Redirected { scheme, host: "shop.example", port, path: &sent, matched_prefix_bytes: 2 };
        assert_eq!(location(&redirect, &request).as_deref(), Some(expected));
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_change_and_leaves_well_known_ports_out() {
        let nothing = || Redirect { scheme: None, host: None, path: None, port: None, status: 302 };
        check_location(nothing(), "http", 80, "http://shop.example/a/b?q=1");
        check_location(nothing(), "http", 8080, "http://shop.example:8080/a/b?q=1");
        check_location(nothing(), "https", 443, "https://shop.example/a/b?q=1");
        check_location(Redirect { scheme: Some("https"), ..nothing() }, "http", 8080, "https://shop.example/a/b?q=1");
        check_location(Redirect { scheme: Some("http"), ..nothing() }, "https", 8443, "http://shop.example/a/b?q=1");
        check_location(Redirect { port: Some(8443), ..nothing() }, "https", 443, "https://shop.example:8443/a/b?q=1");
        check_location(Redirect { port: Some(443), ..nothing() }, "http", 80, "http://shop.example:443/a/b?q=1");
        check_location(
            Redirect { host: Some("b.example".into()), ..nothing() },
            "http",
            80,
            "http://b.example/a/b?q=1",
        );
        let path = Some(PathRewrite::Prefix("/c".into()));
        check_location(Redirect { path, ..nothing() }, "http", 80, "http://shop.example/c/b?q=1");
    }
}
