//! Reads a JSON value as one of the API's types, and tells by path what did not fit and what the type does not have.
//!
//! It is a serde deserializer of one concrete type. Generic wrappers that track paths and ignored fields would each be
//! compiled anew for the several hundred types below a Pod, which takes minutes.

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt::{self, Display, Write};

/// Why a value is not of the asked type.
#[derive(Debug)]
pub(crate) struct Mismatch {
    /// Path of the field, empty for the whole value.
    pub(crate) field: String,
    pub(crate) message: String,
}

/// Reads `value` as `T`; the paths of fields that `T` does not have are added to `unknown`.
pub(crate) fn read<T: DeserializeOwned>(value: Value, unknown: &mut Vec<String>) -> Result<T, Mismatch> {
    let context = RefCell::default();
    let result = T::deserialize(Reader { value, context: &context });
    let mut context = context.into_inner();
    unknown.append(&mut context.unknown);
    result.map_err(|Error { message, missing }| {
        context.path.extend(missing.map(|field| Segment::Field(field.to_owned())));
        Mismatch { field: context.path_text(), message }
    })
}

#[derive(Debug)]
enum Segment {
    Field(String),
    Index(usize),
}

#[derive(Default)]
struct Context {
    /// Where the reader is. After an error it stays where the error happened.
    path: Vec<Segment>,
    unknown: Vec<String>,
}

impl Context {
    /// `spec.ingress[0].from`.
    fn path_text(&self) -> String {
        let mut text = String::new();
        for segment in &self.path {
            match segment {
                Segment::Field(name) if text.is_empty() => text.push_str(name),
                Segment::Field(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Segment::Index(index) => write!(text, "[{index}]").expect("a String takes all writes"),
            }
        }
        text
    }
}

#[derive(Debug)]
struct Error {
    message: String,
    /// The field that the object at the reader's path lacks.
    missing: Option<&'static str>,
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Error {
        Error { message: message.to_string(), missing: None }
    }

    fn missing_field(field: &'static str) -> Error {
        Error { message: "required".into(), missing: Some(field) }
    }
}

struct Reader<'a> {
    value: Value,
    context: &'a RefCell<Context>,
}

impl Reader<'_> {
    fn mismatch(&self, expected: &dyn de::Expected) -> Error {
        let found = match &self.value {
            Value::Null => Unexpected::Other("null"),
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => Unexpected::Unsigned(value),
                (_, Some(value), _) => Unexpected::Signed(value),
                (_, _, value) => Unexpected::Float(value.unwrap_or(f64::NAN)),
            },
            Value::String(value) => Unexpected::Str(value),
            Value::Array(_) => Unexpected::Other("a list"),
            Value::Object(_) => Unexpected::Other("an object"),
        };
        de::Error::invalid_type(found, expected)
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let Value::Number(number) = &self.value else { return Err(self.mismatch(&visitor)) };
            match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(self.mismatch(&visitor)),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(_) => self.deserialize_f64(visitor),
            Value::String(_) => self.deserialize_string(visitor),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.mismatch(&visitor)),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_f32 deserialize_f64
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::String(value) => visitor.visit_string(value),
            // YAML reads y, no, on, 1.10 as something else, here as in Kubernetes.
            Value::Bool(_) | Value::Number(_) => {
                Err(de::Error::custom(format_args!("{}: put it in quotes", self.mismatch(&visitor))))
            }
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items { items: items.into_iter(), at: 0, context: self.context }),
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(fields) => visitor.visit_map(Fields::new(fields, self.context)),
            _ => Err(self.mismatch(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    /// The API's types ask for this when they meet a field that they do not have.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let path = self.context.borrow().path_text();
        self.context.borrow_mut().unknown.push(path);
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier }
}

struct Items<'a> {
    items: std::vec::IntoIter<Value>,
    at: usize,
    context: &'a RefCell<Context>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.next() else { return Ok(None) };
        self.context.borrow_mut().path.push(Segment::Index(self.at));
        self.at += 1;
        let element = seed.deserialize(Reader { value, context: self.context })?;
        self.context.borrow_mut().path.pop();
        Ok(Some(element))
    }
}

struct Fields<'a> {
    fields: serde_json::map::IntoIter,
    value: Value,
    context: &'a RefCell<Context>,
}

impl<'a> Fields<'a> {
    fn new(fields: Map<String, Value>, context: &'a RefCell<Context>) -> Fields<'a> {
        Fields { fields: fields.into_iter(), value: Value::Null, context }
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        let key: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
        let key = seed.deserialize(key)?;
        self.value = value;
        self.context.borrow_mut().path.push(Segment::Field(name));
        Ok(Some(key))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let value = std::mem::take(&mut self.value);
        let value = seed.deserialize(Reader { value, context: self.context })?;
        self.context.borrow_mut().path.pop();
        Ok(value)
    }
}
