//! What is wrong with a source, told so that a person finds the line: file, document, object, field, reason.

use super::object::{Kind, ObjectRef, Source};
use std::fmt;
use std::sync::Arc;

/// What a problem did to the object that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing: the object is in force as written, or is of a kind that this program does not use.
    Warning,
    /// The object is in force, but a rule of it is closed because part of it is not understood: it accepts nothing.
    Closed,
    /// The object is refused; the rest of the source is in force.
    Refused,
    /// The document (or the whole file) is not YAML or JSON.
    Unreadable,
}

impl Severity {
    /// Whether something that was asked for is not in force.
    pub fn is_error(self) -> bool {
        self > Severity::Warning
    }
}

/// One thing that is wrong with a source. Displayed as `file: Kind namespace/name: field: message`, or as
/// `file:line:column: message` when the text could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Name of the source.
    pub file: Arc<str>,
    /// Position of the document in the source, from 1; 0 when the problem is not about one document.
    pub document: u32,
    /// Line and column in the source, from 1, for text that cannot be read.
    pub position: Option<(u32, u32)>,
    /// The object, when there is one.
    pub object: Option<ObjectRef>,
    /// Path of the field, such as `spec.ingress[0].from[1].ipBlock.cidr`; empty when the object as a whole is meant.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What it did.
    pub severity: Severity,
}

/// Why a text is neither YAML nor JSON.
#[derive(Clone, Debug)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) message: String,
}

impl Problem {
    /// A problem of a whole source, such as a file that cannot be opened.
    pub fn unreadable(file: &str, message: impl Into<String>) -> Problem {
        Problem {
            file: file.into(),
            document: 0,
            position: None,
            object: None,
            field: String::new(),
            message: message.into(),
            severity: Severity::Unreadable,
        }
    }

    pub(crate) fn syntax(source: &Source, error: SyntaxError) -> Problem {
        Problem {
            document: source.document,
            position: Some((error.line, error.column)),
            ..Problem::unreadable(&source.file, error.message)
        }
    }

    /// A problem of one object.
    pub fn of(
        source: &Source,
        object: ObjectRef,
        field: impl Into<String>,
        message: impl Into<String>,
        severity: Severity,
    ) -> Problem {
        Problem {
            file: source.file.clone(),
            document: source.document,
            position: None,
            object: Some(object),
            field: field.into(),
            message: message.into(),
            severity,
        }
    }
}

impl Problem {
    /// Says in the message what holds without a refused policy of which no earlier form is in force. Other problems stay as
    /// they are.
    pub fn note_absence(&mut self) {
        let kind = self.object.as_ref().and_then(|object| Kind::find(&object.kind));
        let opened = match kind.filter(|_| self.severity == Severity::Refused) {
            Some(Kind::NetworkPolicy) => "pods that only it isolates are open",
            Some(Kind::ClusterNetworkPolicy) => "what it denies is judged without it",
            _ => return,
        };
        self.message.push_str("; nothing of it is in force: ");
        self.message.push_str(opened);
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match &self.object {
            Some(object) if object.name.is_empty() => write!(f, ": {object} (document {})", self.document)?,
            Some(object) => write!(f, ": {object}")?,
            None if self.document > 1 && self.position.is_none() => write!(f, ": document {}", self.document)?,
            None => {}
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Problem {}
