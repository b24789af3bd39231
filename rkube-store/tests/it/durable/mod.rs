//! The store on disk.

mod crashes;
mod damage;
#[cfg(feature = "encrypt")]
mod encrypt;
mod forks;
mod gated;
mod kill;
mod life;
mod space;
mod suite;

use std::path::Path;

use rkube_store::backend::durable::{Disk, Folder};

/// A folder that goes away; in memory where the system has enough, for a sync of a busy disk may take long.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let is_roomy = Folder::new(memory).free_bytes().is_some_and(|free| free > 1 << 30);
    tempfile::tempdir_in(if is_roomy { memory.to_owned() } else { std::env::temp_dir() }).unwrap()
}
