//! From a DNS name to the rules whose domainNames match it.

use super::PortRulesIndex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An entry of domainNames, in lower case and without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum NamePattern {
    /// This name only.
    Exact(Box<str>),
    /// Every name below this one, and not itself: `*.` stands for one or more whole labels.
    Below(Box<str>),
}

impl NamePattern {
    /// Reads an entry of domainNames; `None` if it cannot be the name of anything.
    pub(crate) fn read(text: &str) -> Option<NamePattern> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, is_wildcard) = match text.strip_prefix("*.") {
            Some(below) => (below, true),
            None => (&*text, false),
        };
        if name.is_empty() || name.contains('*') || name.split('.').any(str::is_empty) {
            return None;
        }
        Some(if is_wildcard { NamePattern::Below(name.into()) } else { NamePattern::Exact(name.into()) })
    }
}

/// Rules by the names that they speak of. A lookup costs as much as the name has labels, however many patterns there are.
#[derive(Debug, Default)]
pub(crate) struct NameRules {
    exact: BTreeMap<Box<str>, PortRulesIndex>,
    below: BTreeMap<Box<str>, PortRulesIndex>,
}

impl NameRules {
    /// The rules of each pattern.
    pub(crate) fn build(patterns: impl Iterator<Item = (NamePattern, PortRulesIndex)>) -> NameRules {
        let mut built = NameRules::default();
        for (pattern, rules) in patterns {
            match pattern {
                NamePattern::Exact(name) => built.exact.insert(name, rules),
                NamePattern::Below(name) => built.below.insert(name, rules),
            };
        }
        built
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// The rules of every pattern that matches one of `names`, which are in lower case and without a final dot.
    pub(crate) fn find<'a>(&'a self, names: &'a [Arc<str>]) -> impl Iterator<Item = PortRulesIndex> + 'a {
        names.iter().flat_map(move |name| {
            let parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
            let below = parents.filter_map(|parent| self.below.get(parent));
            self.exact.get(&**name).into_iter().chain(below).copied()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patterns among `patterns` that match `name`.
    fn matching<'a>(patterns: &[&'a str], name: &str) -> Vec<&'a str> {
        let read = |text: &&str| NamePattern::read(text).expect("a pattern");
        let numbered = patterns.iter().map(read).zip((0u32..).map(PortRulesIndex));
        let rules = NameRules::build(numbered);
        let mut found: Vec<u32> = rules.find(&[name.into()]).map(|index| index.0).collect();
        found.sort_unstable();
        found.into_iter().map(|index| patterns[index as usize]).collect()
    }

    #[test]
    fn n18_a_name_matches_only_itself_and_a_wildcard_only_what_is_below() {
        let patterns = ["kubernetes.io", "blog.kubernetes.io", "*.kubernetes.io"];
        let check = |name: &str, expected: &[&str]| assert_eq!(matching(&patterns, name), expected, "{name}");
        check("kubernetes.io", &["kubernetes.io"]);
        check("www.kubernetes.io", &["*.kubernetes.io"]);
        check("blog.kubernetes.io", &["blog.kubernetes.io", "*.kubernetes.io"]);
        check("latest.blog.kubernetes.io", &["*.kubernetes.io"]);
        check("my-kubernetes.io", &[]);
        check("wikipedia.org", &[]);
        check("io", &[]);
    }

    #[test]
    fn n18_case_and_a_final_dot_do_not_matter_in_a_pattern() {
        assert_eq!(NamePattern::read("Kubernetes.IO."), Some(NamePattern::Exact("kubernetes.io".into())));
        assert_eq!(NamePattern::read("*.Kubernetes.IO"), Some(NamePattern::Below("kubernetes.io".into())));
        for wrong in ["", ".", "*", "*.", "a..b", "a.*.b", "*.*.b", ".a"] {
            assert_eq!(NamePattern::read(wrong), None, "{wrong}");
        }
    }
}
