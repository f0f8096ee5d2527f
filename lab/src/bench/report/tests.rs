use super::*;
use serde_json::json;

#[test]
fn the_median_of_an_even_number_lies_between_the_middle_two() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
}

#[test]
fn ratios_compare_medians_on_the_same_path() {
    let mut report = Report::new(Options { rounds: 3, seconds: 1, ..Options::QUICK });
    for value in [10.0, 30.0, 20.0] {
        report.add(System::KernelBridge, Path::SameNode, Metric::TcpGbps, value);
        report.add(System::Podplane, Path::SameNode, Metric::TcpGbps, value * 1.5);
        report.add(System::KernelVxlan, Path::TwoNodes, Metric::TcpGbps, value);
    }
    assert_eq!(report.ratios.len(), 1, "{:?}", report.ratios);
    assert_eq!((report.ratios[0].path, report.ratios[0].ratio), (Path::SameNode, 1.5));
    let table = report.table();
    assert!(table.contains("20.0") && table.contains("30.0") && table.contains("1.50"), "{table}");
}

#[test]
fn an_answer_without_figures_is_no_answer() {
    assert_eq!(Workload::Tcp.read(&json!({"error": "unable to connect"})), None);
    let answer = json!({"end": {"sum_received": {"bits_per_second": 2.5e9}}});
    assert_eq!(Workload::Tcp.read(&answer), Some(vec![(Metric::TcpGbps, 2.5)]));
}
