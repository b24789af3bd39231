//! Lines 1 to 15: reading and watching.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use rkube_api::{
    client::{DeleteParams, ListParams, PostParams},
    error::ApiError,
    request::{Options, VersionMatch, WatchEvent},
};
use rkube_store::{Memory, Revision, Store};

use super::support::{World, config_map, labelled, pod, refused, short, version};

fn at(version: &str) -> Options {
    Options { resource_version: Some(version.into()), ..Options::default() }
}

fn names(list: &rkube_api::request::List) -> Vec<&str> {
    list.items.iter().map(rkube_api::object::Object::name).collect()
}

#[tokio::test(start_paused = true)]
async fn line_01_a_list_shows_the_newest_state_or_the_one_asked_for() {
    let world = World::new().await;
    let a = world.map("a").await;
    let b = world.map("b").await;
    for version in ["", "0"] {
        let list = world.list(at(version)).await.unwrap();
        assert_eq!((names(&list), list.resource_version.parse()), (vec!["a", "b"], Ok(b)));
    }
    assert_eq!(names(&world.list(at(&a.to_string())).await.unwrap()), ["a", "b"], "not older than");
    let exact = Options { limit: 5, ..at(&a.to_string()) };
    let list = world.list(exact).await.unwrap();
    assert_eq!((names(&list), list.resource_version.parse()), (vec!["a"], Ok(a)), "a limit makes it exact");
    let exact = Options { resource_version_match: Some(VersionMatch::Exact), ..at(&a.to_string()) };
    assert_eq!(names(&world.list(exact).await.unwrap()), ["a"]);
    let newer =
        Options { limit: 5, resource_version_match: Some(VersionMatch::NotOlderThan), ..at(&a.to_string()) };
    assert_eq!(names(&world.list(newer).await.unwrap()), ["a", "b"]);
    assert_eq!(refused(world.list(at("x")).await).0, 400);
}

#[tokio::test(start_paused = true)]
async fn line_02_a_match_needs_a_version_that_it_fits() {
    let world = World::new().await;
    let exact = Some(VersionMatch::Exact);
    let (code, text) =
        refused(world.list(Options { resource_version_match: exact, ..Options::default() }).await);
    assert_eq!(code, 422);
    assert_eq!(
        text,
        "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
         forbidden unless resourceVersion is provided"
    );
    let (code, text) = refused(world.list(Options { resource_version_match: exact, ..at("0") }).await);
    assert_eq!(code, 422);
    assert!(text.contains("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn line_03_a_version_of_the_future_is_too_large() {
    let world = World::new().await;
    let error = world.list(at("1000000")).await.unwrap_err();
    assert_eq!(error.code(), 504);
    let status = error.to_status();
    let causes = status.details.unwrap().causes.unwrap();
    assert_eq!(causes[0].reason.as_deref(), Some("ResourceVersionTooLarge"));
}

#[tokio::test(start_paused = true)]
async fn line_05_a_watch_from_too_long_ago_ends_with_expired() {
    let world = World::new().await;
    let first = world.map("a").await;
    let last = world.map("b").await;
    world.store.compact(Revision(last)).await.unwrap();
    let events: Vec<_> = world.watch(at(&(first - 1).to_string())).await.unwrap().collect().await;
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), ["ERROR 410 Expired"]);
}

#[tokio::test(start_paused = true)]
async fn line_06_a_watch_without_a_version_begins_with_what_exists() {
    let world = World::new().await;
    world.map("a").await;
    for start in ["", "0"] {
        let timeout = Some(std::time::Duration::from_secs(5));
        let stream = world.watch(Options { timeout, ..at(start) }).await.unwrap();
        let name = format!("b{start}");
        world.map(&name).await;
        let events: Vec<_> = stream.collect().await;
        let last = format!("ADDED {name}");
        assert_eq!(short(&events[0]), "ADDED a");
        assert_eq!(short(events.last().unwrap()), last, "and it ends when its time is over");
    }
}

