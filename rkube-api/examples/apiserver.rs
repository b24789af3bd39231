//! An API server alone, in memory, behind HTTPS: for trying clients on it.
//!
//! `cargo run -p rkube-api --features http --example apiserver -- 127.0.0.1:6443 /tmp/kubeconfig`

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::{error::Error, process::ExitCode, sync::Arc};

use rkube_api::{
    client::{Api, PostParams},
    context::Context,
    http::{ApiService, Authority, HttpServer, Kubeconfig, write_private},
    k8s_openapi::api::core::v1::{Namespace, ServiceAccount},
    kinds,
    object::Object,
    pipeline::Server,
    registry::Registry,
    request::UserInfo,
};
use rkube_store::Memory;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:6443".into());
    let file = arguments.next().unwrap_or_else(|| "kubeconfig".into());

    let context = Context::system(1);
    let registry = Arc::new(Registry::new(kinds::all())?);
    let store = Arc::new(Memory::<Object>::builder().build());
    let server = Server::builder(store, registry.clone(), context.child("server")).build()?;
    namespaces(&server).await?;

    let service = ApiService::builder(server.clone(), registry, context.child("http")).access(server).build();
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let address = listener.local_addr()?;
    let authority = Authority::new(&context.clock)?;
    let config = authority.server_config(&authority.server(&[address.ip().to_string()])?)?;
    let kubeconfig = Kubeconfig {
        cluster: "rkube".into(),
        user: "admin".into(),
        server: format!("https://{address}"),
        authority: authority.certificate().into(),
        identity: authority.client("admin", &["system:masters"])?,
    };
    write_private(file.as_ref(), &kubeconfig.to_yaml())?;
    eprintln!("serving on https://{address}; try: kubectl --kubeconfig {file} get namespaces");
    HttpServer::new(service, context.spawner.child())
        .tls(config)
        .serve(listener, context.spawner.token().clone())
        .await;
    Ok(())
}

/// The namespaces that every cluster begins with, and the account that their pods run as (no controller
/// makes it here).
async fn namespaces(server: &Arc<Server>) -> Result<(), Box<dyn Error>> {
    let client = server.client(UserInfo::admin("system:apiserver"), "apiserver");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.into());
        namespaces.create(&PostParams::default(), namespace).await?;
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".into());
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
        accounts.create(&PostParams::default(), account).await?;
    }
    Ok(())
}
