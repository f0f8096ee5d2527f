//! JUnit XML, as continuous integration systems read it: `testsuites` / `testsuite` / `testcase` / `failure`, with the
//! attributes that Jenkins' schema (junit-10.xsd) and its kin know. The same tests give the same bytes: there is no clock in it.

use std::fmt::{self, Write};

/// One test and how it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TestCase {
    /// What is tested.
    pub(crate) name: String,
    /// Why it failed: one line, and more of it.
    pub(crate) failure: Option<(String, String)>,
}

/// The document of one suite.
pub(crate) fn document(tool: &str, suite: &str, cases: &[TestCase]) -> String {
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\"", cases.len());
    let (tool, suite) = (Escaped(tool), Escaped(suite));
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(text, "<testsuites name=\"{tool}\" {counts} time=\"0\">");
    let _ = writeln!(text, "  <testsuite name=\"{suite}\" {counts} skipped=\"0\" time=\"0\">");
    for case in cases {
        let name = Escaped(&case.name);
        let _ = write!(text, "    <testcase classname=\"{suite}\" name=\"{name}\" time=\"0\"");
        let _ = match &case.failure {
            None => writeln!(text, "/>"),
            Some((message, details)) => {
                let (message, details) = (Escaped(message), Escaped(details));
                let failure = format_args!("<failure type=\"mismatch\" message=\"{message}\">{details}</failure>");
                writeln!(text, ">\n      {failure}\n    </testcase>")
            }
        };
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// Text as it may stand in an attribute or between tags. What XML 1.0 has no way to write (most control characters) becomes
/// the replacement character.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&apos;"),
            // As they are, an attribute would lose them.
            '\n' | '\r' | '\t' => write!(f, "&#{};", u32::from(character)),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}'),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_counts_its_tests_and_tells_its_failures() {
        let cases = [
            TestCase { name: "a to b".to_owned(), failure: None },
            TestCase { name: "b to a".to_owned(), failure: Some(("denied".to_owned(), "one\ntwo".to_owned())) },
        ];
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="tool" tests="2" failures="1" errors="0" time="0">
  <testsuite name="file.yaml" tests="2" failures="1" errors="0" skipped="0" time="0">
    <testcase classname="file.yaml" name="a to b" time="0"/>
    <testcase classname="file.yaml" name="b to a" time="0">
      <failure type="mismatch" message="denied">one&#10;two</failure>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(document("tool", "file.yaml", &cases), expected);
    }

    #[test]
    fn no_text_breaks_out_of_its_place() {
        let escaped = Escaped("<a b=\"c\">&'\u{1b}\u{0}\t\u{ffff}ü").to_string();
        assert_eq!(escaped, "&lt;a b=&quot;c&quot;&gt;&amp;&apos;\u{fffd}\u{fffd}&#9;\u{fffd}ü");
    }
}
