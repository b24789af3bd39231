//! What the collector and the namespace controller promise, once more with HTTP between server and clients:
//! those of the controllers too, which learn from discovery what is served.
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
    use rkube_controllers::resources::{DiscoveryResources, ResourceLister};

    pub(crate) use crate::support::*;

    /// Through HTTP, and back.
    pub(crate) struct OverHttp;

    fn remote(server: &Arc<Server>, user: UserInfo) -> Remote {
        let registry = server.registry().clone();
        let service = ApiService::builder(server.clone(), registry, Context::simulated(2)).build();
        Remote::new(kube_client(&service, user))
    }

    impl Way for OverHttp {
        fn client(server: &Arc<Server>, user: UserInfo, agent: &'static str) -> Client {
            let remote = Arc::new(remote(server, user));
            // Who asks is known to the kube client.
            Client::new(remote, Credentials::Anonymous, agent, server.context().clone())
        }

        fn resources(server: &Arc<Server>) -> Arc<dyn ResourceLister> {
            let user = UserInfo::component("system:kube-controller-manager");
            Arc::new(DiscoveryResources::new(remote(server, user)))
        }
    }

    pub(crate) type World = Base<OverHttp>;
}

#[path = "cascades.rs"]
mod cascades;
#[path = "namespaces.rs"]
mod namespaces;

mod discovery;
