//! A real etcd and stores on it.

use std::future::Future;

use futures::future::BoxFuture;
use rkube_store::backend::etcd::{Builder, Etcd};
use rkube_store::testing::Text;
use rkube_store::testing::etcd::Server;

pub(crate) fn server() -> Server {
    Server::start().unwrap()
}

pub(crate) fn builder<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Builder<Text> {
    Etcd::builder(servers.into_iter().map(Server::endpoint))
}

/// Connects and does what a host does with the driver.
pub(crate) async fn connect(builder: Builder<Text>) -> Etcd<Text> {
    let store = builder.connect().await.unwrap();
    drive(store.run());
    store
}

#[allow(clippy::disallowed_methods, reason = "a test has no context to spawn from")]
pub(crate) fn drive(driver: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(driver);
}

/// Runs tasks on the threads that the test's runtime has.
pub(crate) async fn spread(tasks: Vec<BoxFuture<'static, ()>>) {
    let mut running = tokio::task::JoinSet::new();
    for task in tasks {
        running.spawn(task);
    }
    running.join_all().await;
}
