//! NamespaceLifecycle: nothing new in a namespace that is absent or going away; three namespaces stay.
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#namespacelifecycle>

use async_trait::async_trait;
use rkube_store::Check;

use super::{Admission, AdmissionRequest, Operation};
use crate::{
    error::{ApiError, Cause},
    pipeline::{Call, forbidden, marker},
    registry::Scope,
};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamespaceLifecycle;

#[async_trait]
impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        match request.operation() {
            // A question makes nothing.
            Operation::Create => {
                let definition = request.definition();
                definition.scope == Scope::Namespaced && definition.answer.is_none()
            }
            Operation::Delete => request.is("", "namespaces"),
            Operation::Update => false,
        }
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if request.operation() == Operation::Delete {
            if IMMORTAL.contains(&request.name()) {
                return Err(request.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        let name = request.namespace().to_owned();
        let Some(key) = request.reader().key("", "namespaces", "", &name) else {
            // A server without the kind has no namespaces to look after; one without a name is not found.
            return match request.reader().serves("", "namespaces") {
                true => Err(not_found(request.call())),
                false => Ok(()),
            };
        };
        let Some(namespace) = request.reader().entry(&key).await? else {
            return Err(not_found(request.call()));
        };
        if namespace.value.meta().deletion_timestamp.is_some() {
            return Err(terminating(request.call(), request.name()));
        }
        // It may begin to go, or be gone, while other plugins take their time.
        request.guard(Check::Absent(marker(&name)), terminating);
        request.guard(Check::Exists(key), |call, _| not_found(call));
        Ok(())
    }
}

fn not_found(call: &Call<'_>) -> ApiError {
    ApiError::not_found("", "namespaces", call.namespace())
}

fn terminating(call: &Call<'_>, object: &str) -> ApiError {
    let name = call.namespace();
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let message = format!("namespace {name} is being terminated");
    let cause = Cause::new("NamespaceTerminating", "metadata.namespace", message);
    forbidden(call.definition(), object, &why, vec![cause])
}
