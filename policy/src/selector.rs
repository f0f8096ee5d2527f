//! Labels, and selectors ready to match them. In: the API's LabelSelector. Out: does a set of labels match.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The labels of an object, in order of their keys. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Arc<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(candidate, _)| (**candidate).cmp(key));
        found.ok().map(|position| &*self.0[position].1)
    }

    /// Keys and values, in order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&BTreeMap<String, String>> for Labels {
    fn from(labels: &BTreeMap<String, String>) -> Labels {
        Labels(labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    /// Of keys and values in order of the keys.
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(labels: I) -> Labels {
        Labels(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// What one requirement asks of the value under its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Requirement {
    In(BTreeSet<String>),
    /// Also matches when the key is absent.
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    /// An operator outside the API: matches nothing, so that a policy fails closed.
    Never,
}

/// A compiled label selector; all requirements must hold. Without requirements it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    requirements: Vec<(String, Requirement)>,
}

impl Selector {
    /// Compiles a selector. Equal meanings mostly give equal values, whatever the order they were written in.
    pub fn compile(selector: &LabelSelector) -> Selector {
        let equals = selector.match_labels.iter().flatten();
        let equals = equals.map(|(key, value)| (key.clone(), Requirement::In(BTreeSet::from([value.clone()]))));
        let expressions = selector.match_expressions.iter().flatten().map(|expression| {
            let values = || expression.values.iter().flatten().cloned().collect();
            let requirement = match expression.operator.as_str() {
                "In" => Requirement::In(values()),
                "NotIn" => Requirement::NotIn(values()),
                "Exists" => Requirement::Exists,
                "DoesNotExist" => Requirement::DoesNotExist,
                _ => Requirement::Never,
            };
            (expression.key.clone(), requirement)
        });
        let mut requirements: Vec<_> = equals.chain(expressions).collect();
        requirements.sort();
        requirements.dedup();
        Selector { requirements }
    }

    /// The selector that a plain map of labels means, such as a Service's.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Selector {
        Selector::compile(&LabelSelector { match_labels: Some(labels.clone()), match_expressions: None })
    }

    /// Whether `labels` match.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether `labels` match.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.matches_with(|key| labels.get(key))
    }

    /// Whether the labels that `value` looks up match.
    pub(crate) fn matches_with<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|(key, requirement)| {
            let value = value(key);
            match requirement {
                Requirement::In(values) => value.is_some_and(|value| values.contains(value)),
                Requirement::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Requirement::Exists => value.is_some(),
                Requirement::DoesNotExist => value.is_none(),
                Requirement::Never => false,
            }
        })
    }

    /// The label keys that it looks at.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|(key, _)| key.as_str())
    }
}
