//! The order in which a cluster ends: nodes, controllers, scheduler, listener.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rkube::{api::client::Informers, config::Waits, controllers::runtime::Component, prelude::*};
use tokio_util::sync::CancellationToken;

/// Looks around when the controllers are told to end.
struct Witness {
    client: Client,
    address: Arc<OnceLock<SocketAddr>>,
    seen: Arc<Mutex<Option<Seen>>>,
}

#[derive(Debug, PartialEq)]
struct Seen {
    scheduler_binds: bool,
    node_starts: bool,
    listens: bool,
}

#[async_trait]
impl Component for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn prepare(&self, _: &Informers) {}

    fn drain(&self) -> Duration {
        PATIENCE
    }

    async fn run(&self, token: CancellationToken) {
        token.cancelled().await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), "default");
        let mut late = rkube::pod("late", "nginx");
        late.metadata.name = Some("late".into());
        pods.create(&PostParams::default(), late).await.unwrap();
        let bound = async {
            while rkube::node_of(&pods.get("late").await.unwrap()).is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let scheduler_binds = tokio::time::timeout(PATIENCE / 2, bound).await.is_ok();
        // An agent that still ran would have said so by then.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let late = pods.get("late").await.unwrap();
        let node_starts = late.status.as_ref().is_some_and(|status| status.start_time.is_some());
        let listens = TcpStream::connect(self.address.get().unwrap()).is_ok();
        *self.seen.lock() = Some(Seen { scheduler_binds, node_starts, listens });
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn nodes_end_before_controllers_before_the_scheduler_before_the_listener() {
    let (address, seen) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(None)));
    let (told, noted) = (address.clone(), seen.clone());
    let cluster = Cluster::builder()
        .simulated(1)
        .nodes(1)
        .listen(Listen::on((Ipv4Addr::new(127, 0, 0, 77), 0)))
        .waits(Waits { drain: 2 * PATIENCE, ..Waits::default() })
        .component(move |deps| {
            let client = deps.client().clone();
            Arc::new(Witness { client, address: told.clone(), seen: noted.clone() })
        })
        .start()
        .await
        .unwrap();
    let at = cluster.address().unwrap();
    address.set(at).unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "default");
    pods.create(&PostParams::default(), rkube::pod("early", "nginx")).await.unwrap();
    cluster.wait_for(&pods, "early", |pod| pod.is_some_and(rkube::is_ready)).await.unwrap();
    cluster.stop().await;
    let expected = Seen { scheduler_binds: true, node_starts: false, listens: true };
    assert_eq!(*seen.lock(), Some(expected));
    // Nobody else uses that address.
    assert!(TcpStream::connect(at).is_err(), "nobody listens any more");
}
