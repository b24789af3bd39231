//! A real etcd for tests: the program `etcd` of the system, on ports of the loopback that nobody uses, in a
//! directory that goes away with it.
//!
//! ```no_run
//! use rkube_store::testing::etcd::Server;
//! let server = Server::start()?; // fails with a clear text where there is no etcd
//! println!("{}", server.endpoint());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory of its own, removed when dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rkube-etcd-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing depends on it any more; the system clears its temporary directory, too.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a member's process is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Killed at once (`SIGKILL`).
    Kill,
    /// Stopped, as if the network to it were cut: connections stay and nothing is answered.
    Stop,
    /// Going on after [`Signal::Stop`].
    Continue,
}

/// One member of an etcd cluster. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Server {
    process: Child,
    arguments: Vec<String>,
    endpoint: String,
    directory: Directory,
}

impl Server {
    /// A cluster of one member.
    ///
    /// # Errors
    /// Where there is no etcd, or it cannot be started.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// A cluster of one member with further arguments.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with(arguments: &[String]) -> io::Result<Self> {
        let mut members = Self::plan(1)?;
        let plan = members.pop().ok_or_else(|| io::Error::other("no member was planned"))?;
        plan.start(arguments)
    }

    /// A cluster of several members.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn cluster(members: usize) -> io::Result<Vec<Self>> {
        Self::plan(members)?.into_iter().map(|plan| plan.start(&[])).collect()
    }

    fn plan(members: usize) -> io::Result<Vec<Plan>> {
        let ports = free_ports(2 * members)?;
        let peers: Vec<_> =
            ports.iter().take(members).map(|port| format!("http://127.0.0.1:{port}")).collect();
        let named = peers.iter().enumerate().map(|(at, peer)| format!("member-{at}={peer}"));
        let cluster = named.collect::<Vec<_>>().join(",");
        let plans = peers.into_iter().zip(&ports[members..]).enumerate();
        Ok(plans
            .map(|(at, (peer, client))| Plan {
                name: format!("member-{at}"),
                peer,
                client: *client,
                cluster: cluster.clone(),
            })
            .collect())
    }

    /// Where clients find it.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The number of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Where its data and its log (`log`) are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// Kills, stops or continues its process.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let name = match signal {
            Signal::Kill => "-KILL",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let sent = Command::new("kill").args([name, &self.pid().to_string()]).status()?;
        if signal == Signal::Kill {
            self.process.wait()?;
        }
        if sent.success() { Ok(()) } else { Err(io::Error::other("the signal was not sent")) }
    }

    /// Starts a member again that was killed, with its data.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.process = spawn(&self.arguments, &self.directory.0)?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already; both calls fail then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A member that is not started yet.
struct Plan {
    name: String,
    peer: String,
    client: u16,
    cluster: String,
}

impl Plan {
    fn start(self, more: &[String]) -> io::Result<Server> {
        let directory = Directory::new()?;
        let data = directory.0.join("data").display().to_string();
        let is_tls = more.iter().any(|argument| argument == "--cert-file");
        let endpoint = format!("http{}://127.0.0.1:{}", if is_tls { "s" } else { "" }, self.client);
        let mut arguments = Vec::new();
        for (name, value) in [
            ("--name", &*self.name),
            ("--data-dir", &data),
            ("--listen-peer-urls", &self.peer),
            ("--initial-advertise-peer-urls", &self.peer),
            ("--initial-cluster", &self.cluster),
            ("--listen-client-urls", &endpoint),
            ("--advertise-client-urls", &endpoint),
            ("--heartbeat-interval", "50"),
            ("--election-timeout", "500"),
            ("--logger", "zap"),
            ("--log-outputs", "stderr"),
        ] {
            arguments.extend([name.to_owned(), value.to_owned()]);
        }
        arguments.extend_from_slice(more);
        let process = spawn(&arguments, &directory.0)?;
        Ok(Server { process, arguments, endpoint, directory })
    }
}

fn spawn(arguments: &[String], directory: &Path) -> io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join("log"))?;
    let mut command = Command::new("etcd");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), "etcd is not installed (Debian: apt-get install etcd-server)")
        }
        _ => error,
    })
}

/// Ports that are free now; all are held until all are known.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
