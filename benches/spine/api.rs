//! Single calls through the API in process: one core, one caller, no component running but the server.

use rkube::{api::object::Object, prelude::*, store::Memory};

use crate::report::{line, median, one_core, timed};

/// A pod whose JSON is 837 bytes once the server has filled it in is what the design counts in; this is
/// what a user sends to get about that.
pub(crate) fn small_pod(name: String) -> Pod {
    let mut pod = rkube::pod("web", "nginx:1.27");
    pod.metadata.name = Some(name);
    pod.spec.as_mut().unwrap().automount_service_account_token = Some(false);
    pod
}

async fn cluster() -> Cluster {
    let store = std::sync::Arc::new(Memory::<Object>::builder().build());
    Cluster::builder().store(store).without_scheduler().retain_controllers(|_| false).start().await.unwrap()
}

pub(crate) fn run() {
    const COUNT: usize = 50_000;
    let (mut create, mut get, mut list, mut update, mut status) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut size = 0;
    for _ in 0..5 {
        one_core().block_on(async {
            let cluster = cluster().await;
            let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
            let params = PostParams::default();
            let new: Vec<Pod> = (0..COUNT).map(|number| small_pod(format!("pod-{number:06}"))).collect();
            let ((), took) = timed(async {
                for pod in new {
                    pods.create(&params, pod).await.unwrap();
                }
            })
            .await;
            create.push(COUNT as f64 / took.as_secs_f64());
            let ((), took) = timed(async {
                for number in 0..COUNT {
                    pods.get(&format!("pod-{number:06}")).await.unwrap();
                }
            })
            .await;
            get.push(COUNT as f64 / took.as_secs_f64());
            let (found, took) = timed(pods.list(&ListParams::default())).await;
            let items = found.unwrap().items;
            assert_eq!(items.len(), COUNT);
            list.push(took.as_secs_f64() * 1e3 / (COUNT as f64 / 1e4));
            size = serde_json::to_vec(&*items[0]).unwrap().len();
            let changed: Vec<Pod> = items
                .iter()
                .take(COUNT / 5)
                .map(|pod| {
                    let mut pod = (**pod).clone();
                    pod.metadata.labels.get_or_insert_default().insert("more".into(), "yes".into());
                    pod
                })
                .collect();
            let ((), took) = timed(async {
                for pod in changed {
                    pods.update(&params, pod).await.unwrap();
                }
            })
            .await;
            update.push(COUNT as f64 / 5.0 / took.as_secs_f64());
            let running: Vec<Pod> = pods
                .list(&ListParams::default().limit(COUNT as u64 / 5))
                .await
                .unwrap()
                .items
                .iter()
                .map(|pod| {
                    let mut pod = (**pod).clone();
                    pod.status.get_or_insert_default().phase = Some("Running".into());
                    pod
                })
                .collect();
            let ((), took) = timed(async {
                for pod in running {
                    pods.update_status(&params, pod).await.unwrap();
                }
            })
            .await;
            status.push(COUNT as f64 / 5.0 / took.as_secs_f64());
            cluster.stop().await;
        });
    }
    let rate = |samples| format!("{:.0}/s", median(samples));
    let fresh = create[0];
    line(
        &format!("api: create a pod by value ({size} bytes of JSON), a core"),
        &rate(create),
        ">= 200,000/s",
    );
    line("api: the same in memory fresh from the kernel (the first run)", &rate(vec![fresh]), "");
    line("api: get a pod, a core", &rate(get), "");
    line("api: list 10,000 pods", &format!("{:.2} ms", median(list)), "");
    line("api: update a pod's labels, a core", &rate(update), "");
    line("api: update a pod's status, a core", &rate(status), "");
}
