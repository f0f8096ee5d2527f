//! The log: one line per event on standard error, `time=... level=... msg="..." key=value`, for people and log collectors.

use std::fmt::{self, Display, Write as _};
use std::io::Write as _;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something happened that was meant to.
    Info,
    /// Something is not as asked for; the rest works.
    Warn,
    /// Something that was in order does not work.
    Error,
}

impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        })
    }
}

/// Writes one event. A log that cannot be written is no reason to stop.
pub(crate) fn event(level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
    let line = format!("time={:.3} {}\n", jiff::Timestamp::now(), line(level, message, fields));
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

fn line(level: Level, message: &str, fields: &[(&str, &dyn Display)]) -> String {
    let mut line = format!("level={level} msg={message:?}");
    for (key, value) in fields {
        let value = value.to_string();
        let plain =
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'=');
        // Writing to a string cannot fail.
        let _ = if plain { write!(line, " {key}={value}") } else { write!(line, " {key}={value:?}") };
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let text =
            line(Level::Warn, "problem", &[("file", &"a.yaml"), ("reason", &"line 1: \"x\"\nno"), ("empty", &"")]);
        assert_eq!(text, r#"level=warn msg="problem" file=a.yaml reason="line 1: \"x\"\nno" empty="""#);
    }
}
