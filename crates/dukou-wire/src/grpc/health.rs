//! `grpc.health.v1.Health`: whether a server answers, as Kubernetes and load balancers ask it.

use prost::Message;

use super::{method_of, written};

/// The service.
pub const SERVICE: &str = "grpc.health.v1.Health";

/// Whether a path is `Check`'s.
pub fn is_check(path: &str) -> bool {
    method_of(path, SERVICE) == Some("Check")
}

/// Whether a path is `Watch`'s.
pub fn is_watch(path: &str) -> bool {
    method_of(path, SERVICE) == Some("Watch")
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    /// 1: serving, 2: not serving.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// How the server is, behind room for the envelope. The name of a service is not looked at, as Triton
/// does not: they are all of one server.
pub fn encode(serving: bool) -> Vec<u8> {
    written(&HealthCheckResponse { status: if serving { 1 } else { 2 } })
}
