//! `/version`.

use serde::Serialize;

/// What the server says of its build: `version.Info` of Kubernetes.
///
/// ```
/// let version = rkube_api::http::VersionInfo::default();
/// assert!(version.git_version.starts_with("v1.37."));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionInfo {
    /// `1`.
    pub major: String,
    /// `37`: the Kubernetes version whose API this is.
    pub minor: String,
    /// `v1.37.0+rkube`.
    pub git_version: String,
    /// The commit of the build, empty if unknown.
    pub git_commit: String,
    /// `clean`, or empty if unknown.
    pub git_tree_state: String,
    /// When it was built.
    pub build_date: String,
    /// For Kubernetes the version of Go; here the language.
    pub go_version: String,
    /// The compiler.
    pub compiler: String,
    /// `linux/amd64`.
    pub platform: String,
}

impl Default for VersionInfo {
    fn default() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            major: "1".into(),
            minor: "37".into(),
            git_version: format!("v1.37.0+rkube-{}", env!("CARGO_PKG_VERSION")),
            git_commit: String::new(),
            git_tree_state: String::new(),
            build_date: "1970-01-01T00:00:00Z".into(),
            go_version: "rust".into(),
            compiler: "rustc".into(),
            platform: format!("{}/{arch}", std::env::consts::OS),
        }
    }
}
