//! Filters of HTTPRoutes.

use super::http_route::rule;
use super::*;

/// An HTTPRoute with these filters.
fn filters(filters: &str) -> String {
    rule(&format!("filters: [{filters}]"))
}

/// An HTTPRoute with a filter of this type, its own field with these fields.
fn filter(kind: &str, own: &str, fields: &str) -> String {
    filters(&format!("{{type: {kind}, {own}: {{{fields}}}}}"))
}

#[test]
fn a_filter_has_the_field_of_its_type_and_no_other() {
    refuses([
        (filters("{type: RequestMirror}"), "spec.rules[0].filters[0].requestMirror: required for type RequestMirror"),
        (filters("{type: CORS}"), "spec.rules[0].filters[0].cors: required for type CORS"),
        (
            filters("{type: URLRewrite, urlRewrite: {}, requestRedirect: {}}"),
            "spec.rules[0].filters[0].requestRedirect: not allowed for type URLRewrite",
        ),
        (filters("{cors: {}}"), "spec.rules[0].filters[0].type: required"),
        (
            filters("{type: Snippet}"),
            "spec.rules[0].filters[0].type: \"Snippet\" is not supported, use RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, RequestRedirect, URLRewrite, ExtensionRef, CORS",
        ),
        (
            rule("backendRefs: [{name: s, port: 1, filters: [{type: URLRewrite}]}]"),
            "spec.rules[0].backendRefs[0].filters[0].urlRewrite: required for type URLRewrite",
        ),
    ]);
}

#[test]
fn filters_that_contradict_each_other_are_refused() {
    let rewrite = "{type: URLRewrite, urlRewrite: {}}";
    let redirect = "{type: RequestRedirect, requestRedirect: {}}";
    let set = "{type: RequestHeaderModifier, requestHeaderModifier: {}}";
    let many = ["{type: RequestMirror, requestMirror: {backendRef: {name: s, port: 1}}}"; 17].join(", ");
    refuses([
        (filters(&many), "spec.rules[0].filters: 17 items, at most 16 are allowed"),
        (filters(&format!("{set}, {set}")), "spec.rules[0].filters[1].type: RequestHeaderModifier is allowed once"),
        (filters(&format!("{rewrite}, {rewrite}")), "spec.rules[0].filters[1].type: URLRewrite is allowed once"),
        (
            filters(&format!("{rewrite}, {redirect}")),
            "spec.rules[0].filters[1].type: RequestRedirect is not allowed with URLRewrite",
        ),
        (
            filters(&format!("{redirect}, {rewrite}")),
            "spec.rules[0].filters[1].type: URLRewrite is not allowed with RequestRedirect",
        ),
        (
            rule(&format!("filters: [{redirect}], backendRefs: [{{name: s, port: 1}}]")),
            "spec.rules[0].backendRefs: not allowed with a filter RequestRedirect",
        ),
    ]);
}

#[test]
fn headers_of_filters_are_those_of_http() {
    let request = |fields: &str| filter("RequestHeaderModifier", "requestHeaderModifier", fields);
    let field = "spec.rules[0].filters[0].requestHeaderModifier";
    let many = (0..17).map(|number| format!("h{number}")).collect::<Vec<_>>().join(", ");
    let cases = [
        (
            request("set: [{name: 'a:', value: b}]"),
            format!("{field}.set[0].name: \"a:\" is not a name: letters, digits and !#$%&'*+-.^_`|~"),
        ),
        (request("add: [{name: a, value: ''}]"), format!("{field}.add[0].value: required")),
        (
            request("add: [{name: a, value: \"b\\r\\nc: d\"}]"),
            format!("{field}.add[0].value: control characters are not allowed"),
        ),
        (request("set: [{name: a, value: b}, {name: a, value: c}]"), format!("{field}.set[1].name: duplicate \"a\"")),
        (request(&format!("remove: [{many}]")), format!("{field}.remove: 17 items, at most 16 are allowed")),
        (request("remove: [a, a]"), format!("{field}.remove[1]: duplicate \"a\"")),
        (request("remove: a"), format!("{field}.remove: invalid type: string \"a\", expected a sequence")),
        (
            filter("ResponseHeaderModifier", "responseHeaderModifier", "set: [{name: a}]"),
            "spec.rules[0].filters[0].responseHeaderModifier.set[0].value: required".into(),
        ),
    ];
    refuses(cases.iter().map(|(text, expected)| (text.clone(), expected.as_str())));
}

#[test]
fn a_mirror_has_a_backend_and_one_share() {
    let mirror = |fields: &str| filter("RequestMirror", "requestMirror", fields);
    let backend = "backendRef: {name: s, port: 1}";
    refuses([
        (mirror(""), "spec.rules[0].filters[0].requestMirror.backendRef: required"),
        (
            mirror("backendRef: {name: s}"),
            "spec.rules[0].filters[0].requestMirror.backendRef.port: required for a Service",
        ),
        (
            mirror(&format!("{backend}, percent: 101")),
            "spec.rules[0].filters[0].requestMirror.percent: 101 is not between 0 and 100",
        ),
        (
            mirror(&format!("{backend}, percent: 1, fraction: {{numerator: 1}}")),
            "spec.rules[0].filters[0].requestMirror: only one of percent, fraction is allowed",
        ),
        (
            mirror(&format!("{backend}, fraction: {{numerator: 101}}")),
            "spec.rules[0].filters[0].requestMirror.fraction.numerator: 101 is not between 0 and 100",
        ),
        (
            mirror(&format!("{backend}, fraction: {{numerator: 0, denominator: 0}}")),
            "spec.rules[0].filters[0].requestMirror.fraction.denominator: 0 is not 1 or more",
        ),
    ]);
}

