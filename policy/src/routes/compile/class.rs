//! Which Ingresses are ours.
//!
//! An Ingress is of the class that the annotation `kubernetes.io/ingress.class` names, or else spec.ingressClassName, or else of the
//! default one: of several defaults the newest, as the API server fills it in. Ours are the classes whose spec.controller is the
//! proxy's. Where a cluster has no IngressClass at all, an Ingress without a class is served, so that a manifest works as it stands.

use super::Work;
use super::report::Subject;
use crate::cluster::Objects;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use std::cmp::Reverse;
use std::sync::Arc;

/// Annotation on an Ingress that was its class before there was a field.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Annotation on an IngressClass: with the value `true`, Ingresses without a class are of it.
const DEFAULT_ANNOTATION: &str = "ingressclass.kubernetes.io/is-default-class";

/// Whether `ingress` is served here. Why it is served by nobody is told.
pub(super) fn is_ours(ingress: &Ingress, subject: &Subject, default: DefaultClass, work: &mut Work<'_>) -> bool {
    let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
    let field = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_ref());
    let named = match (annotation, field) {
        (Some(name), field) => {
            let place = format!("metadata.annotations[{CLASS_ANNOTATION}]");
            if let Some(other) = field.filter(|other| *other != name) {
                let message = format!("class \"{name}\" is used, not \"{other}\" of spec.ingressClassName");
                work.report.warn(subject, place.clone(), message);
            }
            Some((place, name))
        }
        (None, Some(name)) => Some(("spec.ingressClassName".to_owned(), name)),
        (None, None) => None,
    };
    let Some((place, name)) = named else {
        return match default {
            DefaultClass::Ours => true,
            DefaultClass::Other => false,
            DefaultClass::NoClasses => {
                let message = "not given, and there is no IngressClass: it is served by podplane";
                work.report.warn(subject, "spec.ingressClassName", message);
                true
            }
            DefaultClass::NoDefault => {
                let message = "not given, and no IngressClass is the default one: it is not served";
                work.report.warn(subject, "spec.ingressClassName", message);
                false
            }
        };
    };
    match work.cluster.ingress_classes.get(&("".into(), name.as_str().into())) {
        Some(class) => has_controller(&class.object, &work.options.controller),
        None => {
            work.report.warn(subject, place, format!("IngressClass {name} does not exist: it is not served"));
            false
        }
    }
}

/// What becomes of an Ingress that names no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefaultClass {
    /// The default class is ours.
    Ours,
    /// It is someone else's.
    Other,
    /// No class is the default.
    NoDefault,
    /// There are no classes.
    NoClasses,
}

impl DefaultClass {
    /// Reads it from the classes that there are.
    pub(super) fn of(classes: &Objects<IngressClass>, controller: &str) -> DefaultClass {
        if classes.is_empty() {
            return DefaultClass::NoClasses;
        }
        let is_default = |class: &Arc<IngressClass>| {
            let annotations = class.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(DEFAULT_ANNOTATION)).map(String::as_str) == Some("true")
        };
        let defaults = classes.iter().filter(|(_, class)| is_default(&class.object));
        let created = |class: &IngressClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let newest = defaults.min_by_key(|(key, class)| (Reverse(created(&class.object)), *key));
        match newest {
            Some((_, class)) if has_controller(&class.object, controller) => DefaultClass::Ours,
            Some(_) => DefaultClass::Other,
            None => DefaultClass::NoDefault,
        }
    }
}

/// Tells of classes of ours that ask for settings.
pub(super) fn warn_of_parameters(work: &mut Work<'_>) {
    for (key, sourced) in &work.cluster.ingress_classes {
        let class = &sourced.object;
        let parameters = class.spec.as_ref().and_then(|spec| spec.parameters.as_ref());
        if parameters.is_some() && has_controller(class, &work.options.controller) {
            let subject = Subject::new("IngressClass", key, sourced, &class.metadata);
            work.report.warn(&subject, "spec.parameters", "podplane has no parameters for IngressClasses");
        }
    }
}

fn has_controller(class: &IngressClass, controller: &str) -> bool {
    class.spec.as_ref().and_then(|spec| spec.controller.as_deref()) == Some(controller)
}
