//! What compiling and looking up cost. Not benchmarks: bounds that only an algorithm of the wrong order misses.

use crate::harness::{Line, check_compiled, cluster, open_gateway, outcome, route_of, service, services};
use policy::cluster::Cluster;
use policy::routes::{self, RouteOptions, Routes};
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Ingresses `h0.example.com` and so on, each with four paths to four Services of its own among `services`.
fn shops(ingresses: usize, services: usize) -> Cluster {
    let mut yaml: String = (0..services).map(|number| service("default", &format!("s{number}"))).collect();
    for number in 0..ingresses {
        let paths = (0..4).map(|path| {
            let name = number * 4 + path;
            format!(
                "{{path: /p{path}, pathType: Prefix, backend: {{service: {{name: s{name}, port: {{number: 8080}}}}}}}}"
            )
        });
        let paths = paths.collect::<Vec<_>>().join(", ");
        writeln!(
            yaml,
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: i{number}, namespace: default}}
spec: {{rules: [{{host: h{number}.example.com, http: {{paths: [{paths}]}}}}]}}"
        )
        .expect("a String takes all writes");
    }
    cluster(&yaml)
}

/// The shortest of several runs, which had the processor to itself.
fn best(mut run: impl FnMut()) -> Duration {
    let times = (0..7).map(|_| {
        let begin = Instant::now();
        run();
        begin.elapsed()
    });
    times.min().expect("there are runs")
}

#[test]
fn a_thousand_ingresses_among_five_thousand_services_compile_at_once() {
    let cluster = shops(1_000, 5_000);
    let compile = || routes::compile(&cluster, &RouteOptions::default());
    check_compiled(&compile(), &[("http://h999.example.com/p3/x", "s3999:8080")]);
    let time = best(|| drop(black_box(compile())));
    assert!(time < Duration::from_secs(3), "{time:?} unoptimized");
}

#[test]
fn a_lookup_among_a_thousand_ingresses_takes_as_long_as_among_ten() {
    let routes = |ingresses| routes::compile(&shops(ingresses, 40), &RouteOptions::default()).routes;
    let (few, many) = (routes(10), routes(1_000));
    let hits = [Line::new("http://h9.example.com/p3/x/y/z"), Line::new("http://h9.example.com/none/such")];
    let misses = [Line::new("http://none.example.com/p3"), Line::new("http://a.b.c.d.e/")];
    let look = |routes: &Routes| {
        for _ in 0..2_000 {
            for line in hits.iter().chain(&misses) {
                black_box(routes.find(&line.request()));
            }
        }
    };
    assert_eq!(outcome(&many, &hits[0].request()), "s39:8080");
    let (among_few, among_many) = (best(|| look(&few)), best(|| look(&many)));
    assert!(among_many < 8 * among_few, "{among_many:?} among many, {among_few:?} among few");
}

#[test]
fn a_lookup_allocates_nothing() {
    let rule = "{path: {type: PathPrefix, value: /a}, method: GET, headers: [{name: version, value: one}], queryParams: [{name: q, value: 'a b'}]}";
    let yaml = open_gateway() + &route_of("r", "'*.example.com'", &[(rule, "v1")]) + &services(&["v1"]);
    let compiled = routes::compile(&cluster(&yaml), &RouteOptions::default());
    let lines = [
        ("http://a.b.example.com/a/b?x=1&q=a+b [version: one]", "v1:8080"),
        ("http://a.b.example.com/a/b?q=x [version: one]", "404"),
        ("http://a.b.example.org/", "404"),
    ];
    for (line, expected) in lines {
        let line = Line::new(line);
        assert_eq!(outcome(&compiled.routes, &line.request()), expected);
        let counted = allocation_counter::measure(|| {
            black_box(compiled.routes.find(&line.request()));
        });
        assert_eq!(counted.count_total, 0, "{expected}");
    }
    let boxed = allocation_counter::measure(|| drop(black_box(Box::new(1))));
    assert_eq!(boxed.count_total, 1, "allocations are counted");
}
