//! The semantics once more, line by line, with HTTP between client and server.
#![allow(clippy::duplicate_mod, reason = "the same tests over another way")]

pub(crate) mod support {
    use std::sync::Arc;

    use rkube_api::{
        client::Client,
        context::Context,
        http::{ApiService, kube_client},
        pipeline::Server,
        remote::Remote,
        request::{Credentials, UserInfo},
    };

    pub(crate) use crate::support::*;

    /// Through HTTP, and back.
    pub(crate) struct OverHttp;

    impl Way for OverHttp {
        fn client(server: &Arc<Server>) -> Client {
            let registry = server.registry().clone();
            let service = ApiService::builder(server.clone(), registry, Context::simulated(2)).build();
            let remote = Remote::new(kube_client(&service, UserInfo::admin("admin")));
            // Who asks is known to the kube client.
            Client::new(Arc::new(remote), Credentials::Anonymous, "test/1.0", server.context().clone())
        }
    }

    pub(crate) type World = Base<OverHttp>;
}

#[path = "semantics_budgets.rs"]
mod semantics_budgets;
#[path = "semantics_life.rs"]
mod semantics_life;
#[path = "semantics_limits.rs"]
mod semantics_limits;
#[path = "semantics_read.rs"]
mod semantics_read;
#[path = "semantics_write.rs"]
mod semantics_write;
