//! Host names and patterns of them, and maps in which the most specific pattern of a host is found.
//!
//! A pattern is a name, `*.` and a name, or anything. Of the patterns that match a host the name itself comes first, then the
//! longest wildcard, then anything: as Gateway API orders hostnames, and as Ingress orders the one wildcard that it lets match.
//! `*.` stands for one label in an Ingress and for one or more in the Gateway API; here it is one or more, and what wants a
//! single label asks [`has_one_label_more`].

use std::collections::HashMap;
use std::fmt;

/// A host name or a pattern of host names, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostPattern {
    /// This name.
    Name(Box<str>),
    /// Every name that ends in a dot and this.
    Under(Box<str>),
    /// Every name.
    Any,
}

impl HostPattern {
    /// The pattern that is written `text`; empty text matches everything.
    pub(super) fn new(text: &str) -> HostPattern {
        let text = text.to_ascii_lowercase();
        match (text.as_str(), text.strip_prefix("*.")) {
            ("" | "*", _) => HostPattern::Any,
            (_, Some(parent)) => HostPattern::Under(parent.into()),
            (name, None) => HostPattern::Name(name.into()),
        }
    }

    /// Whether every host that `other` matches is matched too.
    pub(super) fn covers(&self, other: &HostPattern) -> bool {
        match (self, other) {
            (HostPattern::Any, _) => true,
            (_, HostPattern::Any) => false,
            (HostPattern::Name(own), HostPattern::Name(name)) => own == name,
            (HostPattern::Name(_), HostPattern::Under(_)) => false,
            (HostPattern::Under(parent), HostPattern::Name(name)) => is_under(name, parent),
            (HostPattern::Under(parent), HostPattern::Under(other)) => parent == other || is_under(other, parent),
        }
    }

    /// The hosts that both match, if there are any: patterns never overlap but by one covering the other.
    pub(super) fn intersection(&self, other: &HostPattern) -> Option<HostPattern> {
        if self.covers(other) { Some(other.clone()) } else { other.covers(self).then(|| self.clone()) }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Name(name) => f.write_str(name),
            HostPattern::Under(parent) => write!(f, "*.{parent}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

fn is_under(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.')).is_some_and(|label| !label.is_empty())
}

/// Whether `host` is one label and then `parent`.
pub(super) fn has_one_label_more(host: &str, parent: &str) -> bool {
    let label = host.strip_suffix(parent).and_then(|rest| rest.strip_suffix('.'));
    label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

/// Values by host pattern.
#[derive(Debug)]
pub(super) struct HostMap<T> {
    names: HashMap<Box<str>, T>,
    parents: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> HostMap<T> {
        HostMap { names: HashMap::new(), parents: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// The values of all patterns that match `host` (in lower case), the most specific first.
    pub(super) fn matching<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a T> {
        // Host names have labels; a host that begins with a dot is under no name.
        let ends = if self.parents.is_empty() || host.starts_with('.') { "" } else { host };
        let parents = ends.match_indices('.').filter_map(|(dot, _)| self.parents.get(&host[dot + 1..]));
        self.names.get(host).into_iter().chain(parents).chain(&self.any)
    }

    fn get(&self, pattern: &HostPattern) -> Option<&T> {
        match pattern {
            HostPattern::Name(name) => self.names.get(name),
            HostPattern::Under(parent) => self.parents.get(parent),
            HostPattern::Any => self.any.as_ref(),
        }
    }

    /// All patterns with their values: names, then wildcards, each in order, then anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (HostPattern, &T)> {
        let sorted = |map: &'_ HashMap<Box<str>, T>| {
            let mut keys: Vec<Box<str>> = map.keys().cloned().collect();
            keys.sort_unstable();
            keys
        };
        let names = sorted(&self.names).into_iter().map(HostPattern::Name);
        let parents = sorted(&self.parents).into_iter().map(HostPattern::Under);
        names.chain(parents).chain([HostPattern::Any]).filter_map(|pattern| {
            let value = self.get(&pattern)?;
            Some((pattern, value))
        })
    }
}

impl<T: Default> HostMap<T> {
    /// The value of `pattern`, which becomes the default one if there is none.
    pub(super) fn entry(&mut self, pattern: &HostPattern) -> &mut T {
        let (map, name) = match pattern {
            HostPattern::Name(name) => (&mut self.names, name),
            HostPattern::Under(parent) => (&mut self.parents, parent),
            HostPattern::Any => return self.any.get_or_insert_default(),
        };
        map.entry(name.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(patterns: &[&'static str], host: &str) -> Vec<&'static str> {
        let mut map = HostMap::<&str>::default();
        for pattern in patterns {
            *map.entry(&HostPattern::new(pattern)) = pattern;
        }
        map.matching(host).copied().collect()
    }

    #[test]
    fn the_name_comes_before_longer_wildcards_before_shorter_ones_before_anything() {
        let patterns = ["", "*.com", "*.example.com", "*.a.example.com", "b.a.example.com", "example.com"];
        let expected = ["b.a.example.com", "*.a.example.com", "*.example.com", "*.com", ""];
        assert_eq!(matching(&patterns, "b.a.example.com"), expected);
        assert_eq!(matching(&patterns, "example.com"), ["example.com", "*.com", ""]);
        assert_eq!(matching(&patterns, "example.org"), [""]);
    }

    #[test]
    fn a_wildcard_matches_no_host_with_an_empty_label_before_its_name_and_not_the_name_itself() {
        assert!(matching(&["*.example.com"], ".example.com").is_empty());
        assert!(matching(&["*.example.com"], "example.com").is_empty());
        assert!(matching(&["*.example.com"], "badexample.com").is_empty());
        assert!(matching(&["*.example.com"], "").is_empty());
    }

    #[test]
    fn one_label_more_is_neither_none_nor_two() {
        assert!(has_one_label_more("a.example.com", "example.com"));
        for host in ["example.com", ".example.com", "b.a.example.com", "aexample.com"] {
            assert!(!has_one_label_more(host, "example.com"), "{host}");
        }
    }

    #[test]
    fn patterns_intersect_where_one_covers_the_other() {
        let intersection = |one: &str, other: &str| {
            let (one, other) = (HostPattern::new(one), HostPattern::new(other));
            let found = one.intersection(&other);
            assert_eq!(found, other.intersection(&one));
            found.map(|pattern| pattern.to_string())
        };
        assert_eq!(intersection("*.example.com", "a.b.example.com").as_deref(), Some("a.b.example.com"));
        assert_eq!(intersection("*.example.com", "*.b.example.com").as_deref(), Some("*.b.example.com"));
        assert_eq!(intersection("*.example.com", "example.com"), None);
        assert_eq!(intersection("", "*.Example.com").as_deref(), Some("*.example.com"));
        assert_eq!(intersection("a.example.com", "b.example.com"), None);
        assert_eq!(intersection("", "").as_deref(), Some("*"));
    }
}
