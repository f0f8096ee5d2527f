//! Closed sets of words that the API writes as text.

/// Reading and writing of an enum whose variants are called as they are written: `words!(Tier: Admin, Baseline)`. It derives
/// serde's traits with `#[serde(try_from = "String", into = "&'static str")]`; a word that it does not have is refused with
/// those that it has.
macro_rules! words {
    ($type:ident: $($word:ident),*) => {
        impl $type {
            /// As written in a manifest.
            pub fn as_str(self) -> &'static str {
                match self { $($type::$word => stringify!($word),)* }
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<$type, String> {
                match text.as_str() {
                    $(stringify!($word) => Ok($type::$word),)*
                    _ => Err(format!("\"{text}\" is not supported, use {}", [$(stringify!($word)),*].join(", "))),
                }
            }
        }

        impl From<$type> for &'static str {
            fn from(value: $type) -> &'static str {
                value.as_str()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;
