#![doc = include_str!("../README.md")]

mod cluster;
mod components;
pub mod config;
pub mod defaults;
mod duty;
mod endpoints;
mod error;
mod identity;
mod listen;
mod network;
mod readiness;
mod short;
mod shutdown;
mod state;
mod wait;

pub use cluster::{Builder, Cluster};
pub use components::Nodes;
pub use error::Error;
pub use short::{deployment, is_ready, node_of, pod};

pub use k8s_openapi;
pub use kube;
pub use rkube_api as api;
pub use rkube_controllers as controllers;
pub use rkube_net as net;
pub use rkube_node as node;
pub use rkube_sched as sched;
pub use rkube_store as store;

/// What most programs that embed a cluster need.
pub mod prelude {
    pub use k8s_openapi::api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service},
    };
    pub use rkube_api::client::{
        Api, Change, Client, DeleteParams, EventKind, EventRecorder, Informers, ListParams, ObjectKey, Patch,
        PatchParams, PostParams,
    };

    pub use crate::{Cluster, config::Listen};
}
