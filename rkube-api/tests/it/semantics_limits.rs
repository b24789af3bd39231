//! How large an object may be: the store's limit holds whichever way an object became so large.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use rkube_api::{
    client::{Patch, PatchParams, PostParams},
    object::{Kind, Object},
};
use rkube_store::{Entry, Limits, ListOptions, Prefix, Store};
use serde_json::{Value, json};

use super::support::{World, config_map, pod, refused};

const LIMITS: Limits = Limits::DEFAULT;

/// A text that takes six times as many bytes in JSON as in memory.
fn text(characters: usize) -> String {
    "\u{1}".repeat(characters)
}

/// What is stored of an object of `default`.
pub(crate) async fn stored(world: &World, plural: &str, name: &str) -> Entry<Object> {
    let page = world.store.list(&Prefix::all(), ListOptions::default()).await.unwrap();
    let of = |entry: &Entry<Object>| {
        let key = entry.key.as_str();
        key.contains(&format!("/{plural}/")) && key.ends_with(&format!("/{name}"))
    };
    page.entries.into_iter().find(of).unwrap()
}

/// Patches until it is refused, and gives how many bytes are stored then.
async fn grow<K: Kind>(world: &World, plural: &str, step: usize, patch: impl Fn(usize) -> Value) -> usize {
    let api = world.api::<K>();
    for at in 0..1000 {
        let before = stored(world, plural, "a").await;
        let Err(error) = api.patch("a", &PatchParams::default(), &Patch::Merge(patch(at))).await else {
            continue;
        };
        assert_eq!((error.code(), error.reason()), (413, "RequestEntityTooLarge"), "{error}");
        assert!(error.to_string().starts_with("Request entity too large: value of "), "{error}");
        let after = stored(world, plural, "a").await;
        assert_eq!((&after.value, after.mod_revision), (&before.value, before.mod_revision));
        let bytes = after.value.encode().unwrap().len();
        assert!(bytes <= LIMITS.value_bytes && bytes + step > LIMITS.value_bytes - 4096, "{bytes} bytes");
        return bytes;
    }
    panic!("it was never refused");
}

#[tokio::test(start_paused = true)]
async fn patches_grow_an_object_up_to_the_limit() {
    const STEP: usize = 10_000;
    let world = World::new().await;
    world.map("a").await;
    let data = |at| json!({"data": {format!("k{at:03}"): text(STEP)}});
    let full = grow::<ConfigMap>(&world, "configmaps", 6 * STEP, data).await;
    let less = Patch::Merge(json!({"data": {"k000": null, "more": text(STEP - 10)}}));
    world.api::<ConfigMap>().patch("a", &PatchParams::default(), &less).await.unwrap();
    assert!(stored(&world, "configmaps", "a").await.value.encode().unwrap().len() < full, "it can shrink");

    world.api::<Pod>().create(&PostParams::default(), pod("a")).await.unwrap();
    let annotations = |at| json!({"metadata": {"annotations": {format!("k{at:03}"): text(STEP)}}});
    grow::<Pod>(&world, "pods", 6 * STEP, annotations).await;
}

#[tokio::test(start_paused = true)]
async fn every_write_of_too_much_is_refused() {
    let world = World::new().await;
    let (maps, pods) = (world.api::<ConfigMap>(), world.api::<Pod>());
    let large = |name: &str| {
        let mut map = config_map(name);
        map.data = Some([("k".to_owned(), text(LIMITS.value_bytes / 6))].into());
        map
    };
    world.map("a").await;
    pods.create(&PostParams::default(), pod("a")).await.unwrap();
    let status = json!({"status": {"message": text(LIMITS.value_bytes / 6)}});
    let params = PatchParams::default();
    let apply =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": large("a").data});
    let manager = PatchParams { field_manager: Some("m".into()), ..PatchParams::default() };
    for (what, result) in [
        ("create", maps.create(&PostParams::default(), large("b")).await.map(drop)),
        ("update", maps.update(&PostParams::default(), large("a")).await.map(drop)),
        ("patch", maps.patch("a", &params, &Patch::Merge(json!({"data": large("a").data}))).await.map(drop)),
        ("apply", maps.patch("a", &manager, &Patch::Apply(apply)).await.map(drop)),
        ("status", pods.patch_status("a", &params, &Patch::Merge(status)).await.map(drop)),
    ] {
        assert_eq!(refused(result).0, 413, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_may_be_as_large_as_the_limit_and_not_a_byte_larger() {
    let world = World::new().await;
    let maps = world.api::<ConfigMap>();
    let of = |name: &str, bytes: usize| {
        let mut map = config_map(name);
        let filled =
            BTreeMap::from([("k".to_owned(), text(bytes / 6)), ("l".to_owned(), "x".repeat(bytes % 6))]);
        map.data = Some(filled);
        map
    };
    maps.create(&PostParams::default(), of("a", 0)).await.unwrap();
    let entry = stored(&world, "configmaps", "a").await;
    // All but the data; the revision comes with the commit.
    let mut bare = entry.value;
    bare.meta_mut().resource_version = None;
    bare.keep_managed_fields(Vec::new());
    let room = LIMITS.value_bytes - bare.length().unwrap();
    maps.create(&PostParams::default(), of("b", room)).await.unwrap();
    let full = stored(&world, "configmaps", "b").await.value;
    assert_eq!(full.managed_fields(), [], "there was no room for managedFields");
    assert_eq!(refused(maps.create(&PostParams::default(), of("c", room + 1)).await).0, 413);
    assert_eq!(refused(maps.update(&PostParams::default(), of("b", room + 1)).await).0, 413);
    maps.create(&PostParams::default(), of("d", room - 4096)).await.unwrap();
    assert_eq!(stored(&world, "configmaps", "d").await.value.managed_fields().len(), 1, "there was room");
}
