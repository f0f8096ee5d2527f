//! What must hold for every text. Property tests, the replay of the corpus and the fuzz target call these functions; each
//! panics when the promise is broken.

use crate::cluster::Cluster;
use crate::compile::compile;
use crate::objects::{Problem, parse};

/// Any text is read without a panic; an object that was accepted is accepted again, unchanged, when it is written out; and
/// whatever was accepted compiles. Fields that are not understood are lost when it is written, so what they were reported
/// for is not reported again; values of annotations stay.
pub fn objects_parse(text: &str) {
    let parsed = parse("text", text);
    for sourced in &parsed.objects {
        let written = serde_json::to_string(&sourced.object).expect("an API object is valid JSON");
        let again = parse("written", &written);
        let kept = |problem: &&Problem| !problem.field.starts_with("metadata.annotations.");
        assert_eq!(again.problems.iter().find(kept), None, "{written}");
        assert_eq!(again.objects.len(), 1, "{written}");
        assert_eq!(again.objects[0].object, sourced.object);
    }
    for problem in &parsed.problems {
        assert!(!problem.to_string().is_empty());
    }
    let (cluster, _) = Cluster::from_objects(parsed.objects);
    compile(&cluster, 1);
}