#[test]
fn redirects_and_rewrites_lead_somewhere() {
    let redirect = |fields: &str| filter("RequestRedirect", "requestRedirect", fields);
    let rewrite = |fields: &str| filter("URLRewrite", "urlRewrite", fields);
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}";
    let with = |matches: &str, at: &str| {
        let filter = format!("filters: [{{type: URLRewrite, urlRewrite: {{{prefix}}}}}]");
        match at {
            "rule" => rule(&format!("matches: [{matches}], {filter}")),
            _ => rule(&format!("matches: [{matches}], backendRefs: [{{name: s, port: 1, {filter}}}]")),
        }
    };
    let needs = "ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix";
    let in_rule = format!("spec.rules[0].filters[0].urlRewrite.path.type: {needs}");
    let in_backend = format!("spec.rules[0].backendRefs[0].filters[0].urlRewrite.path.type: {needs}");
    refuses([
        (
            redirect("scheme: ftp"),
            "spec.rules[0].filters[0].requestRedirect.scheme: \"ftp\" is not supported, use http, https",
        ),
        (
            redirect("statusCode: 304"),
            "spec.rules[0].filters[0].requestRedirect.statusCode: 304 is not supported, use 301, 302, 303, 307, 308",
        ),
        (redirect("port: 0"), "spec.rules[0].filters[0].requestRedirect.port: 0 is not between 1 and 65535"),
        (
            redirect("hostname: '*.a'"),
            "spec.rules[0].filters[0].requestRedirect.hostname: \"*.a\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit",
        ),
        (
            redirect("path: {type: ReplaceFullPath}"),
            "spec.rules[0].filters[0].requestRedirect.path.replaceFullPath: required for type ReplaceFullPath",
        ),
        (
            rewrite("path: {type: ReplaceFullPath, replaceFullPath: /, replacePrefixMatch: /}"),
            "spec.rules[0].filters[0].urlRewrite.path.replacePrefixMatch: not allowed for type ReplaceFullPath",
        ),
        (
            rewrite("path: {type: ReplaceFullPath, replaceFullPath: '/a b'}"),
            "spec.rules[0].filters[0].urlRewrite.path.replaceFullPath: \"/a b\" has characters that a path does not have: write them as %XX",
        ),
        (
            rewrite("path: {type: ReplaceHost}"),
            "spec.rules[0].filters[0].urlRewrite.path.type: \"ReplaceHost\" is not supported, use ReplaceFullPath, ReplacePrefixMatch",
        ),
        (with("{path: {type: Exact, value: /a}}", "rule"), &in_rule),
        (with("{}, {}", "rule"), &in_rule),
        (with("", "rule"), &in_rule),
        (with("{}, {}", "backend"), &in_backend),
    ]);
    for text in [rewrite(prefix), with("{}", "rule"), with("{path: {value: /a}}", "backend")] {
        assert_eq!(findings(&text), [""; 0], "{text}");
    }
}

#[test]
fn cors_names_origins_methods_and_headers() {
    let cors = |fields: &str| filter("CORS", "cors", fields);
    let field = "spec.rules[0].filters[0].cors";
    let origin =
        |text: &str| format!("\"{text}\" is not an origin such as https://example.com or https://*.example.com:8443");
    let cases = [
        (cors("allowOrigins: [example.com]"), format!("{field}.allowOrigins[0]: {}", origin("example.com"))),
        (cors("allowOrigins: ['https://a/']"), format!("{field}.allowOrigins[0]: {}", origin("https://a/"))),
        (cors("allowOrigins: ['https://a.*']"), format!("{field}.allowOrigins[0]: {}", origin("https://a.*"))),
        (cors("allowOrigins: ['https://a:x']"), format!("{field}.allowOrigins[0]: {}", origin("https://a:x"))),
        (cors("allowOrigins: ['http://a', 'http://a']"), format!("{field}.allowOrigins[1]: duplicate \"http://a\"")),
        (cors("allowOrigins: ['*', 'http://a']"), format!("{field}.allowOrigins: \"*\" stands alone")),
        (
            cors("allowMethods: [get]"),
            format!(
                "{field}.allowMethods[0]: \"get\" is not supported, use GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH"
            ),
        ),
        (cors("allowHeaders: [a, '*']"), format!("{field}.allowHeaders: \"*\" stands alone")),
        (cors("exposeHeaders: ['']"), format!("{field}.exposeHeaders[0]: required")),
        (cors("maxAge: 0"), format!("{field}.maxAge: 0 is not 1 or more")),
    ];
    refuses(cases.iter().map(|(text, expected)| (text.clone(), expected.as_str())));
    for origins in ["['*']", "['https://*']", "['http://localhost:3000', 'https://*.a.b']"] {
        assert_eq!(findings(&cors(&format!("allowOrigins: {origins}"))), [""; 0], "{origins}");
    }
}
