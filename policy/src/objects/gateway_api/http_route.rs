//! HTTPRoute: requests, and what becomes of them.

use super::filter::Filter;
use super::{BackendObjectReference, ParentReference, RouteStatus};
use crate::objects::words::words;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// What a rule without matches takes: every request.
const EVERYTHING: &[Match] = &[Match { path: None, headers: None, query_params: None, method: None }];

/// What a route without rules does: it takes every request and has nowhere to send it.
const NOTHING_SAID: &[Rule] = &[Rule {
    name: None,
    matches: None,
    filters: None,
    backend_refs: None,
    timeouts: None,
    retry: None,
    session_persistence: None,
}];

/// HTTP requests, and what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HTTPRoute {
    /// `gateway.networking.k8s.io/v1`, or `v1beta1`, which has the same fields.
    pub api_version: String,
    /// `HTTPRoute`.
    pub kind: String,
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: Spec,
    /// What implementations note about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RouteStatus>,
}

/// What an HTTPRoute asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// What it attaches to, at most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_refs: Option<Vec<ParentReference>>,
    /// Hosts, or `*.` and a suffix for all below it, at most 16; those of the listener if none are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostnames: Option<Vec<String>>,
    /// See [`Spec::rules`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Rule>>,
}

impl Spec {
    /// 1 to 16 rules; one that takes every request, without backends, if not given.
    pub fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or(NOTHING_SAID)
    }
}

/// Some requests, and what becomes of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`Rule::matches`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<Match>>,
    /// What is changed, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Filter>>,
    /// Where requests are sent, at most 16, by weight; 500 if none are given and no filter answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_refs: Option<Vec<BackendRef>>,
    /// Limits of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// When a request is sent again (experimental channel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How requests of one session keep their backend (experimental channel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<SessionPersistence>,
}

impl Rule {
    /// Requests that the rule takes: any of at most 64; every request if none are given.
    pub fn matches(&self) -> &[Match] {
        self.matches.as_deref().filter(|matches| !matches.is_empty()).unwrap_or(EVERYTHING)
    }
}

/// Requests that have everything that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Their path; see [`Match::path`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Their header fields, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<HeaderMatch>>,
    /// Their query parameters, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_params: Option<Vec<QueryParamMatch>>,
    /// Their method, in capitals; any if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

impl Match {
    /// How the path is matched and with what: every path, as prefix `/`, if not given.
    pub fn path(&self) -> (PathMatchType, &str) {
        self.path.as_ref().map_or((PathMatchType::PathPrefix, "/"), |path| (path.kind(), path.value()))
    }
}

/// Paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// See [`Self::kind`].
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<PathMatchType>,
    /// See [`Self::value`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl PathMatch {
    /// PathPrefix if not given.
    pub fn kind(&self) -> PathMatchType {
        self.type_.unwrap_or(PathMatchType::PathPrefix)
    }

    /// `/` if not given.
    pub fn value(&self) -> &str {
        self.value.as_deref().unwrap_or("/")
    }
}

/// How paths are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum PathMatchType {
    /// The whole path, letter by letter.
    Exact,
    /// Its first elements.
    PathPrefix,
    /// A regular expression of the implementation's own dialect.
    RegularExpression,
}

words!(PathMatchType: Exact, PathPrefix, RegularExpression);

/// Header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// See [`Self::kind`].
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// Its name, in any case; of several matches with one name the first counts.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl HeaderMatch {
    /// Exact if not given.
    pub fn kind(&self) -> ValueMatchType {
        self.type_.unwrap_or(ValueMatchType::Exact)
    }
}

/// Query parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryParamMatch {
    /// See [`Self::kind`].
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// Its name; of several matches with one name the first counts.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl QueryParamMatch {
    /// Exact if not given.
    pub fn kind(&self) -> ValueMatchType {
        self.type_.unwrap_or(ValueMatchType::Exact)
    }
}

/// How values are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum ValueMatchType {
    /// The whole value, letter by letter.
    Exact,
    /// A regular expression of the implementation's own dialect.
    RegularExpression,
}

words!(ValueMatchType: Exact, RegularExpression);

/// Where requests are sent: a [`BackendObjectReference`] with a weight.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendRef {
    /// See [`Self::target`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// See [`Self::target`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// That of the route if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Port of a Service (not its targetPort); required for Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// See [`Self::weight`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// What is changed for this backend alone, at most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Filter>>,
}

impl BackendRef {
    /// Its share among the backends of the rule, 0 to 1,000,000; 1 if not given.
    pub fn weight(&self) -> i32 {
        self.weight.unwrap_or(1)
    }

    /// What it refers to.
    pub fn target(&self) -> BackendObjectReference {
        BackendObjectReference {
            group: self.group.clone(),
            kind: self.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            port: self.port,
        }
    }
}

/// Limits of time, as [`super::duration`] reads them; `0s` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// From the request to the end of its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Of one attempt at a backend; at most `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<String>,
}

/// When a request is sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Status codes, 400 to 599, after which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<i32>>,
    /// How often it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// The least time between attempts, as [`super::duration`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
}

/// How requests of one session keep their backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// Name of the cookie or header field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// When a session ends, as [`super::duration`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<String>,
    /// When a session that is not used ends, as [`super::duration`] reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// Cookie if not given.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<SessionType>,
    /// Settings of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<CookieConfig>,
}

/// What tells the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum SessionType {
    /// A cookie.
    Cookie,
    /// A header field.
    Header,
}

words!(SessionType: Cookie, Header);

/// Settings of a session's cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieConfig {
    /// Session if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_type: Option<CookieLifetime>,
}

/// How long a client keeps the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum CookieLifetime {
    /// Until absoluteTimeout.
    Permanent,
    /// As long as it runs.
    Session,
}

words!(CookieLifetime: Permanent, Session);
