//! What rules do to requests and answers.

use crate::harness::{
    Backend, TestProxy, endpoints, eventually, field, fields, rule, rule_of, rule_with, with_filters,
};
use gateway::http::Config;
use policy::routes::{BackendProtocol, Filter, HeaderChanges, HostRewrite, Outcome, PathRewrite, Redirect};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const OK: &str = "HTTP/1.1 200 OK\r\nServer: theirs\r\nContent-Length: 0\r\n\r\n";

fn changes(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderChanges {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    HeaderChanges {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

#[test]
fn fields_of_requests_and_answers_change() {
    let backend = Backend::answering(OK);
    let filters = vec![
        Filter::RequestHeaders(changes(
            &[("x-set", "1"), ("x-forwarded-proto", "https")],
            &[("x-add", "2")],
            &["cookie"],
        )),
        Filter::ResponseHeaders(changes(&[("x-answer", "3")], &[], &["server"])),
    ];
    let proxy = TestProxy::start(Config::default(), vec![("/", with_filters(rule(&[backend.address]), filters))]);
    let answer = proxy.client().ask("GET / HTTP/1.1\r\nHost: a\r\nX-Set: 0\r\nX-Add: 1\r\nCookie: c\r\n\r\n");
    assert_eq!((answer.field("x-answer"), answer.field("server")), (Some("3"), None));
    let head = backend.head();
    assert_eq!(fields(&head, "x-set"), ["1"]);
    assert_eq!(fields(&head, "x-add"), ["1", "2"]);
    assert_eq!(fields(&head, "x-forwarded-proto"), ["https"], "a rule has the last word");
    assert_eq!(field(&head, "cookie"), None);
}

#[test]
fn filters_of_a_backend_hold_for_it_alone() {
    let (one, other) = (Backend::answering(OK), Backend::answering(OK));
    let target = |backend: &Backend| endpoints(&[backend.address], BackendProtocol::Http1);
    let mut rule = rule_of(vec![(1, target(&one)), (1, target(&other))]);
    let Outcome::Forward(forward) = &mut rule.outcome else { unreachable!() };
    forward.targets[0].filters = vec![Filter::RequestHeaders(changes(&[("x-one", "1")], &[], &[]))];
    let proxy = TestProxy::start(Config::default(), vec![("/", rule)]);
    let mut client = proxy.client();
    for _ in 0..10 {
        client.get("/");
    }
    assert_eq!(field(&one.head(), "x-one"), Some("1"));
    assert_eq!(field(&other.head(), "x-one"), None);
}

#[test]
fn hosts_and_paths_are_rewritten_and_the_query_stays() {
    let backend = Backend::answering(OK);
    let rewrite = |host: Option<&str>, path| {
        vec![Filter::Rewrite { host: host.map(|host| HostRewrite(host.parse().unwrap())), path }]
    };
    let rule = |filters| with_filters(rule(&[backend.address]), filters);
    let proxy = TestProxy::start(
        Config::default(),
        vec![
            ("/host", rule(rewrite(Some("other.example"), None))),
            ("/full", rule(rewrite(None, Some(PathRewrite::Full("/whole".into()))))),
            ("/prefix", rule(rewrite(None, Some(PathRewrite::Prefix("/new/".into()))))),
            ("/root", rule(rewrite(None, Some(PathRewrite::Prefix("/".into()))))),
        ],
    );
    let check = |path: &str, expected: &str, host: &str| {
        proxy.client().get(path);
        let head = backend.head();
        assert!(head.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{path}: {head}");
        assert_eq!(field(&head, "host"), Some(host));
        assert_eq!(field(&head, "x-forwarded-host"), Some("shop.example"));
    };
    check("/host/a?q", "/host/a?q", "other.example");
    check("/full/a?q", "/whole?q", "shop.example");
    check("/prefix/a/b?q=1", "/new/a/b?q=1", "shop.example");
    check("/prefix", "/new/", "shop.example");
    check("/root/a", "/a", "shop.example");
    check("/root", "/", "shop.example");
}

#[test]
fn redirects_say_where_and_reach_no_backend() {
    let to_https = Redirect { scheme: Some("https"), host: None, path: None, port: None, status: 301 };
    let elsewhere = Redirect {
        scheme: None,
        host: Some("other.example".into()),
        path: Some(PathRewrite::Prefix("/b".into())),
        port: Some(8080),
        status: 307,
    };
    let proxy = TestProxy::start(
        Config::default(),
        vec![("/", rule_with(Outcome::Redirect(to_https))), ("/a", rule_with(Outcome::Redirect(elsewhere)))],
    );
    let mut client = proxy.client();
    let answer = client.get("/x?y=z");
    assert_eq!((answer.status(), answer.field("location")), (301, Some("https://shop.example/x?y=z")));
    let answer = client.get("/a/c");
    assert_eq!((answer.status(), answer.field("location")), (307, Some("http://other.example:8080/b/c")));
    assert_eq!(proxy.counts().answers_3xx, 2);
}

#[test]
fn weights_share_requests() {
    let counted = || {
        let count = Arc::new(AtomicUsize::new(0));
        let counting = count.clone();
        let backend = Backend::start(move |served| {
            while served.read_request().is_some() {
                counting.fetch_add(1, Ordering::SeqCst);
                served.stream.send(OK);
            }
        });
        (backend, count)
    };
    let ((one, ones), (nine, nines), (never, nevers)) = (counted(), counted(), counted());
    let target = |backend: &Backend| endpoints(&[backend.address], BackendProtocol::Http1);
    let rule = rule_of(vec![(10, target(&one)), (90, target(&nine)), (0, target(&never))]);
    let proxy = TestProxy::start(Config::default(), vec![("/", rule)]);
    let mut client = proxy.client();
    for _ in 0..100 {
        client.get("/");
    }
    let shares = [&ones, &nines, &nevers].map(|count| count.load(Ordering::SeqCst));
    assert!((8..=12).contains(&shares[0]) && shares[0] + shares[1] == 100 && shares[2] == 0, "{shares:?}");
}

#[test]
fn ten_endpoints_all_get_requests() {
    let backends: Vec<Backend> = (0..10).map(|_| Backend::answering(OK)).collect();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let proxy = TestProxy::start(Config::default(), vec![("/", rule(&addresses))]);
    let mut client = proxy.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").status(), 200);
    }
    assert!(backends.iter().all(|backend| backend.connections() == 1));
}

#[test]
fn a_mirror_gets_a_copy_and_its_answer_is_ignored() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (bodies, mirrored) = std::sync::mpsc::channel();
    let bodies = std::sync::Mutex::new(bodies);
    let mirror = Backend::start(move |served| {
        while let Some((_, body)) = served.read_request() {
            bodies.lock().unwrap().send(body).unwrap();
            served.stream.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let target = endpoints(&[mirror.address], BackendProtocol::Http1);
    let filters = vec![Filter::Mirror { target, numerator: 1, denominator: 1 }];
    let proxy = TestProxy::start(Config::default(), vec![("/", with_filters(rule(&[backend.address]), filters))]);
    let mut client = proxy.client();
    let answer = client.ask("POST /a?b HTTP/1.1\r\nHost: a\r\nX-Y: z\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    let head = mirror.head();
    assert!(head.starts_with("POST /a?b HTTP/1.1\r\n"), "{head}");
    assert_eq!((field(&head, "host"), field(&head, "x-y")), (Some("a"), Some("z")));
    assert_eq!(mirrored.recv_timeout(crate::harness::DEADLINE).unwrap(), b"hello");
    assert_eq!(client.get("/c").status(), 200);
    assert!(mirror.head().starts_with("GET /c "));
    assert_eq!(proxy.counts().mirrors_dropped, 0);
}

#[test]
fn a_mirror_that_is_not_there_is_counted_and_harms_nobody() {
    let backend = Backend::answering(OK);
    let target = endpoints(&[crate::harness::nobody()], BackendProtocol::Http1);
    let filters = vec![Filter::Mirror { target, numerator: 1, denominator: 1 }];
    let proxy = TestProxy::start(Config::default(), vec![("/", with_filters(rule(&[backend.address]), filters))]);
    assert_eq!(proxy.client().get("/").status(), 200);
    eventually("the dropped copy is counted", || proxy.counts().mirrors_dropped == 1);
}

#[test]
fn a_share_of_requests_is_mirrored() {
    let (backend, mirror) = (Backend::answering(OK), Backend::answering(OK));
    let target = endpoints(&[mirror.address], BackendProtocol::Http1);
    let filters = vec![Filter::Mirror { target, numerator: 1, denominator: 4 }];
    let proxy = TestProxy::start(Config::default(), vec![("/", with_filters(rule(&[backend.address]), filters))]);
    let mut client = proxy.client();
    for _ in 0..40 {
        client.get("/");
    }
    let mut copies = 0;
    eventually("a quarter is mirrored", || proxy.counts().backend_connections >= 2);
    while copies < 9 {
        mirror.head();
        copies += 1;
    }
    assert!(copies <= 11);
}
