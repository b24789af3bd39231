//! Controllers that work on everything, when nobody can tell all that there is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use rkube_api::{
    client::{DeleteParams, Informers},
    error::ApiError,
    meta::GroupVersion,
    request::UserInfo,
};
use rkube_controllers::{
    all::{Deps, manager},
    resources::{RegistryResources, ResourceLister, Served},
};

use crate::support::{World, until};

/// Knows at times nothing of the core group.
struct Forgetful {
    all: RegistryResources,
    forgets: AtomicBool,
}

#[async_trait]
impl ResourceLister for Forgetful {
    async fn resources(&self) -> Result<Served, ApiError> {
        let mut served = self.all.resources().await?;
        if self.forgets.load(SeqCst) {
            served.resources.retain(|resource| !resource.group.is_empty());
            served.untold.push(GroupVersion::new("", "v1"));
        }
        Ok(served)
    }
}

async fn world() -> (World, Arc<Forgetful>) {
    let world = World::server_only();
    world.namespace_only("default").await;
    let all = RegistryResources::new(world.server.registry().clone());
    let lister = Arc::new(Forgetful { all, forgets: AtomicBool::new(false) });
    let user = UserInfo::component("system:kube-controller-manager");
    let informers = Informers::new(world.server.client(user, "kube-controller-manager"));
    let lifecycle = ["namespace", "garbagecollector"];
    let manager =
        manager(&Deps::new(informers, lister.clone()), |descriptor| lifecycle.contains(&descriptor.name));
    let stop = world.stop.clone();
    world.server.context().spawner.spawn("manager", async move { manager.run(stop).await.unwrap() });
    (world, lister)
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("default".into());
    map
}

#[tokio::test(start_paused = true)]
async fn the_collector_keeps_in_sight_what_may_still_be_there() {
    let (world, lister) = world().await;
    let owner = world.create(map("owner")).await;
    let mut child = map("child");
    child.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: "owner".into(),
        uid: owner.metadata.uid.clone().unwrap(),
        ..Default::default()
    }]);
    world.create(child).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    lister.forgets.store(true, SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.api::<ConfigMap>().delete("owner", &DeleteParams::default()).await.unwrap();
    until("the child is gone", async || world.get::<ConfigMap>("child").await.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_namespace_waits_until_all_can_be_told() {
    let (world, lister) = world().await;
    world.namespace_only("shop").await;
    let mut inside = map("a");
    inside.metadata.namespace = Some("shop".into());
    world.create(inside).await;
    lister.forgets.store(true, SeqCst);
    world.all::<Namespace>().delete("shop", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.list::<ConfigMap>().await.len(), 1, "nobody knew that there is such a thing");
    let namespace = world.all::<Namespace>().get("shop").await.unwrap();
    let conditions = namespace.status.clone().unwrap().conditions.unwrap();
    let told = conditions.iter().find(|it| it.type_ == "NamespaceDeletionDiscoveryFailure").unwrap();
    assert!(told.message.as_deref().unwrap().ends_with(": v1: stale GroupVersion discovery: v1"), "{told:?}");
    lister.forgets.store(false, SeqCst);
    until("it is gone", async || world.all::<Namespace>().get_opt("shop").await.unwrap().is_none()).await;
}
