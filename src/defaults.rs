//! The objects that a new cluster begins with, as `kube-apiserver` makes them at its first start.

use std::net::IpAddr;

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
    error::ApiError,
    object::Kind,
};

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

/// Makes what is missing; what exists is left as it is. Safe to run by several servers at once.
pub(crate) async fn ensure(client: &Client, endpoint: Option<(IpAddr, u16)>) -> Result<(), ApiError> {
    for name in NAMESPACES {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        make(Api::<Namespace>::all(client.clone()), Namespace { metadata, ..Namespace::default() }).await?;
        // The controller would make it a moment later; so the first pod need not wait for that.
        let metadata = ObjectMeta { name: Some("default".into()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        make(Api::<ServiceAccount>::namespaced(client.clone(), name), account).await?;
    }
    for (name, value, description) in PRIORITIES {
        let class = PriorityClass {
            metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
            value: Some(value),
            description: Some(description.into()),
            ..PriorityClass::default()
        };
        make(Api::<PriorityClass>::all(client.clone()), class).await?;
    }
    if let Some((address, port)) = endpoint {
        kubernetes_service(client, address, port).await?;
    }
    Ok(())
}

async fn make<K: Kind>(api: Api<K>, object: K) -> Result<(), ApiError> {
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
async fn kubernetes_service(client: &Client, address: IpAddr, port: u16) -> Result<(), ApiError> {
    let service = Service {
        metadata: kubernetes_meta(),
        spec: Some(ServiceSpec {
            cluster_ip: Some("10.96.0.1".into()),
            ports: Some(vec![ServicePort {
                name: Some("https".into()),
                port: 443,
                protocol: Some("TCP".into()),
                target_port: Some(IntOrString::Int(i32::from(port))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    make(Api::<Service>::namespaced(client.clone(), "default"), service).await?;
    // Kubernetes refuses loopback addresses in slices: a server that only this machine can reach has none.
    if address.is_loopback() {
        return Ok(());
    }
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
            api.update(&PostParams::default(), slice).await.map(|_| ())
        }
        Some(_) => Ok(()),
        None => make(api, slice).await,
    }
}
