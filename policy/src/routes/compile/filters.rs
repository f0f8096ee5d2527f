//! Filters of HTTPRoutes.
//!
//! A filter that is not understood may be what keeps a request from its backend, so what it stands at is answered with an error and
//! never served without it.

use super::http_rule::Reading;
use super::status::Fault;
use crate::objects::gateway_api::filter::{
    Filter as Written, FilterType, HeaderModifier, PathModifier, PathModifierType, RequestMirror, RequestRedirect,
};
use crate::routes::table::{Filter, HeaderChanges, HostRewrite, PathRewrite, Redirect};
use http::{HeaderName, HeaderValue};

/// What the filters of a rule come to.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// Changes, in order.
    pub(super) changes: Vec<Filter>,
    /// The redirect that answers the request.
    pub(super) redirect: Option<Redirect>,
}

/// Reads `filters`, which are at `field`; the error is at which field and what is wrong there.
pub(super) fn read(
    filters: &[Written],
    field: &str,
    reading: &mut Reading<'_, '_>,
) -> Result<Filters, (String, Fault)> {
    let mut read = Filters::default();
    for (at, filter) in filters.iter().enumerate() {
        let field = format!("{field}[{at}]");
        match filter.type_ {
            FilterType::RequestHeaderModifier => {
                let changes = header_changes(filter.request_header_modifier.as_ref());
                let changes = changes.map_err(|fault| (format!("{field}.requestHeaderModifier"), fault))?;
                read.changes.push(Filter::RequestHeaders(changes));
            }
            FilterType::ResponseHeaderModifier => {
                let changes = header_changes(filter.response_header_modifier.as_ref());
                let changes = changes.map_err(|fault| (format!("{field}.responseHeaderModifier"), fault))?;
                read.changes.push(Filter::ResponseHeaders(changes));
            }
            FilterType::RequestRedirect => {
                let redirect = filter.request_redirect.as_ref().map(redirect).unwrap_or_else(|| Err(missing()));
                read.redirect = Some(redirect.map_err(|fault| (format!("{field}.requestRedirect"), fault))?);
            }
            FilterType::URLRewrite => {
                let place = format!("{field}.urlRewrite");
                let rewrite = filter.url_rewrite.as_ref().ok_or_else(|| (place.clone(), missing()))?;
                let host = rewrite.hostname.as_deref().map(HeaderValue::from_str).transpose();
                let host = host.map_err(|_| (format!("{place}.hostname"), unsupported("not a hostname")))?;
                let path = rewrite.path.as_ref().map(path_rewrite).transpose();
                let path = path.map_err(|fault| (format!("{place}.path"), fault))?;
                read.changes.push(Filter::Rewrite { host: host.map(HostRewrite), path });
            }
            FilterType::RequestMirror => {
                let place = format!("{field}.requestMirror");
                let mirror = filter.request_mirror.as_ref().ok_or_else(|| (place.clone(), missing()))?;
                let target = reading.target(&mirror.backend_ref, &format!("{place}.backendRef"));
                let (numerator, denominator) = share(mirror).map_err(|fault| (place, fault))?;
                read.changes.push(Filter::Mirror { target, numerator, denominator });
            }
            FilterType::ExtensionRef | FilterType::CORS => {
                let kind: &str = filter.type_.into();
                return Err((
                    format!("{field}.type"),
                    unsupported(format!("filters of type {kind} are not supported")),
                ));
            }
        }
    }
    let rewrites = read.changes.iter().any(|change| matches!(change, Filter::Rewrite { .. }));
    if rewrites && read.redirect.is_some() {
        let fault = Fault::new("IncompatibleFilters", "a request cannot be both redirected and rewritten");
        return Err((field.to_owned(), fault));
    }
    Ok(read)
}

fn unsupported(message: impl Into<String>) -> Fault {
    Fault::new("UnsupportedValue", message)
}

fn missing() -> Fault {
    unsupported("required for a filter of this type")
}

/// The first entry of a name counts.
fn header_changes(modifier: Option<&HeaderModifier>) -> Result<HeaderChanges, Fault> {
    let modifier = modifier.ok_or_else(missing)?;
    let name = |text: &str| {
        HeaderName::try_from(text).map_err(|_| unsupported(format!("\"{text}\" is not the name of a header field")))
    };
    let fields = |listed: Option<&[crate::objects::gateway_api::filter::Header]>| {
        let mut fields: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for header in listed.unwrap_or_default() {
            let name = name(&header.name)?;
            let value = HeaderValue::try_from(&header.value)
                .map_err(|_| unsupported(format!("the value of {name} is not one that a header field can have")))?;
            if !fields.iter().any(|(other, _)| *other == name) {
                fields.push((name, value));
            }
        }
        Ok::<_, Fault>(fields)
    };
    let remove = modifier.remove.iter().flatten().map(|text| name(text)).collect::<Result<_, _>>()?;
    Ok(HeaderChanges { set: fields(modifier.set.as_deref())?, add: fields(modifier.add.as_deref())?, remove })
}

fn redirect(written: &RequestRedirect) -> Result<Redirect, Fault> {
    let scheme = match written.scheme.as_deref() {
        None => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(other) => return Err(unsupported(format!("scheme \"{other}\" is neither http nor https"))),
    };
    let status = match written.status_code() {
        status @ (301 | 302 | 303 | 307 | 308) => status as u16,
        other => return Err(unsupported(format!("status code {other} is none of 301, 302, 303, 307 and 308"))),
    };
    let port = written.port.map(|port| {
        let checked = u16::try_from(port).ok().filter(|port| *port > 0);
        checked.ok_or_else(|| unsupported(format!("port {port} is not between 1 and 65535")))
    });
    Ok(Redirect {
        scheme,
        host: written.hostname.clone(),
        path: written.path.as_ref().map(path_rewrite).transpose()?,
        port: port.transpose()?,
        status,
    })
}

fn path_rewrite(path: &PathModifier) -> Result<PathRewrite, Fault> {
    let (text, rewrite): (_, fn(String) -> PathRewrite) = match path.type_ {
        PathModifierType::ReplaceFullPath => (&path.replace_full_path, PathRewrite::Full),
        PathModifierType::ReplacePrefixMatch => (&path.replace_prefix_match, PathRewrite::Prefix),
    };
    text.clone().map(rewrite).ok_or_else(|| unsupported("the path is not given"))
}

/// Which share of requests is copied.
fn share(mirror: &RequestMirror) -> Result<(u32, u32), Fault> {
    let (numerator, denominator) = match (&mirror.percent, &mirror.fraction) {
        (Some(percent), None) => (*percent, 100),
        (None, Some(fraction)) => (fraction.numerator, fraction.denominator()),
        (None, None) => (1, 1),
        (Some(_), Some(_)) => return Err(unsupported("percent and fraction exclude each other")),
    };
    match (u32::try_from(numerator), u32::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => Ok((numerator, denominator)),
        _ => Err(unsupported(format!("{numerator} of {denominator} is not a share"))),
    }
}
