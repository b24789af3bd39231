//! Questions about users and rights: reviews, which are answered and never stored.

use std::sync::Arc;

use k8s_openapi::api::{
    authentication::v1::{SelfSubjectReview, TokenReview},
    authorization::v1::{
        LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
    },
};
use rkube_api::{
    client::{Api, ListParams, PostParams},
    error::ApiError,
    object::Kind,
    pipeline::StaticTokens,
    request::UserInfo,
};
use rkube_store::Store;
use serde_json::{Value, json};

use crate::{
    semantics_write::from_json,
    support::{World, refused},
};

async fn world() -> World {
    let tokens = StaticTokens::default();
    tokens.insert("secret", UserInfo { name: "u".into(), uid: Some("7".into()), ..UserInfo::default() });
    World::with(|builder| builder.authenticator(Arc::new(tokens))).await
}

/// Asks as a user; what the answer says.
async fn ask<K: Kind>(world: &World, user: UserInfo, spec: Value) -> Result<Value, ApiError> {
    ask_with::<K>(world, user, json!({}), spec).await
}

async fn ask_with<K: Kind>(
    world: &World,
    user: UserInfo,
    metadata: Value,
    spec: Value,
) -> Result<Value, ApiError> {
    let client = world.server.client(user, "test/1.0");
    let api: Api<K> = if K::URL_PATH_SEGMENT.starts_with("local") {
        Api::namespaced(client, "default")
    } else {
        Api::all(client)
    };
    let review = json!({"apiVersion": K::API_VERSION, "kind": K::KIND, "metadata": metadata, "spec": spec});
    let answer = api.create(&PostParams::default(), from_json::<K>(review)).await?;
    Ok(serde_json::to_value(&*answer).unwrap()["status"].clone())
}

fn resource(verb: &str, group: &str, resource: &str) -> Value {
    json!({"resourceAttributes": {"verb": verb, "group": group, "resource": resource, "namespace": "default"}})
}

