//! The rules of one host by path: exact paths and prefixes are found by hashing, so what a lookup costs depends on the request and
//! not on the number of rules.
//!
//! Of the rules whose path matches, exact paths come first, then regular expressions, the longest text first (the APIs leave
//! their place open), then prefixes, the longest first. A prefix is compared by element: `/aaa` and `/aaa/` match `/aaa`, `/aaa/`
//! and `/aaa/b`, not `/aaabbb`. Rules of one path are asked in the order in which they were added; the first whose conditions
//! hold takes the request, and if none holds the next path is asked.

use super::conditions::{Conditions, Pattern};
use super::table::Request;
use std::cmp::Reverse;
use std::collections::HashMap;

/// Which paths a rule takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathMatch {
    /// This path.
    Exact(Box<str>),
    /// Paths that begin with the elements of this one; without a final slash, so empty for all paths.
    Prefix(Box<str>),
    /// Paths that this expression matches.
    Pattern(Pattern),
}

impl PathMatch {
    /// A prefix as it is written: a final slash means nothing.
    pub(super) fn prefix(written: &str) -> PathMatch {
        PathMatch::Prefix(written.strip_suffix('/').unwrap_or(written).into())
    }
}

/// A rule under a path.
#[derive(Debug)]
pub(super) struct Candidate {
    /// What it asks for beside host and path.
    pub(super) conditions: Conditions,
    /// Position of the rule.
    pub(super) rule: u32,
}

/// Rules by path.
#[derive(Debug, Default)]
pub(super) struct PathTable {
    exact: HashMap<Box<str>, Vec<Candidate>>,
    patterns: Vec<(Pattern, Vec<Candidate>)>,
    prefixes: HashMap<Box<str>, Vec<Candidate>>,
    /// Length of the longest prefix: longer parts of a path need not be looked up.
    prefix_bytes_max: usize,
}

impl PathTable {
    /// The rules of `path` so far.
    pub(super) fn entry(&mut self, path: &PathMatch) -> &mut Vec<Candidate> {
        match path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Prefix(prefix) => {
                self.prefix_bytes_max = self.prefix_bytes_max.max(prefix.len());
                self.prefixes.entry(prefix.clone()).or_default()
            }
            PathMatch::Pattern(pattern) => {
                let key = |pattern: &Pattern| (Reverse(pattern.as_str().len()), pattern.as_str().to_owned());
                let at = match self.patterns.binary_search_by_key(&key(pattern), |(other, _)| key(other)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.patterns.insert(at, (pattern.clone(), Vec::new()));
                        at
                    }
                };
                &mut self.patterns[at].1
            }
        }
    }

    /// The rules whose path matches `path`, in the order in which they are asked, each with the length of the prefix that matched
    /// (0 without one).
    pub(super) fn matching<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a Candidate, usize)> {
        let exact = self.exact.get(path).into_iter().flatten();
        let patterns = self.patterns.iter().filter(|(pattern, _)| pattern.matches(path));
        let firsts = exact.chain(patterns.flat_map(|(_, candidates)| candidates)).map(|candidate| (candidate, 0));
        let prefixes = element_ends(path, self.prefix_bytes_max).filter_map(|end| {
            let candidates = self.prefixes.get(&path[..end])?;
            Some(candidates.iter().map(move |candidate| (candidate, end)))
        });
        firsts.chain(prefixes.flatten())
    }

    /// The rule that takes `request`, and the length of the prefix that matched.
    pub(super) fn find(&self, request: &Request<'_>) -> Option<(u32, usize)> {
        let mut matching = self.matching(request.path);
        matching.find(|(candidate, _)| candidate.conditions.hold(request)).map(|(candidate, end)| (candidate.rule, end))
    }

    /// The rules of all paths, in no particular order.
    pub(super) fn rules(&self) -> impl Iterator<Item = u32> {
        let keyed = self.exact.values().chain(self.prefixes.values());
        let all = keyed.chain(self.patterns.iter().map(|(_, candidates)| candidates));
        all.flatten().map(|candidate| candidate.rule)
    }
}

/// Where elements of `path` end, at most at `max`, the last one first.
fn element_ends(path: &str, max: usize) -> impl Iterator<Item = usize> {
    let whole = (path.len() <= max && !path.ends_with('/')).then_some(path.len());
    // A slash at `max` ends an element of `max` bytes.
    let bytes = path.as_bytes();
    let slashes = (0..bytes.len().min(max + 1)).rev().filter(|at| bytes[*at] == b'/');
    whole.into_iter().chain(slashes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, Method};

    fn found(rules: &[PathMatch], path: &str) -> Option<(u32, usize)> {
        let mut table = PathTable::default();
        for (rule, path) in (0..).zip(rules) {
            table.entry(path).push(Candidate { conditions: Conditions::default(), rule });
        }
        let headers = HeaderMap::new();
        let (method, host) = (&Method::GET, "example.com");
        table.find(&Request { port: 80, sni: None, host, method, path, query: None, headers: &headers })
    }

    #[test]
    fn prefixes_match_by_element_whether_a_slash_ends_them_or_not() {
        for written in ["/aaa", "/aaa/"] {
            let rules = [PathMatch::prefix(written)];
            for path in ["/aaa", "/aaa/", "/aaa/b", "/aaa//b"] {
                assert_eq!(found(&rules, path), Some((0, 4)), "{written} {path}");
            }
            for path in ["/aaab", "/aa", "/", "/AAA", "/b/aaa", "//aaa"] {
                assert_eq!(found(&rules, path), None, "{written} {path}");
            }
        }
    }

    #[test]
    fn the_prefix_of_one_slash_matches_all_paths() {
        for path in ["/", "/a", "//", "/a/b/", "*"] {
            let expected = path.starts_with('/').then_some((0, 0));
            assert_eq!(found(&[PathMatch::prefix("/")], path), expected, "{path}");
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_an_exact_path_before_it() {
        let rules = [PathMatch::prefix("/a"), PathMatch::prefix("/a/b"), PathMatch::Exact("/a/b".into())];
        assert_eq!(found(&rules, "/a/b"), Some((2, 0)));
        assert_eq!(found(&rules, "/a/b/"), Some((1, 4)));
        assert_eq!(found(&rules, "/a/bc"), Some((0, 2)));
    }

    #[test]
    fn expressions_come_between_exact_paths_and_prefixes_the_longest_first() {
        let pattern = |text| PathMatch::Pattern(Pattern::new(text).expect("an expression"));
        let rules =
            [PathMatch::prefix("/a/b/c"), pattern("/a/.*"), pattern("/a/b/.*"), PathMatch::Exact("/a/b/d".into())];
        assert_eq!(found(&rules, "/a/b/c"), Some((2, 0)));
        assert_eq!(found(&rules, "/a/x"), Some((1, 0)));
        assert_eq!(found(&rules, "/a/b/d"), Some((3, 0)));
        assert_eq!(found(&rules, "/b"), None);
    }

    #[test]
    fn a_path_of_many_elements_is_looked_up_no_further_than_the_longest_prefix() {
        let path = "/".repeat(60_000);
        assert_eq!(element_ends(&path, 8).collect::<Vec<_>>(), [8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(element_ends("/ab/c", 5).collect::<Vec<_>>(), [5, 3, 0]);
        assert_eq!(element_ends("/ab/c", 4).collect::<Vec<_>>(), [3, 0]);
    }
}
