//! The wire: certificates, the socket, an administrator's kubeconfig.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use rkube_api::{
    context::Context,
    http::{ApiService, Authority, HttpServer, Kubeconfig, ServerTls},
};
use tokio::net::TcpListener;

use crate::{Error, config::Listen, shutdown::Part};

/// A bound socket with its certificates, not served yet.
pub(crate) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: ServerTls,
    kubeconfig: String,
    authority: String,
}

impl Listener {
    pub(crate) async fn bind(listen: &Listen, context: &Context) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: listen.address, source };
        let socket = TcpListener::bind(listen.address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let authority = Authority::new(&context.clock)?;
        let mut names = listen.names.clone();
        names.push(address.ip().to_string());
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
        let authority = authority.certificate().to_owned();
        Ok(Self { socket, address, tls, kubeconfig, authority })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// The certificate of the authority that the server's was made by, as PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// What the `kubernetes` service leads to.
    pub(crate) fn endpoint(&self) -> (IpAddr, u16) {
        let address = reachable(self.address);
        (address.ip(), address.port())
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

/// Writes a file that holds a key: readable by its owner only, whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // A file of that name may be another user's, or a link: never write through it.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_with_a_key_is_its_owners_alone() {
        let folder = std::env::temp_dir().join(format!("rkube-private-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("kubeconfig");
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        // A file that everyone could read is replaced, not written into.
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        // Somebody has laid a link where the new file is made.
        let other = folder.join("other");
        std::fs::write(&other, "theirs").unwrap();
        symlink(&other, folder.join("kubeconfig.new")).unwrap();
        write_private(&path, "secret").unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), mode()), ("secret", 0o600));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
        write_private(&path, "again").unwrap();
        assert_eq!((std::fs::read_to_string(&path).unwrap().as_str(), mode()), ("again", 0o600));
        assert!(!folder.join("kubeconfig.new").exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
