//! What the API server sends, taken apart: pages of lists and events of watches.
//!
//! The server is a stranger that may be wrong in any way: nothing here trusts a shape. What cannot be understood is told in
//! one sentence; objects themselves are judged later, one by one.

use policy::objects::Kind;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// What a list says beside its objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// resourceVersion: where a watch goes on.
    pub(super) version: String,
    /// Token for the next page, if there is one.
    pub(super) next: Option<String>,
}

/// Reads a page of a list of `kind`; `take` gets its objects one by one, so that no more than one of them is held in this form.
/// An error comes after objects that were whole.
pub(super) fn read_page(bytes: &[u8], kind: Kind, take: &mut dyn FnMut(Value)) -> Result<Page, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let page = PageReader { kind, take }.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(page)
}

struct PageReader<'a> {
    kind: Kind,
    take: &'a mut dyn FnMut(Value),
}

impl<'de> DeserializeSeed<'de> for PageReader<'_> {
    type Value = Page;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Page, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageReader<'_> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}List", self.kind)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Page, A::Error> {
        let PageReader { kind, take } = self;
        let mut page = Page::default();
        let mut has_items = false;
        while let Some(field) = fields.next_key::<String>()? {
            match field.as_str() {
                "kind" => {
                    let found: Value = fields.next_value()?;
                    if found.as_str() != Some(&format!("{kind}List")) {
                        return Err(de::Error::custom(format_args!("a {kind}List was asked for, {found} came")));
                    }
                }
                "metadata" => {
                    let metadata: Value = fields.next_value()?;
                    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
                    page.version = text("resourceVersion");
                    page.next = Some(text("continue")).filter(|token| !token.is_empty());
                }
                "items" => {
                    has_items = true;
                    fields.next_value_seed(Items { take })?;
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        if page.version.is_empty() {
            return Err(de::Error::custom("a list without metadata.resourceVersion"));
        }
        if !has_items {
            return Err(de::Error::custom("a list without items"));
        }
        Ok(page)
    }
}

struct Items<'a> {
    take: &'a mut dyn FnMut(Value),
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    /// How Go writes a list that was never filled.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.take)(item);
        }
        Ok(())
    }
}

/// One line of a watch.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// An object is there in this form. Whether it was there before is known from what was seen, not believed.
    Put(Value),
    /// An object is gone; its last form.
    Deleted(Value),
    /// Everything up to this resourceVersion was sent.
    Bookmark(String),
    /// The server ends the watch.
    Error(Status),
}

/// A `Status` object: why something was not done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// HTTP status code; 0 if not given.
    pub(super) code: u16,
    pub(super) message: String,
    /// Seconds after which to try again.
    pub(super) retry_after_seconds: Option<u64>,
}

