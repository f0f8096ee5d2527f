//! HTTP/2 and gRPC on both sides.

use crate::harness::{Backend, DEADLINE, TestProxy, endpoints, eventually, field, rule_of};
use bytes::Bytes;
use gateway::http::Config;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, channel::Channel};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use policy::routes::BackendProtocol;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::runtime::{Builder, LocalOptions};

#[derive(Clone, Copy)]
struct Tasks;

impl<F: Future + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// Runs `test` on a runtime of its own, with a deadline.
fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time") });
}

async fn client(proxy: &TestProxy) -> SendRequest<Body> {
    let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let (requests, connection) = handshake(Tasks, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    requests
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://shop.example{path}")).body(Full::default().boxed()).unwrap()
}

/// A gRPC server: sends back each message as it comes, then its trailers.
async fn grpc_server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                assert_eq!(request.headers().get("te").unwrap(), "trailers");
                let (mut sender, body) = Channel::<Bytes>::new(1);
                tokio::task::spawn_local(async move {
                    let mut incoming = request.into_body();
                    while let Some(Ok(frame)) = incoming.frame().await {
                        if let Ok(data) = frame.into_data() {
                            sender.send_data(data).await.unwrap();
                        }
                    }
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    sender.send_trailers(trailers).await.unwrap();
                });
                let answer = Response::builder().header("content-type", "application/grpc").body(body);
                Ok::<_, Infallible>(answer.unwrap())
            });
            let serving =
                hyper::server::conn::http2::Builder::new(Tasks).serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(serving);
        }
    });
    address
}

#[test]
fn http_2_with_prior_knowledge_reaches_a_backend_of_http_11() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let proxy = TestProxy::to(&backend);
    run(async {
        let mut requests = client(&proxy).await;
        for _ in 0..3 {
            let answer = requests.send_request(get("/a?b")).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
    });
    let head = backend.head();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert_eq!(field(&head, "host"), Some("shop.example"));
    assert_eq!(proxy.counts().connections, 1);
}

#[test]
fn grpc_streams_both_ways_and_ends_with_its_trailers() {
    run(async {
        let target = endpoints(&[grpc_server().await], BackendProtocol::H2c);
        let proxy = TestProxy::start(Config::default(), vec![("/", rule_of(vec![(1, target)]))]);
        let mut requests = client(&proxy).await;
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let request = Request::post("http://shop.example/shop.Cart/Watch")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body.boxed())
            .unwrap();
        let answer = requests.send_request(request).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let mut incoming = answer.into_body();
        for message in ["one", "two", "three"] {
            sender.send_data(Bytes::from(message)).await.unwrap();
            let frame = incoming.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message);
        }
        drop(sender);
        let trailers = incoming.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert!(incoming.frame().await.is_none());
        // Further calls share the connection to the backend.
        for _ in 0..5 {
            let body = Full::from("x").boxed();
            let request = Request::post("http://shop.example/a").header("te", "trailers").body(body).unwrap();
            let answer = requests.send_request(request).await.unwrap();
            let collected = answer.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        }
        assert_eq!(proxy.counts().backend_connections, 1);
    });
}

#[test]
fn many_calls_at_once_open_one_connection_to_the_backend() {
    run(async {
        let target = endpoints(&[grpc_server().await], BackendProtocol::H2c);
        let proxy = TestProxy::start(Config::default(), vec![("/", rule_of(vec![(1, target)]))]);
        let requests = client(&proxy).await;
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let mut requests = requests.clone();
                tokio::task::spawn_local(async move {
                    let request = Request::post("http://shop.example/a").header("te", "trailers");
                    let body = Full::from("x").boxed();
                    let answer = requests.send_request(request.body(body).unwrap()).await.unwrap();
                    answer.into_body().collect().await.unwrap().to_bytes()
                })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), "x");
        }
        assert_eq!(proxy.counts().backend_connections, 1);
    });
}

#[test]
fn grpc_is_refused_in_its_own_words() {
    let proxy =
        TestProxy::start(Config::default(), vec![("/none", rule_of(vec![(1, endpoints(&[], BackendProtocol::H2c))]))]);
    run(async {
        let mut requests = client(&proxy).await;
        for (path, code) in [("/none", "14"), ("/", "12")] {
            let mut request = get(path);
            request.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
            let answer = requests.send_request(request).await.unwrap();
            assert_eq!(
                (answer.status(), &answer.headers()["grpc-status"]),
                (StatusCode::OK, &http::HeaderValue::from_static(code))
            );
        }
    });
}

#[test]
fn a_host_field_that_differs_from_the_authority_is_refused() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::to(&backend);
    run(async {
        let mut requests = client(&proxy).await;
        let mut request = get("/");
        request.headers_mut().insert("host", "other.example".parse().unwrap());
        assert_eq!(requests.send_request(request).await.unwrap().status(), StatusCode::BAD_REQUEST);
        assert_eq!(requests.send_request(get("/a/../b")).await.unwrap().status(), StatusCode::BAD_REQUEST);
    });
    assert!(backend.is_untouched());
}

#[test]
fn draining_tells_http_2_clients_to_go_away() {
    let backend = Backend::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let proxy = TestProxy::to(&backend);
    run(async {
        let mut requests = client(&proxy).await;
        requests.send_request(get("/")).await.unwrap();
        proxy.drain();
        while !requests.is_closed() {
            tokio::task::yield_now().await;
        }
    });
    eventually("the connection is over", || proxy.open().0 == 0);
}
