//! What a component tells of an object, in both forms that events have.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use rkube_api::client::{EventKind, EventRecorder, ListParams, PostParams};

use crate::support::{World, pod};

async fn told(world: &World) -> Vec<Event> {
    // Until all is written.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
    events.items.iter().map(|event| (**event).clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn events_of_the_newer_form_have_one_time_and_repeat_as_a_series() {
    let world = World::new().await;
    let pod = world.api::<Pod>().create(&PostParams::default(), pod("web")).await.unwrap();
    let recorder = EventRecorder::new(&world.client, "default-scheduler").new_form("default-scheduler-1");
    let record = || recorder.record(&*pod, EventKind::Normal, "Scheduled", "Binding", "to n1".into());
    record();
    let [once] = &told(&world).await[..] else { panic!("not one event") };
    assert_eq!(once.reporting_component.as_deref(), Some("default-scheduler"));
    assert_eq!(once.reporting_instance.as_deref(), Some("default-scheduler-1"));
    assert_eq!(once.action.as_deref(), Some("Binding"));
    let old = (&once.first_timestamp, &once.last_timestamp, &once.count, &once.source, &once.series);
    assert_eq!(old, (&None, &None, &None, &None, &None));
    record();
    record();
    let [again] = &told(&world).await[..] else { panic!("not one event") };
    assert_eq!(again.event_time, once.event_time);
    let series = again.series.clone().unwrap();
    assert_eq!(series.count, Some(3));
    assert!(series.last_observed_time > again.event_time);
}

#[tokio::test(start_paused = true)]
async fn events_of_the_older_form_count_their_repeats() {
    let world = World::new().await;
    let pod = world.api::<Pod>().create(&PostParams::default(), pod("web")).await.unwrap();
    let recorder = EventRecorder::new(&world.client, "kubelet").on_host("n1");
    let record = || recorder.record(&*pod, EventKind::Normal, "Pulled", "", "an image".into());
    record();
    let [once] = &told(&world).await[..] else { panic!("not one event") };
    assert_eq!((once.count, &once.event_time, &once.series), (Some(1), &None, &None));
    assert_eq!(once.first_timestamp, once.last_timestamp);
    assert_eq!(once.source.as_ref().unwrap().host.as_deref(), Some("n1"));
    record();
    let [again] = &told(&world).await[..] else { panic!("not one event") };
    assert_eq!((again.count, &again.first_timestamp), (Some(2), &once.first_timestamp));
    assert!(again.last_timestamp > once.last_timestamp);
}

/// An hour after it was last written, as kube-apiserver's `--event-ttl` says.
#[tokio::test(start_paused = true)]
async fn an_event_is_forgotten_after_an_hour() {
    let world = World::new().await;
    let pod = world.api::<Pod>().create(&PostParams::default(), pod("web")).await.unwrap();
    let recorder = EventRecorder::new(&world.client, "kubelet");
    recorder.record(&*pod, EventKind::Normal, "Started", "Start", "it runs".into());
    assert_eq!(told(&world).await.len(), 1);
    tokio::time::sleep(Duration::from_secs(3590)).await;
    assert_eq!(told(&world).await.len(), 1);
    // Events share leases, which last up to a minute more.
    tokio::time::sleep(Duration::from_secs(80)).await;
    assert!(told(&world).await.is_empty());
    world.api::<Pod>().get("web").await.unwrap();
}
