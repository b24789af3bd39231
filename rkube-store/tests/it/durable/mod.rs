//! The store on disk.

mod life;
