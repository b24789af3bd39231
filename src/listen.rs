//! The wire: certificates, the socket, an administrator's kubeconfig.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rkube_api::{
    context::Context,
    http::{ApiService, Authority, HttpServer, Kubeconfig, ServerTls, write_private},
};
use tokio::net::TcpListener;

use crate::{Error, config::Listen, shutdown::Part};

/// A bound socket with its certificates, not served yet.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    advertised: SocketAddr,
    tls: ServerTls,
    kubeconfig: String,
}

impl Listener {
    pub(crate) async fn bind(listen: &Listen, authority: &Authority) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: listen.address, source };
        let socket = TcpListener::bind(listen.address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let mut names = listen.names.clone();
        let ip = listen.advertise.unwrap_or_else(|| reachable(address).ip());
        let advertised = SocketAddr::new(ip, address.port());
        names.extend([address.ip(), ip].map(|ip| ip.to_string()));
        let tls = authority.server_config(&authority.server(&names)?)?;
        let kubeconfig = Kubeconfig {
            cluster: "rkube".into(),
            user: "rkube-admin".into(),
            server: format!("https://{}", reachable(address)),
            authority: authority.certificate().into(),
            identity: authority.client("kubernetes-admin", &["system:masters"])?,
        }
        .to_yaml();
        if let Some(path) = &listen.kubeconfig {
            write_private(path, &kubeconfig)
                .map_err(|source| Error::Kubeconfig { path: path.clone(), source })?;
        }
        Ok(Self { socket, address, advertised, tls, kubeconfig })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// Where others find this server.
    pub(crate) fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    pub(crate) fn start(self, context: &Context, service: ApiService) -> Part {
        let context = context.child("listener");
        let server = HttpServer::new(service, context.spawner.child()).tls(self.tls);
        Part::start("listener", context, |stop| async move { server.serve(self.socket, stop).await })
    }
}

/// An address that a client on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
