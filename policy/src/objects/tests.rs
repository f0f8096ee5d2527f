use super::*;

/// The problems of `text`, displayed.
fn problems(text: &str) -> Vec<String> {
    parse("f.yaml", text).problems.iter().map(Problem::to_string).collect()
}

/// The names of the objects of `text`.
fn objects(text: &str) -> Vec<String> {
    parse("f.yaml", text).objects.iter().map(|sourced| sourced.object.reference().to_string()).collect()
}

#[test]
fn a_broken_document_names_its_line_and_spoils_only_itself() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Pod\n  x: [\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    assert_eq!(problems(text), ["f.yaml:6:4: mapping values are not allowed in this context"]);
    assert_eq!(objects(text), ["Namespace a", "Namespace b"]);
    assert_eq!(parse("f.yaml", text).problems[0].severity, Severity::Unreadable);
}
