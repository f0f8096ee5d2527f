//! Which requests the rules of HTTPRoutes take. The tables of the conformance tests of the Gateway API that are about matching are here
//! line by line.

use crate::harness::{check, check_compiled, compiled, open_gateway, route, route_of, services, told};

const V: [&str; 3] = ["v1", "v2", "v3"];
const V1: &str = "v1:8080";
const V2: &str = "v2:8080";
const V3: &str = "v3:8080";

fn check_rules(rules: &[(&str, &str)], requests: &[(&str, &str)]) {
    check(&(open_gateway() + &route_of("matching", "", rules) + &services(&V)), requests);
}

#[test]
fn paths_and_headers_are_matched_within_a_route() {
    let version = |version| format!("{{headers: [{{name: version, value: {version}}}]}}");
    let one = format!("{{path: {{type: PathPrefix, value: /}}}}, {}", version("one"));
    let two = format!("{{path: {{type: PathPrefix, value: /v2}}}}, {}", version("two"));
    check_rules(
        &[(&one, "v1"), (&two, "v2")],
        &[
            ("http://web/", V1),
            ("http://web/example", V1),
            ("http://web/ [version: one]", V1),
            ("http://web/v2", V2),
            ("http://web/v2/example", V2),
            ("http://web/ [version: two]", V2),
            ("http://web/v2/", V2),
            ("http://web/v2example", V1),
            ("http://web/foo/v2/example", V1),
        ],
    );
}

#[test]
fn paths_headers_and_hosts_are_matched_across_routes() {
    let one = "{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}";
    let two = "{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}";
    let yaml = route_of("part1", "example.com, example.net", &[(one, "v1")])
        + &route_of("part2", "example.com", &[(two, "v2")]);
    check(
        &(open_gateway() + &yaml + &services(&V)),
        &[
            ("http://example.com/", V1),
            ("http://example.com/example", V1),
            ("http://example.net/example", V1),
            ("http://example.com/example [version: one]", V1),
            ("http://example.com/v2", V2),
            ("http://example.net/v2", V1),
            ("http://example.com/v2/example", V2),
            ("http://example.com/ [version: two]", V2),
            ("http://example.org/", "404"),
        ],
    );
}

#[test]
fn exact_paths_come_before_prefixes_and_longer_prefixes_before_shorter_ones() {
    let path = |kind: &str, path: &str| format!("{{path: {{type: {kind}, value: {path}}}}}");
    let rules = [
        (path("Exact", "/match"), "v1"),
        (path("Exact", "/match/exact"), "v2"),
        (path("Exact", "/match/exact/one"), "v3"),
        (path("PathPrefix", "/match/"), "v3"),
        (path("PathPrefix", "/match/prefix/"), "v1"),
        (path("PathPrefix", "/match/prefix/one"), "v2"),
    ];
    let rules: Vec<(&str, &str)> = rules.iter().map(|(matches, service)| (matches.as_str(), *service)).collect();
    check_rules(
        &rules,
        &[
            ("http://web/match/exact/one", V3),
            ("http://web/match/exact", V2),
            ("http://web/match", V1),
            ("http://web/match/prefix/one/any", V2),
            ("http://web/match/prefix/any", V1),
            ("http://web/match/any", V3),
        ],
    );
}

#[test]
fn exact_paths_are_matched_letter_by_letter() {
    check_rules(
        &[("{path: {type: Exact, value: /one}}", "v1"), ("{path: {type: Exact, value: /two}}", "v2")],
        &[
            ("http://web/one", V1),
            ("http://web/two", V2),
            ("http://web/", "404"),
            ("http://web/one/example", "404"),
            ("http://web/two/", "404"),
            ("http://web/Two", "404"),
        ],
    );
}

