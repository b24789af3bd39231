//! `/healthz`, `/livez`, `/readyz`: whether the server is well, check by check.
//!
//! Semantics: <https://kubernetes.io/docs/reference/using-api/health-checks/>

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{Response, StatusCode};
use parking_lot::RwLock;

use super::{body::ResponseBody, query::Query, render};
use crate::error::ApiError;

type Ask = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Check {
    name: String,
    /// A check that only readiness needs does not make the server unhealthy.
    readiness_only: bool,
    ask: Ask,
}

/// The checks behind the health paths. Clones share them.
///
/// ```
/// use rkube_api::http::Health;
///
/// let health = Health::default();
/// health.add_readiness("informer-sync", || Err("not synced".into()));
/// assert!(health.is_live() && !health.is_ready());
/// ```
#[derive(Clone, Default)]
pub struct Health {
    checks: Arc<RwLock<Vec<Check>>>,
    stopping: Arc<AtomicBool>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.checks.read().iter().map(|check| &check.name)).finish()
    }
}

impl Health {
    /// Adds a check to all three paths.
    pub fn add(&self, name: &str, ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.push(name, false, Arc::new(ask));
    }

    /// Adds a check to `/readyz` only.
    pub fn add_readiness(&self, name: &str, ask: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.push(name, true, Arc::new(ask));
    }

    fn push(&self, name: &str, readiness_only: bool, ask: Ask) {
        self.checks.write().push(Check { name: name.to_owned(), readiness_only, ask });
    }

    /// From now on the server is not ready: it is shutting down.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether `/livez` says ok.
    pub fn is_live(&self) -> bool {
        self.results("livez", &[]).iter().all(|(_, result)| result.is_ok())
    }

    /// Whether `/readyz` says ok.
    pub fn is_ready(&self) -> bool {
        self.results("readyz", &[]).iter().all(|(_, result)| result.is_ok())
    }

    fn results(&self, endpoint: &str, excluded: &[&str]) -> Vec<(String, Result<(), String>)> {
        let ready = endpoint == "readyz";
        let mut results = vec![("ping".to_owned(), Ok(()))];
        let checks: Vec<Check> = self.checks.read().clone();
        let asked = checks.iter().filter(|check| ready || !check.readiness_only);
        results.extend(asked.map(|check| (check.name.clone(), (check.ask)())));
        if ready {
            let stopping = self.stopping.load(Ordering::Relaxed);
            let result = if stopping { Err("shutting down".to_owned()) } else { Ok(()) };
            results.push(("shutdown".to_owned(), result));
        }
        results.retain(|(name, _)| !excluded.contains(&name.as_str()));
        results
    }

    /// Answers a health path, or one check of it.
    pub(super) fn answer(
        &self,
        endpoint: &str,
        check: Option<&str>,
        query: &Query,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut results = self.results(endpoint, &excluded);
        if let Some(check) = check {
            results.retain(|(name, _)| name == check);
            if results.is_empty() {
                return Err(ApiError::NoSuchPath);
            }
        }
        let well = results.iter().all(|(_, result)| result.is_ok());
        let verbose = query.get("verbose").is_some() && check.is_none();
        let text = if well && !verbose { "ok".to_owned() } else { report(endpoint, &results, well) };
        let code = if well { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        Ok(render::response(code, "text/plain; charset=utf-8", text))
    }
}

/// One line a check. Why a check failed is logged, not told: the paths are public.
fn report(endpoint: &str, results: &[(String, Result<(), String>)], well: bool) -> String {
    let mut text = String::new();
    for (name, result) in results {
        match result {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                tracing::info!(endpoint, check = %name, %reason, "health check failed");
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    text.push_str(&format!("{endpoint} check {}\n", if well { "passed" } else { "failed" }));
    text
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn ask(health: &Health, endpoint: &str, check: Option<&str>, query: &str) -> (u16, String) {
        match health.answer(endpoint, check, &Query::parse(query)) {
            Ok(response) => {
                let code = response.status().as_u16();
                let bytes = response.into_body().collect().await.unwrap().to_bytes();
                (code, String::from_utf8(bytes.to_vec()).unwrap())
            }
            Err(error) => (error.code(), String::new()),
        }
    }

    #[tokio::test]
    async fn checks_fail_where_they_belong() {
        let health = Health::default();
        assert_eq!(ask(&health, "readyz", None, "").await, (200, "ok".into()));
        health.add_readiness("sync", || Err("secret".into()));
        assert_eq!(ask(&health, "livez", None, "").await.0, 200);
        let (code, text) = ask(&health, "readyz", None, "").await;
        assert_eq!(code, 500);
        assert!(text.contains("[-]sync failed: reason withheld") && text.contains("[+]ping ok"));
        assert_eq!(ask(&health, "readyz", None, "exclude=sync").await.0, 200);
        assert_eq!(ask(&health, "readyz", Some("ping"), "").await.0, 200);
        assert_eq!(ask(&health, "readyz", Some("nothing"), "").await.0, 404);
        assert!(ask(&health, "livez", None, "verbose").await.1.ends_with("livez check passed\n"));
        health.set_stopping();
        assert_eq!(ask(&health, "readyz", None, "exclude=sync").await.0, 500);
    }
}
