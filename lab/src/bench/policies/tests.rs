use super::*;
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::parse;
use policy::tables::Direction;

#[test]
fn a_crowd_is_without_problems_and_its_policies_select_its_pods() {
    let crowd = Crowd { namespaces: 4, pods: 200, policies: 40, each_its_own: true };
    let bench = (1..20).map(|number| (number.to_string(), crowd::closed_policy(number)));
    let files = crowd.files().chain(bench).chain([("open".to_owned(), open_policy())]);
    let parsed: Vec<_> = files.map(|(file, text)| parse(&file, &text)).collect();
    assert!(parsed.iter().all(|parsed| parsed.problems.is_empty()), "{:?}", parsed[0].problems);
    let (cluster, problems) = Cluster::from_objects(parsed.into_iter().flat_map(|parsed| parsed.objects));
    assert_eq!(problems, []);
    let (tables, problems) = compile(&cluster, 1);
    assert_eq!(problems, []);
    assert_eq!((tables.pod_count(), tables.policies.len()), (200, 60));
    for (pod, entry) in tables.pods() {
        assert!(!tables.isolating(Direction::ToPod, pod).is_empty(), "{entry:?}");
    }
}

#[test]
fn median_and_worst_are_of_all_changes_and_a_ratio_is_of_medians() {
    let times = Times::of(|time| Ok(f64::from(time))).expect("nothing fails");
    assert_eq!((times.median, times.worst), (25.5, 50.0));
    let mut comparison = Comparison::new("x");
    [(1.0, 2.0), (3.0, 30.0), (2.0, 1.0)].into_iter().for_each(|(few, many)| comparison.add(few, many));
    assert_eq!(comparison.ratio, 1.0);
}
