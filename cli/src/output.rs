//! What every command shares about its result: text or JSON on standard output, errors on standard error, the exit code.
//!
//! A reader that goes away early (`podplane ... | head`) is not an error and does not change the exit code. Colour is used
//! only when the stream is a terminal and `NO_COLOR` is not set.

use clap::ValueEnum;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Form of a command's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Text,
    /// For programs: one JSON document.
    Json,
    /// For continuous integration: JUnit XML (`policy matrix --expect` only).
    Junit,
}

/// What is the same for all commands of one invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// Asked for with `-o`.
    pub(crate) output: OutputFormat,
}

impl Context {
    /// Prints `value` as JSON, or the lines that `text` gives, whichever was asked for.
    pub(crate) fn show<T: serde::Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self.output {
            OutputFormat::Json => {
                let mut document = serde_json::to_string_pretty(value).map_err(|e| Failure::Failed(e.to_string()))?;
                document.push('\n');
                print(&document)
            }
            OutputFormat::Text => print(&text(value)),
            OutputFormat::Junit => Err(Context::no_junit()),
        }
    }

    /// The failure of commands whose answer is not a list of tests.
    pub(crate) fn no_junit() -> Failure {
        let only = "only `podplane policy matrix --expect FILE` answers as JUnit XML";
        Failure::BadInput(format!("-o junit: {only}; use -o json or -o text here"))
    }
}

/// The answer of a command that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Yes, or done: exit code 0.
    Yes,
    /// No: exit code 1.
    No,
}

/// Why a command gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Something did not work: exit code 1.
    Failed(String),
    /// The user's arguments or files cannot be used: exit code 2.
    BadInput(String),
}

impl Failure {
    /// The exit code of the contract.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Failed(_) => ExitCode::from(1),
            Failure::BadInput(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Failed(text) | Failure::BadInput(text) => f.write_str(text),
        }
    }
}

/// Writes `text` to standard output; a reader that has gone is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_or_gone(text).map(|_| ())
}

/// The same; `false` if the reader has gone.
pub(crate) fn print_or_gone(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}

/// Colours of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Something is wrong.
    Red,
    /// Something deserves a look.
    Yellow,
}

/// `text` in bold colour, if standard output shows colour.
pub(crate) fn paint(text: &str, colour: Colour) -> String {
    paint_for(&io::stdout(), text, colour)
}

fn paint_for(stream: &impl IsTerminal, text: &str, colour: Colour) -> String {
    let wanted = stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let code = match colour {
        Colour::Red => 31,
        Colour::Yellow => 33,
    };
    if wanted { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Writes a failure to standard error. Nothing is left to do if that fails.
pub(crate) fn report(failure: &Failure) {
    let mut err = io::stderr().lock();
    let label = paint_for(&err, "error:", Colour::Red);
    let _ = writeln!(err, "{label} {failure}");
}

/// A number with the word for it.
pub(crate) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Writes a warning to standard error.
pub(crate) fn warn(text: &str) {
    let mut err = io::stderr().lock();
    let label = paint_for(&err, "warning:", Colour::Yellow);
    let _ = writeln!(err, "{label} {text}");
}

/// Says on standard error what a long command is doing.
pub(crate) fn progress(text: &str) {
    let _ = writeln!(io::stderr().lock(), "==> {text}");
}
