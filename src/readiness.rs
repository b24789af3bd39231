//! Whether the store answers, which `/readyz` and `/livez` tell.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rkube_api::{context::Context, http::Health, object::Object};
use rkube_store::Store;
use tokio::time::{sleep, timeout};

use crate::shutdown::Part;

/// How often the store is asked.
const PERIOD: Duration = Duration::from_secs(5);
/// How long it has to answer: kube-apiserver's bound for etcd.
const PATIENCE: Duration = Duration::from_secs(2);
/// kube-apiserver's name for the check, whatever the store.
const NAME: &str = "etcd";

/// Asks the store again and again, and has the health paths tell how it was last time.
pub(crate) fn watch(store: Arc<dyn Store<Object>>, health: &Health, context: &Context) -> Part {
    let last = Arc::new(Mutex::new(Ok(())));
    let told = last.clone();
    health.add(NAME, move || told.lock().clone());
    Part::start("readiness", context.child("readiness"), move |stop| async move {
        loop {
            let Some(found) = stop.run_until_cancelled(ask(&*store)).await else { return };
            *last.lock() = found;
            if stop.run_until_cancelled(sleep(PERIOD)).await.is_none() {
                return;
            }
        }
    })
}

async fn ask(store: &dyn Store<Object>) -> Result<(), String> {
    match timeout(PATIENCE, store.revision()).await {
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) if store.stats().disk.is_some_and(|disk| disk.failed) => {
            Err("something could not be written; it must be opened again".to_owned())
        }
        Ok(Ok(_)) => Ok(()),
    }
}
