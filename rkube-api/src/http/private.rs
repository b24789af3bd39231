//! Files that hold keys.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

/// Writes a file that holds a key (a kubeconfig, say): readable by its owner only, whole or not at all. A file
/// of that name is replaced.
///
/// ```no_run
/// # let kubeconfig = String::new();
/// rkube_api::http::write_private("kubeconfig".as_ref(), &kubeconfig)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// Those of the file system; a file that was there stays then.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    // A file of that name may be another user's, or a link: never write through it.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_with_a_key_is_its_owners_alone() {
        let folder = std::env::temp_dir().join(format!("rkube-private-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("kubeconfig");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        // A file that everyone could read is replaced, not written into.
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        // Somebody has laid a link where the new file is made.
        let other = folder.join("other");
        fs::write(&other, "theirs").unwrap();
        symlink(&other, folder.join("kubeconfig.new")).unwrap();
        write_private(&path, "secret").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("secret", 0o600));
        assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
        write_private(&path, "again").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode()), ("again", 0o600));
        assert!(!folder.join("kubeconfig.new").exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