#[tokio::test(start_paused = true)]
async fn a_user_asks_what_they_may_do() {
    let world = world().await;
    let scheduler = || UserInfo::component("system:kube-scheduler");
    for (user, spec, allowed) in [
        (scheduler(), resource("list", "", "pods"), true),
        (scheduler(), resource("get", "", "secrets"), false),
        (scheduler(), resource("*", "", "pods"), false),
        (UserInfo::admin("a"), resource("*", "*", "*"), true),
        (UserInfo::admin("a"), resource("impersonate", "", "users"), true),
        (scheduler(), resource("impersonate", "", "users"), false),
        (scheduler(), json!({"nonResourceAttributes": {"verb": "get", "path": "/apis"}}), true),
        (scheduler(), json!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}), false),
        (scheduler(), json!({"nonResourceAttributes": {"verb": "post", "path": "/apis"}}), false),
    ] {
        let answer = ask::<SelfSubjectAccessReview>(&world, user, spec.clone()).await.unwrap();
        assert_eq!(answer, json!({"allowed": allowed}), "{spec}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_may_ask_about_others() {
    let world = world().await;
    let admin = || UserInfo::admin("a");
    let mut spec = resource("list", "", "pods");
    spec["user"] = "system:kube-scheduler".into();
    let answer = ask::<SubjectAccessReview>(&world, admin(), spec.clone()).await.unwrap();
    assert_eq!(answer["allowed"], true);
    let answer = ask::<LocalSubjectAccessReview>(&world, admin(), spec.clone()).await.unwrap();
    assert_eq!(answer["allowed"], true);
    spec["user"] = "somebody".into();
    let answer = ask::<SubjectAccessReview>(&world, admin(), spec.clone()).await.unwrap();
    assert_eq!(answer["allowed"], false);
    spec["groups"] = json!(["system:masters"]);
    let answer = ask::<SubjectAccessReview>(&world, admin(), spec.clone()).await.unwrap();
    assert_eq!(answer["allowed"], true);
    let stranger = UserInfo::component("stranger");
    let (code, text) = refused(ask::<SubjectAccessReview>(&world, stranger, spec).await);
    assert_eq!(code, 403, "{text}");
}

#[tokio::test(start_paused = true)]
async fn questions_that_make_no_sense_are_refused() {
    let world = world().await;
    let admin = || UserInfo::admin("a");
    let (code, text) = refused(ask::<SelfSubjectAccessReview>(&world, admin(), json!({})).await);
    assert!(code == 422 && text.contains("exactly one of nonResourceAttributes"), "{code} {text}");
    let mut both = resource("get", "", "pods");
    both["nonResourceAttributes"] = json!({"path": "/", "verb": "get"});
    let (code, text) = refused(ask::<SelfSubjectAccessReview>(&world, admin(), both).await);
    assert!(code == 422 && text.contains("spec.nonResourceAttributes"), "{code} {text}");
    let nobody = resource("get", "", "pods");
    let (code, text) = refused(ask::<SubjectAccessReview>(&world, admin(), nobody).await);
    assert!(code == 422 && text.contains("at least one of user or group"), "{code} {text}");
    let named = json!({"name": "x"});
    let spec = resource("get", "", "pods");
    let (code, text) = refused(ask_with::<SelfSubjectAccessReview>(&world, admin(), named, spec).await);
    assert!(code == 422 && text.contains("must be empty"), "{code} {text}");
    let mut elsewhere = resource("get", "", "pods");
    elsewhere["user"] = "u".into();
    elsewhere["resourceAttributes"]["namespace"] = "elsewhere".into();
    let (code, text) = refused(ask::<LocalSubjectAccessReview>(&world, admin(), elsewhere).await);
    assert!(code == 422 && text.contains("must match metadata.namespace"), "{code} {text}");
    let (code, text) = refused(ask::<SelfSubjectRulesReview>(&world, admin(), json!({})).await);
    assert_eq!((code, text.as_str()), (400, "no namespace on request"));
    let (code, _) = refused(ask::<TokenReview>(&world, admin(), json!({"token": ""})).await);
    assert_eq!(code, 400);
}

#[tokio::test(start_paused = true)]
async fn rights_are_listed() {
    let world = world().await;
    let spec = json!({"namespace": "default"});
    let all = ask::<SelfSubjectRulesReview>(&world, UserInfo::admin("a"), spec.clone()).await.unwrap();
    assert_eq!(all["resourceRules"][0], json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
    assert_eq!(all["nonResourceRules"][0], json!({"nonResourceURLs": ["*"], "verbs": ["*"]}));
    assert_eq!(all["incomplete"], false);
    let few = ask::<SelfSubjectRulesReview>(&world, UserInfo::component("u"), spec).await.unwrap();
    assert_eq!(few["resourceRules"].as_array().unwrap().len(), 2, "{few}");
}

#[tokio::test(start_paused = true)]
async fn a_user_asks_who_they_are_and_whose_a_token_is() {
    let world = world().await;
    let before = world.store.revision().await.unwrap();
    let me = ask::<SelfSubjectReview>(&world, UserInfo::admin("me"), json!(null)).await.unwrap();
    let groups = json!(["system:masters", "system:authenticated"]);
    assert_eq!(me["userInfo"], json!({"username": "me", "groups": groups}));

    let admin = || UserInfo::admin("a");
    let known = ask::<TokenReview>(&world, admin(), json!({"token": "secret"})).await.unwrap();
    assert_eq!(known["authenticated"], true);
    let user = json!({"username": "u", "uid": "7", "groups": ["system:authenticated"]});
    assert_eq!(known["user"], user);
    let unknown = ask::<TokenReview>(&world, admin(), json!({"token": "guess"})).await.unwrap();
    assert_eq!((&unknown["authenticated"], unknown["error"].is_string()), (&json!(false), true));
    let elsewhere = json!({"token": "secret", "audiences": ["vault"]});
    let elsewhere = ask::<TokenReview>(&world, admin(), elsewhere).await.unwrap();
    assert_eq!(elsewhere["authenticated"], false);
    let stranger = UserInfo::component("stranger");
    assert_eq!(refused(ask::<TokenReview>(&world, stranger, json!({"token": "secret"})).await).0, 403);

    assert_eq!(world.store.revision().await.unwrap(), before, "nothing is stored");
    let api: Api<SelfSubjectReview> = Api::all(world.client.clone());
    assert_eq!(refused(api.list(&ListParams::default()).await).0, 405);
}