impl Status {
    /// What `value` says of it; `None` if it is no Status.
    pub(super) fn of(value: &Value) -> Option<Status> {
        if value["kind"] != "Status" {
            return None;
        }
        let code = value["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or_default();
        let texts = ["message", "reason"].map(|field| value[field].as_str().unwrap_or_default());
        let message = texts.into_iter().find(|text| !text.is_empty()).unwrap_or("no reason given");
        let retry_after_seconds = value["details"]["retryAfterSeconds"].as_u64();
        Some(Status { code, message: short(message), retry_after_seconds })
    }
}

/// Text of a stranger, in the length that a message has room for.
pub(super) fn short(text: &str) -> String {
    const CHARS_MAX: usize = 400;
    let mut chars = text.trim().chars();
    let mut short: String = chars.by_ref().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// resourceVersion of an object; empty if it has none.
pub(super) fn version_of(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// Reads one line of a watch of `kind`, or says why it makes no sense.
pub(super) fn read_event(line: &[u8], kind: Kind) -> Result<Event, String> {
    let mut event: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let object = event.get_mut("object").map(Value::take).unwrap_or_default();
    let Some(name) = event["type"].as_str() else { return Err("an event without type".to_owned()) };
    if !object.is_object() {
        return Err(format!("an event of type {} without object", short(name)));
    }
    if name == "ERROR" {
        return Status::of(&object).map(Event::Error).ok_or_else(|| "an ERROR that says no Status".to_owned());
    }
    let found = &object["kind"];
    if found != kind.as_str() {
        return Err(format!("{kind} is watched, an event about {} came", short(&found.to_string())));
    }
    match name {
        "ADDED" | "MODIFIED" => Ok(Event::Put(object)),
        "DELETED" => Ok(Event::Deleted(object)),
        "BOOKMARK" if version_of(&object).is_empty() => Err("a BOOKMARK without resourceVersion".to_owned()),
        "BOOKMARK" => Ok(Event::Bookmark(version_of(&object).to_owned())),
        other => Err(format!("an event of the unknown type {}", short(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> (Result<Page, String>, usize) {
        let mut count = 0;
        let page = read_page(text.as_bytes(), Kind::Pod, &mut |_| count += 1);
        (page, count)
    }

    #[test]
    fn pages_are_read_whatever_the_order_of_their_fields() {
        let (read, count) = page(
            r#"{"items":[{"a":1},5],"extra":{},"metadata":{"continue":"next","resourceVersion":"7"},"kind":"PodList"}"#,
        );
        assert_eq!((read, count), (Ok(Page { version: "7".into(), next: Some("next".into()) }), 2));
        let (read, count) = page(r#"{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":null}"#);
        assert_eq!((read, count), (Ok(Page { version: "7".into(), next: None }), 0));
    }

    #[test]
    fn pages_that_are_none_are_refused_with_the_reason() {
        let refusal = |text: &str| page(text).0.unwrap_err();
        assert!(refusal(r#"{"kind":"PodList","items":[{}"#).contains("EOF"));
        assert!(
            refusal(r#"{"kind":"ServiceList","items":[]}"#).contains("a PodList was asked for, \"ServiceList\" came")
        );
        assert!(refusal(r#"{"kind":"PodList","items":[]}"#).contains("without metadata.resourceVersion"));
        assert!(refusal(r#"{"kind":"PodList","metadata":{"resourceVersion":"1"}}"#).contains("without items"));
        assert!(
            refusal(r#"{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":7}"#).contains("a list of objects")
        );
        assert!(refusal("[]").contains("a PodList"));
        assert!(refusal(r#"{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[]} x"#).contains("trailing"));
    }

    #[test]
    fn events_that_make_no_sense_are_refused_with_the_reason() {
        let refusal = |line: &str| read_event(line.as_bytes(), Kind::Pod).unwrap_err();
        assert!(refusal(r#"{"type":"ADDED","object":{"kind":"#).contains("EOF"));
        assert_eq!(refusal(r#"{"object":{"kind":"Pod"}}"#), "an event without type");
        assert_eq!(refusal(r#"{"type":"ADDED"}"#), "an event of type ADDED without object");
        assert_eq!(refusal(r#"{"type":"ADDED","object":null}"#), "an event of type ADDED without object");
        assert!(refusal(r#"{"type":"ADDED","object":{"kind":"Service"}}"#).contains("about \"Service\" came"));
        assert_eq!(refusal(r#"{"type":"RENAMED","object":{"kind":"Pod"}}"#), "an event of the unknown type RENAMED");
        assert_eq!(refusal(r#"{"type":"BOOKMARK","object":{"kind":"Pod"}}"#), "a BOOKMARK without resourceVersion");
        assert_eq!(refusal(r#"{"type":"ERROR","object":{"kind":"Pod"}}"#), "an ERROR that says no Status");
        assert_eq!(refusal("7"), "an event without type");
    }

    #[test]
    fn errors_say_their_code_and_when_to_come_back() {
        let line = r#"{"type":"ERROR","object":{"kind":"Status","message":"too old","code":410,"details":{"retryAfterSeconds":3}}}"#;
        let Ok(Event::Error(status)) = read_event(line.as_bytes(), Kind::Pod) else { panic!("an error") };
        assert_eq!((status.code, status.message.as_str(), status.retry_after_seconds), (410, "too old", Some(3)));
    }
}