#[test]
fn header_fields_are_matched_and_more_of_them_come_first() {
    let header = |name: &str, value: &str| format!("{{headers: [{{name: {name}, value: {value}}}]}}");
    let both = "{headers: [{name: version, value: two}, {name: color, value: orange}]}";
    let rules = [
        (header("version", "one"), "v1"),
        (header("version", "two"), "v2"),
        (both.to_owned(), "v1"),
        (format!("{}, {}", header("color", "blue"), header("color", "green")), "v1"),
        (format!("{}, {}", header("color", "red"), header("color", "yellow")), "v2"),
    ];
    let rules: Vec<(&str, &str)> = rules.iter().map(|(matches, service)| (matches.as_str(), *service)).collect();
    check_rules(
        &rules,
        &[
            ("http://web/ [Version: one]", V1),
            ("http://web/ [Version: two]", V2),
            ("http://web/ [Version: two] [Color: orange]", V1),
            ("http://web/ [Version: two] [Color: blue]", V2),
            ("http://web/ [Color: orange]", "404"),
            ("http://web/ [Some-Other-Header: one]", "404"),
            ("http://web/ [Color: blue]", V1),
            ("http://web/ [Color: green]", V1),
            ("http://web/ [Color: red]", V2),
            ("http://web/ [Color: yellow]", V2),
            ("http://web/ [Color: purple]", "404"),
        ],
    );
}

#[test]
fn methods_are_matched_and_come_before_header_fields() {
    check_rules(
        &[
            ("{method: POST}", "v1"),
            ("{method: GET}", "v2"),
            ("{path: {type: PathPrefix, value: /path1}, method: GET}", "v1"),
            ("{headers: [{name: version, value: one}], method: PUT}", "v2"),
            ("{path: {type: PathPrefix, value: /path2}, headers: [{name: version, value: two}], method: POST}", "v3"),
            (
                "{path: {type: PathPrefix, value: /path3}, method: PATCH}, {path: {type: PathPrefix, value: /path4}, headers: [{name: version, value: three}], method: DELETE}",
                "v1",
            ),
            ("{path: {type: PathPrefix, value: /path5}}", "v1"),
            ("{method: PATCH}", "v2"),
            ("{headers: [{name: version, value: four}]}", "v3"),
        ],
        &[
            ("POST http://web/", V1),
            ("GET http://web/", V2),
            ("HEAD http://web/", "404"),
            ("GET http://web/path1", V1),
            ("PUT http://web/ [version: one]", V2),
            ("POST http://web/path2 [version: two]", V3),
            ("PATCH http://web/path3", V1),
            ("DELETE http://web/path4 [version: three]", V1),
            ("PUT http://web/", "404"),
            ("DELETE http://web/path4", "404"),
            ("PATCH http://web/path5", V1),
            ("PATCH http://web/ [version: four]", V2),
        ],
    );
}

#[test]
fn query_parameters_are_matched_and_come_after_header_fields() {
    let whale = "queryParams: [{name: animal, value: whale}]";
    let rules = [
        (format!("{{{whale}}}"), "v1"),
        ("{queryParams: [{name: animal, value: dolphin}]}".into(), "v2"),
        (
            "{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}, {queryParams: [{name: ANIMAL, value: Whale}]}".into(),
            "v3",
        ),
        (format!("{{path: {{type: PathPrefix, value: /path1}}, {whale}}}"), "v1"),
        (format!("{{headers: [{{name: version, value: one}}], {whale}}}"), "v2"),
        (format!("{{path: {{type: PathPrefix, value: /path2}}, headers: [{{name: version, value: two}}], {whale}}}"), "v3"),
        (
            "{path: {type: PathPrefix, value: /path3}, queryParams: [{name: animal, value: shark}]}, {path: {type: PathPrefix, value: /path4}, headers: [{name: version, value: three}], queryParams: [{name: animal, value: kraken}]}".into(),
            "v1",
        ),
        ("{path: {type: PathPrefix, value: /path5}}".into(), "v1"),
        ("{queryParams: [{name: animal, value: hydra}]}".into(), "v2"),
        ("{headers: [{name: version, value: four}]}".into(), "v3"),
    ];
    let rules: Vec<(&str, &str)> =
        rules.iter().map(|(matches, service): &(String, &str)| (matches.as_str(), *service)).collect();
    check_rules(
        &rules,
        &[
            ("http://web/?animal=whale", V1),
            ("http://web/?animal=dolphin", V2),
            ("http://web/?animal=dolphin&color=blue", V3),
            ("http://web/?ANIMAL=Whale", V3),
            ("http://web/?animal=whale&otherparam=irrelevant", V1),
            ("http://web/?animal=dolphin&color=yellow", V2),
            ("http://web/?color=blue", "404"),
            ("http://web/?animal=dog", "404"),
            ("http://web/?animal=whaledolphin", "404"),
            ("http://web/", "404"),
            ("http://web/path1?animal=whale", V1),
            ("http://web/?animal=whale [version: one]", V2),
            ("http://web/path2?animal=whale [version: two]", V3),
            ("http://web/path3?animal=shark", V1),
            ("http://web/path4?animal=kraken [version: three]", V1),
            ("http://web/?animal=shark", "404"),
            ("http://web/path4?animal=kraken", "404"),
            ("http://web/path5?animal=hydra", V1),
            ("http://web/?animal=hydra [version: four]", V3),
        ],
    );
}

