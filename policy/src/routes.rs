//! HTTP routes: what Ingresses, Gateways and HTTPRoutes say, compiled to what the proxy looks up for each request.
//!
//! In: the objects of a cluster and the proxy's own ports. Out: [`Routes`], immutable, one value for a generation; a request costs a
//! lookup of its host and of its path, however many objects there are.

mod compile;
mod conditions;
mod explain;
mod hosts;
mod lookup;
mod paths;
mod table;

pub use compile::{
    BACKEND_PROTOCOL_ANNOTATION, CertificateCheck, Compiled, SSL_REDIRECT_ANNOTATION, Statuses, compile,
    compile_checked,
};
pub use explain::{Explanation, Passed};
pub use table::{
    BackendProtocol, Certificate, CertificateId, Endpoints, Filter, Forward, Found, HeaderChanges, HostRewrite,
    Outcome, PathRewrite, PortRoutes, Redirect, Request, RouteOptions, Routes, Rule, RuleRef, Target, Timeouts,
    WeightedTarget,
};
