//! What the loop is told.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use rkube_api::client::{Change, Seen};
use tokio::sync::{Notify, oneshot};

use super::{binding::Ended, inspect::Inspection};
use crate::{framework::ClusterEvent, snapshot::Uid};

/// One thing that happened.
#[derive(Debug)]
pub(super) enum News {
    Pod(Seen<Pod>),
    Node(Change<Node>),
    Other(ClusterEvent),
    /// More objects are known that plugins look up for some pods.
    Known,
    Ended(Vec<Ended>),
    /// A pod was to make room for another one and could not be sent away.
    Spared {
        victim: Uid,
        preemptor: Uid,
    },
    /// Somebody wants to know what the loop believes.
    Look(oneshot::Sender<Inspection>),
}

/// News in the order in which they came. Telling never waits: informers call it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: Mutex<Vec<News>>,
    arrived: Notify,
}

impl Inbox {
    pub(super) fn tell(&self, news: News) {
        self.waiting.lock().push(news);
        self.arrived.notify_one();
    }

    /// Everything told so far.
    pub(super) fn take(&self) -> Vec<News> {
        std::mem::take(&mut self.waiting.lock())
    }

    /// Waits until there is something to take.
    pub(super) async fn arrived(&self) {
        if self.waiting.lock().is_empty() {
            self.arrived.notified().await;
        }
    }

    /// To tell of one sort of news. It does nothing once the loop has ended.
    pub(super) fn teller<T: 'static>(
        self: &Arc<Self>,
        news: fn(T) -> News,
    ) -> impl Fn(T) + Send + Sync + 'static {
        let inbox = Arc::downgrade(self);
        move |it| {
            if let Some(inbox) = inbox.upgrade() {
                inbox.tell(news(it));
            }
        }
    }
}