#[test]
fn regular_expressions_match_whole_paths_values_and_parameters() {
    check_rules(
        &[
            ("{path: {type: RegularExpression, value: '/user/[0-9]+'}}", "v1"),
            ("{headers: [{type: RegularExpression, name: version, value: 'v(1|2)'}]}", "v2"),
            ("{queryParams: [{type: RegularExpression, name: id, value: '[a-f]*'}]}", "v3"),
        ],
        &[
            ("http://web/user/17", V1),
            ("http://web/user/17/x", "404"),
            ("http://web/x [version: v2]", V2),
            ("http://web/x [version: v21]", "404"),
            ("http://web/x?id=beef", V3),
            ("http://web/x?id=sheep", "404"),
        ],
    );
}

#[test]
fn a_rule_without_matches_and_a_route_without_rules_take_everything() {
    let without_matches = route("web", "parentRefs: [{name: web}], rules: [{backendRefs: [{name: v1, port: 8080}]}]");
    check(&(open_gateway() + &without_matches + &services(&V)), &[("DELETE http://any/x/y?z", V1)]);
    check(&(open_gateway() + &route("web", "parentRefs: [{name: web}]")), &[("http://any/", "500")]);
}

#[test]
fn of_equal_matches_that_of_the_oldest_route_comes_first_then_of_the_first_name_then_the_first_rule() {
    let path = "{path: {type: PathPrefix, value: /x}}";
    let aged = |name: &str, service: &str, time: &str| {
        route_of(name, "", &[(path, service)]).replace("generation: 3", &format!("creationTimestamp: '{time}'"))
    };
    let yaml = aged("a", "v1", "2024-01-02T00:00:00Z")
        + &aged("b", "v2", "2024-01-01T00:00:00Z")
        + &route_of(
            "c",
            "",
            &[
                (path, "v3"),
                ("{path: {type: PathPrefix, value: /y}}", "v3"),
                ("{path: {type: PathPrefix, value: /y/}}", "v1"),
            ],
        )
        + &route_of("d", "", &[("{path: {type: PathPrefix, value: /y}}", "v2")]);
    let compiled = compiled(&(open_gateway() + &yaml + &services(&V)));
    check_compiled(&compiled, &[("http://web/x", V2), ("http://web/y", V3)]);
    assert_eq!(
        told(&compiled),
        [
            "HTTPRoute default/a: spec.rules[0]: no request comes here: */x is taken by HTTPRoute default/b (spec.rules[0]), because it is older",
            "HTTPRoute default/c: spec.rules[0]: no request comes here: */x is taken by HTTPRoute default/b (spec.rules[0]), because it has a creationTimestamp",
            "HTTPRoute default/c: spec.rules[2]: no request comes here: */y/ is taken by spec.rules[1]",
            "HTTPRoute default/d: spec.rules[0]: no request comes here: */y is taken by HTTPRoute default/c (spec.rules[1]), because its name comes first",
        ]
    );
}

#[test]
fn a_longer_hostname_comes_before_a_longer_path_and_what_it_does_not_take_goes_on() {
    let path = |path: &str| format!("{{path: {{type: PathPrefix, value: {path}}}}}");
    let yaml = route_of("exact", "a.b.com", &[(&path("/x"), "v1")])
        + &route_of("wild", "'*.b.com'", &[(&path("/x/y"), "v2"), (&path("/z"), "v2")])
        + &route_of("none", "", &[(&path("/"), "v3")]);
    check(
        &(open_gateway() + &yaml + &services(&V)),
        &[
            ("http://a.b.com/x/y", V1),
            ("http://a.b.com/z", V2),
            ("http://a.b.com/other", V3),
            ("http://c.a.b.com/x/y", V2),
            ("http://b.com/x/y", V3),
        ],
    );
}