#[tokio::test(start_paused = true)]
async fn line_07_bookmarks_come_to_those_who_welcome_them() {
    let world = World::new().await;
    let now = world.map("a").await;
    let timeout = Some(std::time::Duration::from_secs(150));
    let with = Options { timeout, allow_watch_bookmarks: true, ..at(&now.to_string()) };
    let mut stream = world.watch(with).await.unwrap();
    let mut bookmark = async || match stream.next().await {
        Some(WatchEvent::Bookmark { resource_version, initial_events_end: false }) => resource_version,
        other => panic!("{other:?}"),
    };
    assert_eq!(bookmark().await, now.to_string());
    world.namespace("elsewhere").await;
    assert!(bookmark().await.parse::<u64>().unwrap() > now, "it moves with what is written elsewhere");
    let without = world.watch(Options { timeout, ..at(&now.to_string()) }).await.unwrap();
    assert_eq!(without.collect::<Vec<_>>().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn line_08_initial_events_end_with_a_bookmark() {
    let world = World::new().await;
    world.map("a").await;
    let options = |initial, matching, bookmarks| Options {
        send_initial_events: Some(initial),
        resource_version_match: matching,
        allow_watch_bookmarks: bookmarks,
        timeout: Some(std::time::Duration::from_secs(1)),
        ..Options::default()
    };
    let newer = Some(VersionMatch::NotOlderThan);
    for initial in [true, false] {
        let (code, text) = refused(world.watch(options(initial, None, true)).await.map(drop));
        assert_eq!(code, 422);
        assert!(text.contains("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
        assert_eq!(refused(world.list(options(initial, newer, false)).await).0, 422);
    }
    let seen = |stream: rkube_api::request::WatchStream| async move {
        stream.map(|event| short(&event)).collect::<Vec<_>>().await
    };
    assert_eq!(
        seen(world.watch(options(true, newer, true)).await.unwrap()).await,
        ["ADDED a", "BOOKMARK true"]
    );
    assert_eq!(seen(world.watch(options(true, newer, false)).await.unwrap()).await, ["ADDED a"]);
    assert!(seen(world.watch(options(false, newer, true)).await.unwrap()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn line_09_and_10_objects_come_and_go_as_they_match() {
    let world = World::new().await;
    let api = world.api::<ConfigMap>();
    let selector = Options { label_selector: Some("app=web".into()), ..Options::default() };
    let mut stream = world.watch(selector).await.unwrap();
    let mut map = api.create(&PostParams::default(), config_map("a")).await.unwrap();
    for value in ["web", "web", "other"] {
        let mut next = (*map).clone();
        next.metadata.labels = labelled("a", "app", value).metadata.labels;
        next.data = Some([("v".to_owned(), version(&*map).to_string())].into());
        map = api.update(&PostParams::default(), next).await.unwrap();
    }
    let left = version(&*map);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(stream.next().await.unwrap());
    }
    assert_eq!(seen.iter().map(short).collect::<Vec<_>>(), ["ADDED a", "MODIFIED a", "DELETED a"]);
    let WatchEvent::Deleted(last) = &seen[2] else { panic!() };
    assert_eq!(last.resource_version(), left.to_string());
    assert_eq!(last.meta().labels.as_ref().unwrap()["app"], "web", "as it was last seen");

    let mut stream = world.watch(at(&left.to_string())).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let WatchEvent::Deleted(gone) = stream.next().await.unwrap() else { panic!() };
    assert!(gone.resource_version().parse::<u64>().unwrap() > left);
}

#[tokio::test(start_paused = true)]
async fn history_ages_in_a_server_that_nobody_writes_to() {
    let minutes = |count: u64| std::time::Duration::from_secs(60 * count);
    let world = World::over(Memory::builder().history_age(minutes(5)).build(), |builder| builder).await;
    world.server.context().spawner.spawn("expiry", world.store.run_expiry());
    let first = world.map("a").await;
    let last = world.map("b").await;
    let exact = || Options { resource_version_match: Some(VersionMatch::Exact), ..at(&first.to_string()) };
    tokio::time::sleep(minutes(4)).await;
    assert_eq!(names(&world.list(exact()).await.unwrap()), ["a"]);
    tokio::time::sleep(minutes(2)).await;
    assert_eq!(refused(world.list(exact()).await).0, 410);
    let events: Vec<_> = world.watch(at(&first.to_string())).await.unwrap().collect().await;
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), ["ERROR 410 Expired"]);
    let list = world.list(Options::default()).await.unwrap();
    assert_eq!((names(&list), list.resource_version.parse()), (vec!["a", "b"], Ok(last)));
    let mut stream = world.watch(at(&list.resource_version)).await.unwrap();
    world.map("c").await;
    assert_eq!(short(&stream.next().await.unwrap()), "ADDED c");
}

#[tokio::test(start_paused = true)]
async fn line_11_pages_join_to_one_state() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.map(name).await;
    }
    let page = |token: Option<String>| Options { limit: 2, continue_token: token, ..Options::default() };
    let first = world.list(page(None)).await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["a", "b"], Some(3)));
    world.map("bb").await;
    world.api::<ConfigMap>().delete("e", &DeleteParams::default()).await.unwrap();
    let second = world.list(page(first.continue_token.clone())).await.unwrap();
    let third = world.list(page(second.continue_token.clone())).await.unwrap();
    assert_eq!((names(&second), names(&third)), (vec!["c", "d"], vec!["e"]));
    assert_eq!((third.remaining, third.continue_token.clone()), (None, None));
    for list in [&second, &third] {
        assert_eq!(list.resource_version, first.resource_version);
    }
}

