//! A namespace that ends while others create in it.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use rkube_api::{
    admission::{Admission, AdmissionRequest, Operation},
    client::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams},
    context::Rng,
    error::ApiError,
    request::{Body, Options, Target, Verb},
};
use rkube_store::{Key, Store};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{World, config_map};

/// A create dwells here between its admission and its commit, for a time drawn from a seed.
struct Dwell(Rng);

#[async_trait]
impl Admission for Dwell {
    fn name(&self) -> &'static str {
        "Dwell"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation() == Operation::Create && request.is("", "configmaps")
    }

    async fn validate(&self, _: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        sleep(millis(&self.0, 50)).await;
        Ok(())
    }
}

fn millis(rng: &Rng, most: usize) -> Duration {
    Duration::from_millis(u64::try_from(rng.below(most)).unwrap())
}

async fn begin(world: &World) {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("going".into());
    world.all().create(&PostParams::default(), namespace).await.unwrap();
}

async fn finalize(world: &World, name: &str) {
    let mut empty = (*world.all::<Namespace>().get(name).await.unwrap()).clone();
    empty.spec.as_mut().unwrap().finalizers = None;
    let target = Target {
        version: "v1".into(),
        resource: "namespaces".into(),
        name: Some(name.into()),
        subresource: Some("finalize".into()),
        ..Target::default()
    };
    let body = Body::Object(rkube_api::object::Object::new(empty));
    world.send(Verb::Update, target, Options::default(), body).await.unwrap();
}

/// Ends a namespace as its controller does: when it has seen it empty, it lets it go.
async fn end(world: &World, maps: &Api<ConfigMap>, rng: Rng) {
    sleep(millis(&rng, 50)).await;
    world.all::<Namespace>().delete("going", &DeleteParams::default()).await.unwrap();
    loop {
        let left = maps.list(&ListParams::default()).await.unwrap().items;
        if left.is_empty() {
            break;
        }
        for map in left {
            let name = map.metadata.name.clone().unwrap();
            maps.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }
    sleep(millis(&rng, 20)).await;
    finalize(world, "going").await;
}

/// Changes of the namespace that are nobody's business.
async fn label(world: &World, rng: Rng) {
    for turn in 0..10 {
        sleep(millis(&rng, 10)).await;
        let patch = Patch::Merge(json!({"metadata": {"labels": {"turn": turn.to_string()}}}));
        match world.all::<Namespace>().patch("going", &PatchParams::default(), &patch).await {
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_comes_between_admission_and_commit_nothing_is_left_in_a_namespace_that_ends() {
    let (mut made, mut terminating, mut gone) = (0, 0, 0);
    for seed in 0..40 {
        let rng = Rng::seeded(seed);
        let dwell = std::sync::Arc::new(Dwell(rng.fork("dwell")));
        let world = World::with(|builder| builder.admit(dwell)).await;
        begin(&world).await;
        let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "going");
        let creates = join_all((0..10).map(|number| {
            let (maps, rng) = (&maps, rng.fork(&number.to_string()));
            async move {
                sleep(millis(&rng, 60)).await;
                maps.create(&PostParams::default(), config_map(&format!("m{number}"))).await
            }
        }));
        let (answers, (), ()) =
            futures::join!(creates, end(&world, &maps, rng.fork("end")), label(&world, rng.fork("label")));
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(_) => made += 1,
                Err(error) if error.code() == 403 => {
                    assert_eq!(
                        error.to_string(),
                        format!(
                            "configmaps \"m{number}\" is forbidden: unable to create new content in namespace \
                             going because it is being terminated"
                        )
                    );
                    let cause = error.to_status().details.unwrap().causes.unwrap().remove(0);
                    assert_eq!(cause.reason.as_deref(), Some("NamespaceTerminating"));
                    assert_eq!(cause.field.as_deref(), Some("metadata.namespace"));
                    terminating += 1;
                }
                Err(error) => {
                    assert_eq!(error.to_string(), "namespaces \"going\" not found");
                    gone += 1;
                }
            }
        }
        let left = world.all::<ConfigMap>().list(&ListParams::default()).await.unwrap().items;
        assert!(left.is_empty(), "seed {seed}: {} is left", left.len());
        let marker = Key::new("/registry/ending/namespaces/going");
        assert!(world.store.get(&marker, None).await.unwrap().entry.is_none(), "the marker went along");
        // A namespace of the same name begins anew.
        begin(&world).await;
        maps.create(&PostParams::default(), config_map("again")).await.unwrap();
    }
    assert!(made > 0 && terminating > 0 && gone > 0, "{made} {terminating} {gone}");
}
