//! The Gateway API, `gateway.networking.k8s.io`: GatewayClass, Gateway, HTTPRoute and ReferenceGrant.
//!
//! The types follow the standard channel of version 1.5 field by field, so that an object is written back as it was read; of
//! the experimental channel they have an HTTPRoute's `retry` and `sessionPersistence`. A field that is absent stays absent:
//! what the API server would fill in is told by the method of the field's name. Their meaning is decided where they are
//! compiled, their limits where they are validated.

mod duration;
pub mod filter;
pub mod gateway;
pub mod gateway_class;
pub mod http_route;
mod reference;
pub mod reference_grant;
mod status;

pub use duration::duration;
pub use gateway::Gateway;
pub use gateway_class::GatewayClass;
pub use http_route::HTTPRoute;
pub use reference::{BackendObjectReference, LocalReference, ObjectReference, ParentReference, SecretReference};
pub use reference_grant::ReferenceGrant;
pub use status::{
    GatewayAddress, GatewayClassStatus, GatewayStatus, ListenerStatus, RouteGroupKind, RouteParentStatus, RouteStatus,
    SupportedFeature,
};

/// Group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