#[tokio::test(start_paused = true)]
async fn every_page_tells_how_many_remain_in_its_state() {
    let world = World::new().await;
    for at in 0..9 {
        world.map(&format!("m{at}")).await;
    }
    for limit in 1..=10 {
        let page = |token: Option<String>| Options { limit, continue_token: token, ..Options::default() };
        let whole = world.list(Options::default()).await.unwrap();
        let mut list = world.list(page(None)).await.unwrap();
        let mut seen = names(&list).len();
        while let Some(token) = list.continue_token {
            assert_eq!(list.remaining, Some((names(&whole).len() - seen) as u64), "{seen} seen by {limit}");
            // What comes and goes meanwhile is of another state.
            world.map(&format!("new-{limit}-{seen}")).await;
            let gone = names(&whole)[seen % whole.items.len()];
            let _ = world.api::<ConfigMap>().delete(gone, &DeleteParams::default()).await;
            list = world.list(page(Some(token))).await.unwrap();
            seen += names(&list).len();
        }
        assert_eq!((seen, list.remaining), (names(&whole).len(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_first_page_is_counted() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.map(name).await;
    }
    let page = |token: Option<String>| Options { limit: 1, continue_token: token, ..Options::default() };
    let token = world.list(page(None)).await.unwrap().continue_token.unwrap();
    // A token that tells another number: who counts again would not believe it.
    let bytes: Vec<u8> =
        (0..token.len()).step_by(2).map(|at| u8::from_str_radix(&token[at..at + 2], 16).unwrap()).collect();
    let mut wire: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    wire["remaining"] = 1000.into();
    let token = wire.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
    let second = world.list(page(Some(token))).await.unwrap();
    assert_eq!((names(&second), second.remaining), (vec!["b"], Some(999)));
    let third = world.list(page(second.continue_token)).await.unwrap();
    assert_eq!((names(&third), third.remaining), (vec!["c"], None));
    assert_eq!(third.continue_token, None);
}

#[tokio::test(start_paused = true)]
async fn line_12_an_expired_token_brings_a_fresh_one() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.map(name).await;
    }
    let page = |token: Option<String>| Options { limit: 1, continue_token: token, ..Options::default() };
    let first = world.list(page(None)).await.unwrap();
    let now = world.map("d").await;
    world.store.compact(Revision(now)).await.unwrap();
    let error = world.list(page(first.continue_token)).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (410, "Expired"));
    let ApiError::Expired { continue_token: Some(token), .. } = error else { panic!("{error:?}") };
    let rest = world.list(Options { continue_token: Some(token), ..Options::default() }).await.unwrap();
    assert_eq!(names(&rest), ["b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn line_13_and_14_what_goes_not_with_paging() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        let map = labelled(name, "even", if name < "c" { "no" } else { "yes" });
        world.api::<ConfigMap>().create(&PostParams::default(), map).await.unwrap();
    }
    let selected = Options { limit: 1, label_selector: Some("even=yes".into()), ..Options::default() };
    let first = world.list(selected.clone()).await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["c"], None));
    let next = Options { continue_token: first.continue_token.clone(), ..selected };
    assert_eq!(names(&world.list(next.clone()).await.unwrap()), ["d"]);
    let (code, text) = refused(world.list(Options { resource_version: Some("3".into()), ..next }).await);
    assert_eq!(
        (code, text.as_str()),
        (400, "specifying resource version is not allowed when using continue")
    );
    let (code, _) =
        refused(world.list(Options { continue_token: Some("no".into()), ..Options::default() }).await);
    assert_eq!(code, 400);
}

#[tokio::test(start_paused = true)]
async fn line_15_fields_select_if_the_kind_knows_them() {
    let world = World::new().await;
    world.map("a").await;
    world.map("b").await;
    let by = |fields: &str| Options { field_selector: Some(fields.into()), ..Options::default() };
    assert_eq!(names(&world.list(by("metadata.name=a")).await.unwrap()), ["a"]);
    assert_eq!(names(&world.list(by("metadata.name!=a")).await.unwrap()), ["b"]);
    assert_eq!(names(&world.list(by("metadata.namespace=default")).await.unwrap()), ["a", "b"]);
    let (code, text) = refused(world.list(by("data.x=1")).await);
    assert_eq!(
        (code, text.as_str()),
        (400, "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    );
    let pods = world.api::<k8s_openapi::api::core::v1::Pod>();
    for (name, node) in [("on", Some("n1")), ("elsewhere", Some("n2")), ("nowhere", None)] {
        let mut pod = pod(name);
        pod.spec.as_mut().unwrap().node_name = node.map(Into::into);
        pods.create(&PostParams::default(), pod).await.unwrap();
    }
    let on = |fields: &'static str| {
        let pods = pods.clone();
        async move {
            let found = pods.list(&ListParams::default().fields(fields)).await.unwrap();
            found.items.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>()
        }
    };
    assert_eq!(on("spec.nodeName=n1").await, ["on"]);
    assert_eq!(on("spec.nodeName!=n1").await, ["elsewhere", "nowhere"]);
    assert_eq!(on("spec.nodeName=,status.phase=Pending").await, ["nowhere"]);
    let (code, text) = refused(pods.list(&ListParams::default().fields("spec.x=1")).await);
    assert_eq!((code, text.as_str()), (400, "field label not supported: spec.x"));
}
