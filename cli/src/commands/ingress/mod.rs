//! `podplane ingress`: the Ingress and Gateway proxy on manifests, or on a cluster's API server.
//!
//! The main thread follows the source and signals, and hands routes over; the proxy's threads serve. A path that changes takes
//! effect without anything being restarted: connections, and WebSockets among them, go on.

mod flags;
mod report;

use crate::output::{self, Answer, Context, Failure, OutputFormat};
use control::following::Following;
use control::kubernetes::write::Publisher;
use control::source::Wake;
pub(crate) use flags::IngressArgs;
use gateway::HealthServer;
use gateway::http::{HttpServer, StartError};
use policy::objects::{Kind, Problem};
use policy::routes::{Compiled, RouteOptions, Routes, compile_checked};
use report::Report;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

/// What is told when the proxy is ready.
#[derive(Serialize)]
struct Ready {
    http: SocketAddr,
    https: SocketAddr,
    healthz: Option<SocketAddr>,
    routes: usize,
    ingresses: usize,
    http_routes: usize,
}

impl Ready {
    fn text(&self) -> String {
        format!(
            "serving HTTP on {}, HTTPS on {}; {} from {} and {}\n",
            self.http,
            self.https,
            output::count(self.routes, "route", "routes"),
            output::count(self.ingresses, "Ingress", "Ingresses"),
            output::count(self.http_routes, "HTTPRoute", "HTTPRoutes"),
        )
    }
}

/// Serves until it is told to stop.
pub(crate) fn run(args: IngressArgs, context: &Context) -> Result<Answer, Failure> {
    let failed = |what: &str, error: std::io::Error| Failure::Failed(format!("{what}: {error}"));
    let (mut source, stop) = args.open()?;
    let server = HttpServer::start(args.server_config()).map_err(|error| start_failure(&error))?;
    let health = args.healthz_listen.map(|address| server.serve_health(address)).transpose();
    let health = health.map_err(|error| start_failure(&error))?;
    let options = args.route_options(&server);
    let publisher = args.publisher()?;
    let report = Report::default();
    let mut proxy = RunningProxy { server, health, options, publisher, report, is_ready: false };
    loop {
        proxy.look(&mut source, context)?;
        match source.wait(stop.as_fd()).map_err(|error| failed("following the source", error))? {
            Wake::Look => {}
            Wake::Stop => break,
        }
    }
    proxy.drain(args.drain_timeout());
    Ok(Answer::Yes)
}

/// What the main thread has in hand.
struct RunningProxy {
    server: HttpServer,
    health: Option<HealthServer>,
    options: RouteOptions,
    publisher: Option<Publisher>,
    report: Report,
    is_ready: bool,
}

impl RunningProxy {
    /// Puts in force what the source says, if that has changed.
    fn look(&mut self, source: &mut Following, context: &Context) -> Result<(), Failure> {
        let Some(update) = source.refresh() else {
            self.server.retry();
            self.report.of_server(self.server.problems());
            return Ok(());
        };
        // Until something was read, clients wait: that there is no route is not known.
        if update.tables.is_none() {
            self.report.of_manifests(update.problems);
            self.report.waiting();
            return Ok(());
        }
        let check = |certificate: &_| self.server.check_certificate(certificate);
        let Compiled { routes, statuses, problems } = compile_checked(source.cluster(), &self.options, &check);
        let ready = Ready {
            http: self.server.http_address(),
            https: self.server.https_address(),
            healthz: self.health.as_ref().map(HealthServer::address),
            routes: routes.rules().len(),
            ingresses: sources(&routes, Kind::Ingress),
            http_routes: sources(&routes, Kind::HTTPRoute),
        };
        self.server.set_routes(Arc::new(routes));
        let problems: Vec<Problem> = update.problems.into_iter().chain(problems).collect();
        if let Some(publisher) = &self.publisher {
            publisher.publish(source.cluster(), statuses, &problems);
        }
        self.report.of_manifests(problems);
        self.report.of_server(self.server.problems());
        if !self.is_ready {
            self.is_ready = true;
            if let Some(health) = &self.health {
                health.set_ready(true);
            }
            tell_ready(&ready, context)?;
        }
        Ok(())
    }

    fn drain(self, grace: std::time::Duration) {
        if let Some(health) = &self.health {
            health.set_ready(false);
        }
        let cut = self.server.stop(grace).wait();
        if cut > 0 {
            let connections = output::count(cut, "connection was", "connections were");
            output::warn(&format!("{connections} still open after {} s, and cut", grace.as_secs()));
        }
    }
}

/// Objects of `kind` that rules come from.
fn sources(routes: &Routes, kind: Kind) -> usize {
    let objects = routes.rules().iter().map(|rule| &rule.source.object);
    objects.filter(|object| object.kind == kind.as_str()).collect::<BTreeSet<_>>().len()
}

/// One line, so that whoever starts the proxy can wait for it.
fn tell_ready(ready: &Ready, context: &Context) -> Result<(), Failure> {
    let line = match context.output {
        OutputFormat::Json => serde_json::to_string(ready).map_err(|error| Failure::Failed(error.to_string()))? + "\n",
        _ => ready.text(),
    };
    output::print(&line)
}

/// What to do about an address that cannot be bound.
fn start_failure(error: &StartError) -> Failure {
    let StartError::Bind(address, why) = error else { return Failure::Failed(error.to_string()) };
    let port = address.port();
    let advice = match why.kind() {
        ErrorKind::AddrInUse => {
            format!(
                "another program listens there (`ss -ltnp 'sport = :{port}'` names it): end it, or choose another port"
            )
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE: choose another \
                                        port, such as 8080"
                .to_owned()
        }
        ErrorKind::AddrNotAvailable => {
            "no interface has this address: choose one that `ip address` shows, or 0.0.0.0 or \
                                        [::] for all"
                .to_owned()
        }
        _ => "choose another address".to_owned(),
    };
    Failure::BadInput(format!("{error}: {advice}"))
}
