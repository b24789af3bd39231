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
use std::time::Duration;

/// How often other ports are tried where somebody else took those that were free.
const TRIES: usize = 10;
/// How often a process that begins is looked at, and how many times.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: usize = 6000;

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
        let mut members = Self::start_all(1, arguments)?;
        members.pop().ok_or_else(|| io::Error::other("no member was planned"))
    }

    /// A cluster of several members.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn cluster(members: usize) -> io::Result<Vec<Self>> {
        Self::start_all(members, &[])
    }

    /// A port that was free may be taken before etcd has it, so then other ones are tried.
    fn start_all(members: usize, arguments: &[String]) -> io::Result<Vec<Self>> {
        let mut tries = 0;
        loop {
            tries += 1;
            let plans = Self::plan(members)?.into_iter();
            match plans.map(|plan| plan.start(arguments)).collect() {
                Err(error) if is_taken(&error) && tries < TRIES => {}
                started => return started,
            }
        }
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

    /// Starts a member again that was killed, with its data. Its ports are those that it had.
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

/// Starts a process and waits until it listens, which it does before it looks for the other members.
fn spawn(arguments: &[String], directory: &Path) -> io::Result<Child> {
    let path = directory.join("log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
    let before = log.metadata()?.len();
    let mut command = Command::new("etcd");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut process = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(error.kind(), "etcd is not installed (Debian: apt-get install etcd-server)")
        }
        _ => error,
    })?;
    let mut said = String::new();
    for _ in 0..LOOKS {
        // Looked at first: what it said is then all that it ever will.
        let ended = process.try_wait()?;
        said = said_since(&path, before)?;
        if said.contains("\"starting an etcd server\"") {
            return Ok(process);
        }
        if ended.is_some() {
            let taken = said.contains("address already in use");
            let kind = if taken { io::ErrorKind::AddrInUse } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, format!("etcd ended: {said}")));
        }
        std::thread::sleep(LOOK);
    }
    let _ = process.kill();
    let _ = process.wait();
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("etcd does not listen: {said}")))
}

fn said_since(log: &Path, before: u64) -> io::Result<String> {
    use std::io::{Read, Seek};
    let mut log = std::fs::File::open(log)?;
    log.seek(io::SeekFrom::Start(before))?;
    let mut said = Vec::new();
    log.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Ports that are free now; all are held until all are known. They are none of those that systems give to
/// outgoing connections, so that nobody gets one by chance while its member is down.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    const FIRST: u64 = 10_000;
    const COUNT: u64 = 20_000;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Processes that run side by side begin far from each other.
    let begin = u64::from(std::process::id()).wrapping_mul(7919);
    let mut held = Vec::new();
    for _ in 0..COUNT {
        if held.len() == count {
            break;
        }
        let port = FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        held.extend(u16::try_from(port).ok().and_then(|port| TcpListener::bind(("127.0.0.1", port)).ok()));
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_planned_twice() {
        let plans: Vec<_> = (0..50).flat_map(|_| Server::plan(3).unwrap()).collect();
        let mut ports: Vec<_> = plans.iter().map(|plan| plan.client).collect();
        ports.extend(plans.iter().map(|plan| plan.peer.rsplit(':').next().unwrap().parse::<u16>().unwrap()));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 300);
    }
}
