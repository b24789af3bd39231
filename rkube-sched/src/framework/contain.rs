//! A plugin that panics fails its pod, not the scheduler.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures::FutureExt;

use super::Status;

/// Runs a method of a plugin. A panic becomes an error that names the plugin and the point.
///
/// What the method may have changed half is thrown away with the cycle: that is why it is safe to go on.
pub(crate) fn contained<T>(
    plugin: &'static str,
    point: &'static str,
    call: impl FnOnce() -> T,
) -> Result<T, Status> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| panicked(plugin, point, &*payload))
}

/// As [`contained`], for a method that waits.
pub(crate) async fn contained_async<T>(
    plugin: &'static str,
    point: &'static str,
    call: impl Future<Output = T>,
) -> Result<T, Status> {
    let done = AssertUnwindSafe(call).catch_unwind().await;
    done.map_err(|payload| panicked(plugin, point, &*payload))
}

fn panicked(plugin: &'static str, point: &'static str, payload: &(dyn Any + Send)) -> Status {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    tracing::error!(plugin, point, text, "a plugin panicked");
    Status::error(format!("plugin {plugin:?} panicked in {point}: {text}")).from_plugin(plugin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_that_says_who_and_where() {
        let status = contained::<()>("P", "Filter", || panic!("no {}", "way")).unwrap_err();
        assert_eq!(status.message(), "plugin \"P\" panicked in Filter: no way");
        assert_eq!(status.plugin(), Some("P"));
        let late = contained_async::<()>("P", "Bind", async { panic!("never") }).await;
        assert_eq!(late.unwrap_err().message(), "plugin \"P\" panicked in Bind: never");
        assert_eq!(contained("P", "Filter", || 1), Ok(1));
    }
}
