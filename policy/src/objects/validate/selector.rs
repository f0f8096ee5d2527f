//! Labels and label selectors.

use super::{Findings, at, name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

pub(super) fn validate_labels(field: &str, labels: Option<&BTreeMap<String, String>>, out: &mut Findings) {
    for (key, value) in labels.into_iter().flatten() {
        out.check(field, name::label_key(key));
        out.check(format!("{field}.{key}"), name::label_value(value));
    }
}

pub(super) fn validate_selector(field: &str, selector: &LabelSelector, out: &mut Findings) {
    validate_labels(&format!("{field}.matchLabels"), selector.match_labels.as_ref(), out);
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let field = at(format_args!("{field}.matchExpressions"), index);
        out.check(format!("{field}.key"), name::label_key(&expression.key));
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                out.add(format!("{field}.values"), format!("required for operator {}", expression.operator));
            }
            "In" | "NotIn" => {
                for (index, value) in values.iter().enumerate() {
                    out.check(at(format_args!("{field}.values"), index), name::label_value(value));
                }
            }
            "Exists" | "DoesNotExist" if values.is_empty() => {}
            "Exists" | "DoesNotExist" => {
                out.add(format!("{field}.values"), format!("not allowed for operator {}", expression.operator));
            }
            other => out.add(
                format!("{field}.operator"),
                format!("\"{other}\" is not supported, use In, NotIn, Exists or DoesNotExist"),
            ),
        }
    }
}

pub(super) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}
