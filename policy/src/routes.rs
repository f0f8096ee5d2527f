//! HTTP routes: what Ingresses, Gateways and HTTPRoutes say, compiled to what the proxy looks up for each request.
//!
//! In: the objects of a cluster and the proxy's own ports. Out: [`Routes`], immutable, one value for a generation; a request costs a
//! lookup of its host and of its path, however many objects there are.

mod table;

pub use table::{
    BackendProtocol, Certificate, CertificateId, Endpoints, Filter, Forward, Found, HeaderChanges, HostRewrite,
    Outcome, PathRewrite, PortRoutes, Redirect, Request, RouteOptions, Routes, Rule, RuleRef, Target, Timeouts,
    WeightedTarget,
};
