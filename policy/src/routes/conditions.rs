//! What a rule asks of a request beside its host and path.
//!
//! Fields that come several times are compared as one value joined by commas (RFC 9110, section 5.3); of query parameters that
//! come several times the first counts. Names and values of query parameters are compared decoded. Regular expressions have to
//! match the whole value, as in the proxies that most people know them from.

use super::table::Request;
use http::{HeaderName, Method};
use regex::Regex;
use std::fmt;

/// Bytes that a compiled regular expression may take: enough for any list of alternatives that fits the API's 4,096 characters.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What has to hold; all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    /// The host is one label longer than this name: the wildcard of an Ingress.
    pub(super) one_label_under: Option<Box<str>>,
    /// The method.
    pub(super) method: Option<Method>,
    /// Header fields.
    pub(super) headers: Box<[(HeaderName, ValueMatch)]>,
    /// Query parameters.
    pub(super) query: Box<[(Box<str>, ValueMatch)]>,
}

/// What a value has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ValueMatch {
    /// This.
    Exact(Box<str>),
    /// A text that this expression matches as a whole.
    Pattern(Pattern),
}

/// A regular expression for whole values.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    written: Box<str>,
}

impl Pattern {
    /// Compiles `text`; the error is for people.
    pub(super) fn new(text: &str) -> Result<Pattern, String> {
        // The text alone has to be an expression: what is put around it must not repair it.
        let compile = |text: &str| regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
        let compiled = compile(text).and_then(|_| compile(&format!("^(?:{text})$")));
        let regex = compiled.map_err(|error| {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            format!("\"{text}\" is not a regular expression: {}", reason.strip_prefix("error: ").unwrap_or(reason))
        })?;
        Ok(Pattern { regex, written: text.into() })
    }

    /// Whether it matches all of `text`.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.written
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.written == other.written
    }
}

impl Eq for Pattern {}

impl Conditions {
    /// Whether `request` meets them.
    pub(super) fn hold(&self, request: &Request<'_>) -> bool {
        self.failed(request).is_none()
    }

    /// The first condition that `request` does not meet.
    pub(super) fn failed(&self, request: &Request<'_>) -> Option<Failed<'_>> {
        if let Some(parent) = &self.one_label_under
            && !super::hosts::has_one_label_more(request.host, parent)
        {
            return Some(Failed::Host(parent));
        }
        if let Some(method) = self.method.as_ref().filter(|method| *method != request.method) {
            return Some(Failed::Method(method));
        }
        let header = self.headers.iter().find(|(name, value)| !value.matches_header(request, name));
        if let Some((name, value)) = header {
            return Some(Failed::Header(name, value));
        }
        let parameter = self.query.iter().find(|(name, value)| !value.matches_parameter(request, name));
        parameter.map(|(name, value)| Failed::Query(name, value))
    }

    /// Whether whatever meets `other` meets these too.
    pub(super) fn take_all_of(&self, other: &Conditions) -> bool {
        let is_wider = self.one_label_under.is_none() || self.one_label_under == other.one_label_under;
        is_wider && (&self.method, &self.headers, &self.query) == (&other.method, &other.headers, &other.query)
    }

    /// How it compares with others of the same host and path, the first to be asked first: a method, more header fields, more
    /// query parameters (HTTPRouteRule.matches).
    pub(super) fn rank(&self) -> impl Ord + use<> {
        use std::cmp::Reverse;
        (Reverse(self.method.is_some()), Reverse(self.headers.len()), Reverse(self.query.len()))
    }
}

/// A condition that a request does not meet.
#[derive(Debug)]
pub(super) enum Failed<'a> {
    /// One label before this name.
    Host(&'a str),
    Method(&'a Method),
    Header(&'a HeaderName, &'a ValueMatch),
    Query(&'a str, &'a ValueMatch),
}

impl fmt::Display for Failed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Host(parent) => write!(f, "* of *.{parent} is exactly one label"),
            Failed::Method(method) => write!(f, "it asks for method {method}"),
            Failed::Header(name, value) => write!(f, "it asks for header {name} {value}"),
            Failed::Query(name, value) => write!(f, "it asks for query parameter {name} {value}"),
        }
    }
}

impl ValueMatch {
    fn matches(&self, value: &str) -> bool {
        match self {
            ValueMatch::Exact(wanted) => **wanted == *value,
            ValueMatch::Pattern(pattern) => pattern.matches(value),
        }
    }

    fn matches_header(&self, request: &Request<'_>, name: &HeaderName) -> bool {
        let mut values = request.headers.get_all(name).iter().map(|value| str::from_utf8(value.as_bytes()));
        let Some(Ok(first)) = values.next() else { return false };
        let Some(second) = values.next() else { return self.matches(first) };
        let mut joined = first.to_owned();
        for value in [second].into_iter().chain(values) {
            let Ok(value) = value else { return false };
            joined.push_str(", ");
            joined.push_str(value);
        }
        self.matches(&joined)
    }

