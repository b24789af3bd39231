use std::io;

/// Why a store cannot be opened, or a snapshot not be written or read. Unless it is an error of the system
/// (or of the disk) while a sound store was being opened for writing, no file was touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another handle in this one, has it open.
    #[error("the store is in use by another process")]
    Locked,
    /// The folder or a file in it is not a store's.
    #[error("{file} is not part of a store: {reason}")]
    Foreign {
        /// The file.
        file: String,
        /// How one sees that.
        reason: String,
    },
    /// The file was written by a version of this crate whose format this one does not know.
    #[error("{file} has format {found}, and only {known} is known")]
    Format {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// The file is not as it was written, and not only for want of its end.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// There is a store already where a saved one was to begin.
    #[error("there is a store already: what was saved begins in a folder without one")]
    Occupied,
    /// A file that must be there is not.
    #[error("{file} is missing")]
    Missing {
        /// The file.
        file: String,
    },
    /// A value could not be turned into bytes.
    #[error(transparent)]
    Store(#[from] crate::StoreError),
    /// One of our own records has no form in bytes.
    #[error("cannot be written: {0}")]
    Unwritable(String),
    /// The system's error.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The error.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn damaged(file: &str, offset: usize, reason: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), offset: offset as u64, reason: reason.into() }
    }

    /// Names what was being done.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
