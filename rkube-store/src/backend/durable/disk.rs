use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A folder of files, as the durable backend uses it. The real one is [`Folder`]; a test wraps or replaces
/// it to inject faults.
///
/// Files are only ever written from their beginning to their end, and never changed after that. What was
/// written is on disk after [`Output::sync`], and the names of files after [`Disk::sync_names`].
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use std::io::Read;
/// use rkube_store::backend::durable::{Disk, Folder};
/// # let path = std::env::temp_dir().join(format!("rkube-disk-{}", std::process::id()));
/// let disk = Folder::new(&path);
/// let guard = disk.lock()?;
/// let mut file = disk.create("hello")?;
/// file.append(b"world")?;
/// file.sync()?;
/// disk.sync_names()?;
/// let mut text = String::new();
/// disk.read("hello")?.read_to_string(&mut text)?;
/// assert_eq!(text, "world");
/// # std::fs::remove_dir_all(path)
/// # }
/// ```
pub trait Disk: Send + Sync + 'static {
    /// Keeps every other process out until the guard is dropped.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if somebody else is in.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// The names of all that is in the folder, in any order.
    ///
    /// # Errors
    /// As the system's.
    fn names(&self) -> io::Result<Vec<String>>;

    /// A file's content.
    ///
    /// # Errors
    /// As the system's.
    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;

    /// A new, empty file, in the place of an old one of that name.
    ///
    /// # Errors
    /// As the system's.
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>>;

    /// Gives a file another name, in the place of an old one.
    ///
    /// # Errors
    /// As the system's.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// As the system's.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when all names are on disk as they are.
    ///
    /// # Errors
    /// As the system's; it is not known then which names are on disk.
    fn sync_names(&self) -> io::Result<()>;

    /// How many more bytes fit; `None` if the system does not tell.
    fn free_bytes(&self) -> Option<u64>;
}

/// A file that is written.
pub trait Output: Send {
    /// Writes at the end.
    ///
    /// # Errors
    /// As the system's; it is not known then how much was written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was appended is on disk.
    ///
    /// # Errors
    /// As the system's; it is not known then, nor ever after, how much is on disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real folder. It is made when a store in it is opened and it is not there.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

/// Makes a folder and those it lies in, and has their names on disk.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    make(parent)?;
    match private_folder().create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(parent),
    }
}

/// What is kept here may be secret, so only its owner may look at it.
fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// The same for a file.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and names are on disk by themselves.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

impl Disk for Folder {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        make(&self.0)?;
        let path = self.0.join(super::layout::LOCK);
        let file = private_file().truncate(false).open(path)?;
        file.try_lock()?;
        Ok(Box::new(file))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into());
        match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            entries => entries?.map(name).collect(),
        }
    }

    fn read(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.0.join(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(Written(private_file().truncate(true).open(self.0.join(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_folder(&self.0)
    }

    #[cfg(unix)]
    fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::statvfs(&self.0).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    #[cfg(not(unix))]
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

pub(super) struct Written(pub(super) File);

impl Output for Written {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