    fn matches_parameter(&self, request: &Request<'_>, name: &str) -> bool {
        let parameters = request.query.unwrap_or_default().split('&');
        let mut pairs = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
        let found = pairs.find(|(key, _)| decoded(key.as_bytes()).eq(name.bytes()));
        let Some((_, value)) = found else { return false };
        match self {
            ValueMatch::Exact(wanted) => decoded(value.as_bytes()).eq(wanted.bytes()),
            ValueMatch::Pattern(pattern) if value.contains(['%', '+']) => {
                let bytes: Vec<u8> = decoded(value.as_bytes()).collect();
                pattern.matches(&String::from_utf8_lossy(&bytes))
            }
            ValueMatch::Pattern(pattern) => pattern.matches(value),
        }
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueMatch::Exact(value) => write!(f, "\"{value}\""),
            ValueMatch::Pattern(pattern) => write!(f, "matching \"{}\"", pattern.as_str()),
        }
    }
}

/// The bytes that a name or value of a query stands for: `+` is a space and `%41` an `A`; a `%` without two digits is itself.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        at += 1;
        match (byte, digit(text.get(at)), digit(text.get(at + 1))) {
            (b'+', ..) => Some(b' '),
            (b'%', Some(high), Some(low)) => {
                at += 2;
                Some((high << 4 | low) as u8)
            }
            _ => Some(byte),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    fn request<'a>(query: Option<&'a str>, headers: &'a HeaderMap) -> Request<'a> {
        Request { port: 80, sni: None, host: "example.com", method: &Method::GET, path: "/", query, headers }
    }

    fn asks_query(name: &str, value: ValueMatch) -> Conditions {
        Conditions { query: Box::new([(name.into(), value)]), ..Conditions::default() }
    }

    #[test]
    fn query_parameters_are_compared_decoded_and_the_first_of_a_name_counts() {
        let headers = HeaderMap::new();
        let exact = |name: &str, value: &str, query: &str| {
            asks_query(name, ValueMatch::Exact(value.into())).hold(&request(Some(query), &headers))
        };
        assert!(exact("a b", "c&d", "x=1&a+b=c%26d"));
        assert!(exact("a", "", "a") && exact("a", "", "a="));
        assert!(exact("a", "1", "a=1&a=2") && !exact("a", "2", "a=1&a=2"));
        assert!(exact("a", "100%", "a=100%") && exact("a", "%4", "a=%4") && exact("a", "%zz", "a=%zz"));
        assert!(!exact("a", "1", "A=1") && !exact("a", "1", "") && !exact("a", "1", "ab=1"));
        let pattern = ValueMatch::Pattern(Pattern::new("a b|c").expect("an expression"));
        assert!(asks_query("q", pattern.clone()).hold(&request(Some("q=a%20b"), &headers)));
        assert!(!asks_query("q", pattern).hold(&request(Some("q=cc"), &headers)));
    }

    #[test]
    fn header_fields_that_come_several_times_are_one_value() {
        let mut headers = HeaderMap::new();
        headers.append("color", HeaderValue::from_static("blue"));
        let asks = |value: &str| {
            let headers = [(HeaderName::from_static("color"), ValueMatch::Exact(value.into()))];
            Conditions { headers: Box::new(headers), ..Conditions::default() }
        };
        assert!(asks("blue").hold(&request(None, &headers)));
        headers.append("color", HeaderValue::from_static("red"));
        assert!(asks("blue, red").hold(&request(None, &headers)));
        assert!(!asks("blue").hold(&request(None, &headers)));
    }

    #[test]
    fn a_value_that_is_not_text_matches_nothing() {
        let mut headers = HeaderMap::new();
        headers.append("color", HeaderValue::from_bytes(&[0xff]).expect("any bytes"));
        let pattern = ValueMatch::Pattern(Pattern::new(".*").expect("an expression"));
        let conditions =
            Conditions { headers: Box::new([(HeaderName::from_static("color"), pattern)]), ..Conditions::default() };
        assert!(!conditions.hold(&request(None, &headers)));
    }

    #[test]
    fn an_expression_matches_the_whole_value_and_what_is_none_is_told() {
        let pattern = Pattern::new("a|b").expect("an expression");
        assert!(pattern.matches("a") && pattern.matches("b") && !pattern.matches("ab") && !pattern.matches("xa"));
        let error = Pattern::new("a(").expect_err("it is not closed");
        assert_eq!(error, "\"a(\" is not a regular expression: unclosed group");
        assert!(Pattern::new("a)(?:b").is_err(), "the expression around it must not close it");
    }

    #[test]
    fn a_list_that_fits_the_api_is_compiled_and_an_expression_that_explodes_is_refused() {
        let words: Vec<String> = (0..800).map(|number| format!("w{number:03}")).collect();
        let list = words.join("|");
        assert!((3_900..4_096).contains(&list.len()));
        assert!(Pattern::new(&list).expect("it fits").matches("w799"));
        let error = Pattern::new("(a{1000}){1000}").expect_err("a million letters");
        assert!(error.contains("size limit"), "{error}");
    }
}
