//! From text to JSON values, document by document.
//!
//! Text is cut at lines that begin with `---`, as kubectl cuts it, so a broken document spoils only itself. A document
//! that begins with `{` is tried as JSON (several values may follow each other), everything else is YAML with the
//! reading that Kubernetes has of it: YAML 1.1 booleans (`yes`, `on`), merge keys, duplicate keys are errors.

use super::problem::SyntaxError;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Nesting of one document. Kubernetes' own objects stay under 20; serde_json stops at 128, and a document this deep
/// still fits the smallest thread's stack.
const DEPTH_MAX: usize = 100;
/// YAML nodes, aliases included, that one document may expand to: ten times the largest list that a 16 MiB file holds
/// in practice, and a stop for "billion laughs".
const NODES_MAX: usize = 4_000_000;
/// Nodes that aliases alone may add to one document.
const ALIASED_NODES_MAX: usize = 100_000;

/// One document of a text.
pub(crate) struct Document {
    /// Position in the text, from 1.
    pub(crate) index: u32,
    /// Its value, or why it has none.
    pub(crate) content: Result<Value, SyntaxError>,
}

/// Cuts and reads `text`. Documents without content are left out and not counted.
pub(crate) fn split(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut chunk_start = 0;
    let mut chunk_line = 0;
    let mut position = 0;
    for (line, content) in (0u32..).zip(text.split_inclusive('\n')) {
        if is_separator(content) && position > chunk_start {
            read_chunk(&text[chunk_start..position], chunk_line, &mut documents);
            chunk_start = position;
            chunk_line = line;
        }
        position += content.len();
    }
    read_chunk(&text[chunk_start..], chunk_line, &mut documents);
    documents
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether a chunk holds only comments, directives, markers and blank lines.
fn is_blank(chunk: &str) -> bool {
    chunk.lines().all(|line| {
        let line = if is_separator(line) { &line[3..] } else { line };
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line.starts_with('%') || line == "..."
    })
}

fn read_chunk(chunk: &str, first_line: u32, documents: &mut Vec<Document>) {
    if is_blank(chunk) {
        return;
    }
    let mut push = |content| {
        let index = u32::try_from(documents.len() + 1).unwrap_or(u32::MAX);
        documents.push(Document { index, content });
    };
    let body = if is_separator(chunk.lines().next().unwrap_or("")) { &chunk[3..] } else { chunk };
    let json_error = if body.trim_start().starts_with('{') {
        match read_json(body) {
            Ok(values) => return values.into_iter().for_each(|value| push(Ok(value))),
            Err(error) => Some(error),
        }
    } else {
        None
    };
    let content = read_yaml(chunk).map_err(|yaml_error| {
        // `{"` is how JSON begins and how hardly any YAML does: then JSON's complaint is the helpful one.
        let inside = body.trim_start().strip_prefix('{');
        let looks_like_json = inside.is_some_and(|inside| inside.trim_start().starts_with('"'));
        let mut error = json_error.filter(|_| looks_like_json).unwrap_or(yaml_error);
        error.line = error.line.saturating_add(first_line);
        error
    });
    match content {
        Ok(Value::Null) => {}
        content => push(content),
    }
}

fn read_json(text: &str) -> Result<Vec<Value>, SyntaxError> {
    serde_json::Deserializer::from_str(text)
        .into_iter::<Unique>()
        .map(|value| value.map(|Unique(value)| value))
        .collect::<Result<_, _>>()
        .map_err(|error| SyntaxError {
            line: u32::try_from(error.line()).unwrap_or(u32::MAX),
            column: u32::try_from(error.column()).unwrap_or(u32::MAX),
            message: without_position(&error.to_string()),
        })
}

fn read_yaml(text: &str) -> Result<Value, SyntaxError> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 2 * NODES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIASED_NODES_MAX,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
        SyntaxError {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: without_position(&error.to_string()),
        }
    })
}

/// Both parsers end their message with where it happened, counted from the start of the document; the problem says it
/// for the whole file. Advice to the programmer is cut off too.
fn without_position(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    let message = &message[..end];
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
    message.strip_prefix("error: ").unwrap_or(message).to_owned()
}

/// A JSON value in which no object has a key twice; serde_json itself keeps the last one silently.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some((key, Unique(value))) = map.next_entry::<String, Unique>()? {
            if values.contains_key(&key) {
                return Err(de::Error::custom(format_args!("duplicate key \"{key}\"")));
            }
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}
