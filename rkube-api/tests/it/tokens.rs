//! Tokens of service accounts where several servers, at once or one after another, serve one cluster.

use std::sync::Arc;

use k8s_openapi::api::{authentication::v1::TokenRequest, core::v1::ServiceAccount};
use rkube_api::{
    client::{Api, DeleteParams, PostParams},
    context::Context,
    error::ApiError,
    kinds,
    object::Object,
    pipeline::{Kept, Server},
    registry::Registry,
    request::{ApiResponse, Body, Credentials, Options, Target, UserInfo, Verb},
};
use rkube_store::{ListOptions, Memory, Prefix, Store};
use serde_json::json;

use crate::support::{World, refused, token_target};

/// Another server on the same store.
fn beside(world: &World) -> Arc<Server> {
    let registry = Arc::new(Registry::new(kinds::all()).unwrap());
    Server::builder(Arc::new(world.store.clone()), registry, Context::simulated(2)).build().unwrap()
}

async fn token(server: &Arc<Server>, audiences: &[&str]) -> Credentials {
    let request = json!({"spec": {"audiences": audiences}});
    let body = Body::Bytes { content_type: "application/json".into(), bytes: request.to_string().into() };
    let client = server.client(UserInfo::admin("admin"), "test/1.0");
    let answer = client.request(Verb::Create, token_target(), Options::default(), body).await.unwrap();
    let ApiResponse::Object { object, code: 201, .. } = answer else { panic!() };
    let status = object.as_kind::<TokenRequest>().unwrap().status.clone().unwrap();
    Credentials::Token(status.token.unwrap())
}

async fn kept(store: &Memory<Object>) -> Vec<String> {
    let page = store.list(&Prefix::private(), ListOptions::default()).await.unwrap();
    page.entries.iter().map(|entry| entry.key.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_one_server_has_signed_all_accept() {
    let world = World::new().await;
    let (one, two) = (&world.server, beside(&world));
    assert_eq!(kept(&world.store).await, Vec::<String>::new(), "no key until somebody needs one");
    // Both want the first token at once.
    let (first, second) = tokio::join!(token(one, &[]), token(&two, &[]));
    let later = beside(&world);
    for server in [one, &two, &later] {
        for token in [&first, &second] {
            let user = server.authenticate(token).await.unwrap();
            assert_eq!(user.name, "system:serviceaccount:default:default");
        }
    }
    assert_eq!(kept(&world.store).await, ["/private/service-account-key"]);

    let accounts: Api<ServiceAccount> = world.api();
    accounts.delete("default", &DeleteParams::default()).await.unwrap();
    let mut again = ServiceAccount::default();
    again.metadata.name = Some("default".into());
    accounts.create(&PostParams::default(), again).await.unwrap();
    for server in [one, &two, &later] {
        assert_eq!(refused(server.authenticate(&first).await).0, 401, "another account of the name");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_of_others_are_refused_and_make_no_key() {
    let (world, stranger) = (World::new().await, World::new().await);
    let strange = token(&stranger.server, &[]).await;
    assert_eq!(refused(world.server.authenticate(&strange).await).0, 401, "before there is a key");
    assert_eq!(kept(&world.store).await, Vec::<String>::new());
    let own = token(&world.server, &[]).await;
    world.server.authenticate(&own).await.unwrap();
    assert_eq!(refused(world.server.authenticate(&strange).await).0, 401, "and after");
    let elsewhere = token(&world.server, &["vault"]).await;
    assert_eq!(refused(world.server.authenticate(&elsewhere).await).0, 401, "for another audience");
}

#[tokio::test(start_paused = true)]
async fn a_bound_token_ends_with_its_pod() {
    let world = World::new().await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = world.api();
    pods.create(&PostParams::default(), crate::support::pod("web")).await.unwrap();
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "web"});
    let request = json!({"spec": {"audiences": [], "boundObjectRef": bound}});
    let body = Body::Bytes { content_type: "application/json".into(), bytes: request.to_string().into() };
    let answer = world.send(Verb::Create, token_target(), Options::default(), body).await.unwrap();
    let ApiResponse::Object { object, .. } = answer else { panic!() };
    let status = object.as_kind::<TokenRequest>().unwrap().status.clone().unwrap();
    let token = Credentials::Token(status.token.unwrap());
    let server = beside(&world);
    server.authenticate(&token).await.unwrap();
    let now = DeleteParams { grace_period: Some(0), ..DeleteParams::default() };
    pods.delete("web", &now).await.unwrap();
    assert_eq!(refused(server.authenticate(&token).await).0, 401);
}

#[tokio::test]
async fn who_comes_second_gets_what_the_first_has_kept() {
    let store = Memory::<Object>::builder().build();
    let (one, two) = (Kept::new(Arc::new(store.clone())), Kept::new(Arc::new(store.clone())));
    // The other one comes between its look and its write.
    let mine = one
        .get_or_make("name", || {
            let theirs = two.get_or_make("name", || Ok::<_, ApiError>("theirs".to_owned()));
            assert_eq!(futures::FutureExt::now_or_never(theirs).unwrap().unwrap(), "theirs");
            Ok::<_, ApiError>("mine".to_owned())
        })
        .await;
    assert_eq!(mine.unwrap(), "theirs");
    assert_eq!(one.get::<String>("name").await.unwrap().as_deref(), Some("theirs"));
    assert_eq!(one.get::<String>("other").await.unwrap(), None);
    let wrong = one.get::<u64>("name").await.unwrap_err();
    assert!(wrong.to_string().contains("/private/name"), "{wrong}");
}

#[tokio::test]
async fn what_is_kept_is_written_again_so_that_encryption_keys_can_go() {
    let store = Memory::<Object>::builder().build();
    let kept = Kept::new(Arc::new(store.clone()));
    let make = || Ok::<_, ApiError>(7_u8);
    kept.get_or_make("n", make).await.unwrap();
    let before = store.revision().await.unwrap();
    assert_eq!(kept.get_or_make("n", make).await.unwrap(), 7);
    assert!(store.revision().await.unwrap() > before);
}

#[tokio::test(start_paused = true)]
async fn no_request_reads_what_a_cluster_keeps() {
    let world = World::new().await;
    token(&world.server, &[]).await;
    let key = "service-account-key";
    for (group, resource, namespace, name) in [
        ("", "private", None, Some(key)),
        ("private", key, None, None),
        ("", "..", Some("private"), Some(key)),
        ("..", "private", None, Some(key)),
        ("", "configmaps", Some("../../../private"), Some(key)),
        ("", "namespaces", None, Some("../../private/service-account-key")),
    ] {
        let target = Target {
            group: group.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: namespace.map(Into::into),
            name: name.map(Into::into),
            ..Target::default()
        };
        let verb = if name.is_some() { Verb::Get } else { Verb::List };
        let answer = world.send(verb, target.clone(), Options::default(), Body::Empty).await;
        assert_eq!(refused(answer).0, 404, "{target:?}");
    }
}
