//! The objects that a new cluster begins with, as `kube-apiserver` makes them at its first start, and those
//! of them that it makes again when somebody has deleted them.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Service, ServiceAccount, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
        scheduling::v1::PriorityClass,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use rkube_api::{
    client::{Api, Client, PostParams},
    context::Context,
    error::ApiError,
    object::Kind,
};

use crate::shutdown::Part;

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
pub(crate) async fn ensure(client: &Client, endpoint: Option<(IpAddr, u16)>) -> Result<(), ApiError> {
    reconcile(client, endpoint).await?;
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

/// Keeps the namespaces and the service `kubernetes` as they should be.
pub(crate) fn keep(client: &Client, endpoint: Option<(IpAddr, u16)>, context: &Context) -> Part {
    let context = context.child("defaults");
    let client = client.with_context(context.clone());
    Part::start("defaults", context, move |stop| async move {
        while stop.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            if let Some(Err(error)) = stop.run_until_cancelled(reconcile(&client, endpoint)).await {
                tracing::warn!(%error, "what a cluster begins with is not all there");
            }
        }
    })
}

async fn reconcile(client: &Client, endpoint: Option<(IpAddr, u16)>) -> Result<(), ApiError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in NAMESPACES {
        if namespaces.get_opt(name).await?.is_none() {
            let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
            make(&namespaces, Namespace { metadata, ..Namespace::default() }).await?;
        }
    }
    let Some((address, port)) = endpoint else { return Ok(()) };
    kubernetes_service(client, port).await?;
    // Kubernetes refuses loopback addresses in slices: a server that only this machine can reach has none.
    if address.is_loopback() { Ok(()) } else { kubernetes_slice(client, address, port).await }
}

async fn make<K: Kind>(api: &Api<K>, object: K) -> Result<(), ApiError> {
    match api.create(&PostParams::default(), object).await {
        Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn kubernetes_meta() -> ObjectMeta {
    ObjectMeta {
        name: Some("kubernetes".into()),
        namespace: Some("default".into()),
        labels: Some(
            [("component", "apiserver"), ("provider", "kubernetes")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..ObjectMeta::default()
    }
}

/// `kubernetes` in the namespace `default`: how pods find the API server.
async fn kubernetes_service(client: &Client, port: u16) -> Result<(), ApiError> {
    let ports = Some(vec![ServicePort {
        name: Some("https".into()),
        port: 443,
        protocol: Some("TCP".into()),
        target_port: Some(IntOrString::Int(i32::from(port))),
        ..ServicePort::default()
    }]);
    let api: Api<Service> = Api::namespaced(client.clone(), "default");
    let Some(found) = api.get_opt("kubernetes").await? else {
        let spec = ServiceSpec { cluster_ip: Some("10.96.0.1".into()), ports, ..ServiceSpec::default() };
        let service = Service { metadata: kubernetes_meta(), spec: Some(spec), ..Service::default() };
        return make(&api, service).await;
    };
    let mut service = Service::clone(&found);
    let spec = service.spec.get_or_insert_default();
    (spec.ports, spec.type_) = (ports, Some("ClusterIP".into()));
    if service == *found {
        return Ok(());
    }
    api.update(&PostParams::default(), service).await.map(drop)
}

/// Where that service leads to.
async fn kubernetes_slice(client: &Client, address: IpAddr, port: u16) -> Result<(), ApiError> {
    let mut metadata = kubernetes_meta();
    let labels = metadata.labels.get_or_insert_default();
    labels.insert("kubernetes.io/service-name".into(), "kubernetes".into());
    let slice = EndpointSlice {
        metadata,
        address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.into(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(EndpointConditions { ready: Some(true), ..EndpointConditions::default() }),
            ..Endpoint::default()
        }]),
        ports: Some(vec![EndpointPort {
            name: Some("https".into()),
            port: Some(i32::from(port)),
            protocol: Some("TCP".into()),
            ..EndpointPort::default()
        }]),
    };
    let api = Api::<EndpointSlice>::namespaced(client.clone(), "default");
    match api.get_opt("kubernetes").await? {
        // The server listens elsewhere than when the slice was written.
        Some(old) if old.endpoints != slice.endpoints || old.ports != slice.ports => {
            api.update(&PostParams::default(), slice).await.map(drop)
        }
        Some(_) => Ok(()),
        None => make(&api, slice).await,
    }
}

#[cfg(test)]
mod tests {
    use rkube_api::client::{DeleteParams, Patch, PatchParams};

    use super::*;
    use crate::Cluster;

    #[tokio::test(start_paused = true)]
    async fn what_is_deleted_or_bent_comes_right_again() {
        let cluster = Cluster::builder().simulated(1).start().await.unwrap();
        let (client, endpoint) = (cluster.client(), Some(([192, 0, 2, 1].into(), 6443)));
        ensure(&client, endpoint).await.unwrap();
        let _kept = keep(&client, endpoint, cluster.context());
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
        cluster.stop().await;
    }
}
