//! Why devices cannot be allocated at all.

use rkube_api::{
    client::ObjectKey,
    helpers::device_selector::{MatchError, SelectorError},
};

/// Why devices cannot be allocated; the texts are kube-scheduler's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the texts say")]
pub enum AllocateError {
    /// A class is gone.
    #[error(
        "claim {claim}, request {request}: could not retrieve device class {class}: deviceclass.resource.k8s.io {class:?} not found"
    )]
    NoClass { claim: ObjectKey, request: String, class: String },
    /// A request of a form that is not known.
    #[error("claim {claim}, request {request}: missing device class name (unsupported request type?)")]
    UnknownRequest { claim: ObjectKey, request: String },
    /// A way of counting that is not known.
    #[error("claim {claim}, request {request}: unsupported count mode {mode}")]
    Mode { claim: ObjectKey, request: String, mode: String },
    /// A constraint of a form that is not known.
    #[error("claim {claim}, constraint #{index}: empty constraint (unsupported constraint type?)")]
    EmptyConstraint { claim: ObjectKey, index: usize },
    /// An expression of a class is none.
    #[error("class {class}: selector #{index}: CEL compile error: {source}")]
    ClassExpression { class: String, index: usize, source: SelectorError },
    /// An expression of a claim is none.
    #[error("claim {claim}: selector #{index}: CEL compile error: {source}")]
    ClaimExpression { claim: ObjectKey, index: usize, source: SelectorError },
    /// An expression of a class fails on a device.
    #[error("class {class}: selector #{index} on device {device}: CEL runtime error: {source}")]
    ClassMatch { class: String, index: usize, device: String, source: MatchError },
    /// An expression of a claim fails on a device.
    #[error("claim {claim}: selector #{index} on device {device}: CEL runtime error: {source}")]
    ClaimMatch { claim: ObjectKey, index: usize, device: String, source: MatchError },
    /// A request for all devices of a pool that is not all there yet.
    #[error(
        "claim {claim}, request {request}: asks for all devices, but resource pool {pool} is currently being updated"
    )]
    Incomplete { claim: ObjectKey, request: String, pool: String },
    /// A request for all devices of a pool that contradicts itself.
    #[error(
        "claim {claim}, request {request}: asks for all devices, but resource pool {pool} is currently invalid"
    )]
    Invalid { claim: ObjectKey, request: String, pool: String },
    /// A constraint keeps a request from all of its devices.
    #[error(
        "claim {claim}, request {request}: cannot add device {device} because a claim constraint would not be satisfied"
    )]
    Constrained { claim: ObjectKey, request: String, device: String },
    /// More devices than a claim can have.
    #[error("claim {claim}: number of requested devices {devices} exceeds the claim limit of 32")]
    TooMany { claim: ObjectKey, devices: usize },
    /// Nothing was found, and some pools contradict themselves.
    #[error("invalid resource pools were encountered")]
    InvalidPools,
    /// The search was given up.
    #[error("timed out trying to allocate devices")]
    TooManySteps,
}

impl AllocateError {
    /// Whether it is this node's alone, so that another one may do.
    pub fn is_of_node(&self) -> bool {
        matches!(self, Self::InvalidPools | Self::TooManySteps)
    }
}
