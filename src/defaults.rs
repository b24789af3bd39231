//! The objects that a new cluster begins with, as `kube-apiserver` makes them at its first start, and those
//! of them that it makes again when somebody has deleted them.

use std::time::Duration;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, ServiceAccount},
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rkube_api::{
    client::{Api, Client, PostParams},
    context::Context,
    error::ApiError,
    object::Kind,
};

use crate::{endpoints::Endpoints, shutdown::Part};

/// The namespaces that always exist.
pub const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The priority classes of the system: name, value, description.
const PRIORITIES: [(&str, i32, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];

/// How often to look whether what a cluster cannot be without is still there.
const PERIOD: Duration = Duration::from_secs(10);

/// Makes what is missing; what exists is left as it is. Safe to run by several servers at once.
pub(crate) async fn ensure(client: &Client, endpoints: Option<&mut Endpoints>) -> Result<(), ApiError> {
    reconcile(client, endpoints).await?;
    for name in NAMESPACES {
        // The controller would make it a moment later; so the first pod need not wait for that.
        let metadata = ObjectMeta { name: Some("default".into()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        make(&Api::<ServiceAccount>::namespaced(client.clone(), name), account).await?;
    }
    for (name, value, description) in PRIORITIES {
        let class = PriorityClass {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            value: Some(value),
            description: Some(description.into()),
            ..PriorityClass::default()
        };
        make(&Api::<PriorityClass>::all(client.clone()), class).await?;
    }
    Ok(())
}

/// Keeps the namespaces and the service `kubernetes` as they should be. When it stops, the service leads no
/// longer to this server.
pub(crate) fn keep(client: &Client, mut endpoints: Option<Endpoints>, context: &Context) -> Part {
    let context = context.child("defaults");
    let client = client.with_context(context.clone());
    Part::start("defaults", context, move |stop| async move {
        while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            if let Some(Err(error)) = stop.run_until_cancelled(reconcile(&client, endpoints.as_mut())).await {
                tracing::warn!(%error, "what a cluster begins with is not all there");
            }
        }
        if let Some(endpoints) = &mut endpoints
            && let Err(error) = endpoints.leave(&client).await
        {
            tracing::warn!(%error, "clients may be led here for a moment yet");
        }
    })
}

async fn reconcile(client: &Client, endpoints: Option<&mut Endpoints>) -> Result<(), ApiError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in NAMESPACES {
        if namespaces.get_opt(name).await?.is_none() {
            let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
            make(&namespaces, Namespace { metadata, ..Namespace::default() }).await?;
        }
    }
    match endpoints {
        Some(endpoints) => endpoints.reconcile(client).await,
        None => Ok(()),
    }
}

/// Makes an object unless it exists.
pub(crate) async fn make<K: Kind>(api: &Api<K>, object: K) -> Result<(), ApiError> {
    match api.create(&PostParams::default(), object).await {
        Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
    use rkube_api::{
        client::{DeleteParams, ListParams, Patch, PatchParams},
        object::Object,
        pipeline::Kept,
    };
    use rkube_store::Memory;

    use super::*;
    use crate::Cluster;

    /// A cluster whose servers these tests are.
    async fn world() -> (Cluster, Kept) {
        let store = Memory::<Object>::builder().build();
        let cluster = Cluster::builder().simulated(1).store(Arc::new(store.clone())).start().await.unwrap();
        cluster.context().spawner.spawn("store", store.run_expiry());
        (cluster, Kept::new(Arc::new(store)))
    }

    async fn server(of: &(Cluster, Kept), address: &str) -> Part {
        let (client, address) = (of.0.client(), address.parse::<SocketAddr>().unwrap());
        let mut endpoints = Endpoints::new(&of.1, address, false).await.unwrap();
        ensure(&client, Some(&mut endpoints)).await.unwrap();
        keep(&client, Some(endpoints), of.0.context())
    }

    /// The service's target, and what each slice leads to.
    async fn leads_to(cluster: &Cluster) -> Vec<String> {
        let services: Api<Service> = Api::namespaced(cluster.client(), "default");
        let service = services.get("kubernetes").await.unwrap();
        let port = service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].target_port.clone().unwrap();
        let slices: Api<EndpointSlice> = Api::namespaced(cluster.client(), "default");
        let slices = slices.list(&ListParams::default()).await.unwrap().items;
        let slices = slices.iter().map(|slice| {
            let name = slice.metadata.name.as_deref().unwrap();
            let addresses = slice.endpoints.iter().flatten().flat_map(|it| it.addresses.clone());
            let port = slice.ports.as_ref().unwrap()[0].port.unwrap();
            format!("{name} {port} {}", addresses.collect::<Vec<_>>().join(" "))
        });
        [format!("{port:?}")].into_iter().chain(slices).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_leads_to_all_servers_that_live() {
        let world = world().await;
        let one = server(&world, "192.0.2.1:6443").await;
        assert_eq!(leads_to(&world.0).await, ["Int(6443)", "kubernetes 6443 192.0.2.1"]);
        let two = server(&world, "192.0.2.2:6443").await;
        let three = server(&world, "192.0.2.3:7443").await;
        let all = ["Int(6443)", "kubernetes 6443 192.0.2.1 192.0.2.2", "kubernetes-ipv4-7443 7443 192.0.2.3"];
        assert_eq!(leads_to(&world.0).await, all);

        // They agree: nobody writes again.
        let slices: Api<EndpointSlice> = Api::namespaced(world.0.client(), "default");
        let before = slices.list(&ListParams::default()).await.unwrap().items;
        tokio::time::sleep(PERIOD * 10).await;
        assert_eq!(slices.list(&ListParams::default()).await.unwrap().items, before);

        // One leaves in order: the others are not asked for that.
        crate::shutdown::stop(vec![one], PERIOD).await;
        let left = ["Int(6443)", "kubernetes 6443 192.0.2.2", "kubernetes-ipv4-7443 7443 192.0.2.3"];
        assert_eq!(leads_to(&world.0).await, left);
        // One dies: its lease must end first, and the others must look.
        two.end();
        tokio::time::sleep(Duration::from_secs(15) + PERIOD * 2).await;
        assert_eq!(leads_to(&world.0).await, ["Int(7443)", "kubernetes 7443 192.0.2.3"]);
        // The last one leaves what there is.
        crate::shutdown::stop(vec![three], PERIOD).await;
        assert_eq!(leads_to(&world.0).await, ["Int(7443)", "kubernetes 7443 192.0.2.3"]);
        let again = server(&world, "192.0.2.1:6443").await;
        assert_eq!(leads_to(&world.0).await, ["Int(6443)", "kubernetes 6443 192.0.2.1"]);
        drop(again);
        world.0.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_place_was_taken_takes_it_again() {
        let world = world().await;
        let _one = server(&world, "192.0.2.1:6443").await;
        let namesake = server(&world, "192.0.2.1:6443").await;
        crate::shutdown::stop(vec![namesake], PERIOD).await;
        let _two = server(&world, "192.0.2.2:6443").await;
        tokio::time::sleep(PERIOD * 2).await;
        assert_eq!(leads_to(&world.0).await, ["Int(6443)", "kubernetes 6443 192.0.2.1 192.0.2.2"]);
        // One that knows that it is alone does not wait for the lease of one before it.
        let address = "192.0.2.9:6443".parse().unwrap();
        let mut sole = Endpoints::new(&world.1, address, true).await.unwrap();
        ensure(&world.0.client(), Some(&mut sole)).await.unwrap();
        assert_eq!(leads_to(&world.0).await, ["Int(6443)", "kubernetes 6443 192.0.2.9"]);
        world.0.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_deleted_or_bent_comes_right_again() {
        let world = world().await;
        let _kept = server(&world, "192.0.2.1:6443").await;
        let (cluster, client) = (&world.0, world.0.client());
        let services: Api<Service> = Api::namespaced(client.clone(), "default");
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let first = services.get("kubernetes").await.unwrap();

        services.delete("kubernetes", &DeleteParams::default()).await.unwrap();
        slices.delete("kubernetes", &DeleteParams::default()).await.unwrap();
        namespaces.delete("kube-node-lease", &DeleteParams::default()).await.unwrap();
        let again = cluster.wait_for(&services, "kubernetes", |_| true).await.unwrap();
        assert_ne!(again.metadata.uid, first.metadata.uid);
        assert_eq!(again.spec.as_ref().unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
        let slice = cluster.wait_for(&slices, "kubernetes", |_| true).await.unwrap();
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].addresses, ["192.0.2.1"]);
        let active = |found: Option<&Namespace>| {
            found.is_some_and(|found| found.metadata.deletion_timestamp.is_none())
        };
        cluster.wait_for(&namespaces, "kube-node-lease", active).await.unwrap();

        let bent = Patch::Merge(serde_json::json!({"spec": {"ports": [{"port": 1}]}}));
        services.patch("kubernetes", &PatchParams::default(), &bent).await.unwrap();
        let right = |found: Option<&Service>| {
            let ports = found.and_then(|found| found.spec.as_ref()?.ports.as_deref());
            ports.is_some_and(|ports| ports[0].port == 443)
        };
        let after = cluster.wait_for(&services, "kubernetes", right).await.unwrap();
        tokio::time::sleep(PERIOD * 10).await;
        let rested = services.get("kubernetes").await.unwrap();
        assert_eq!(rested.metadata.resource_version, after.metadata.resource_version);
        world.0.stop().await;
    }
}
