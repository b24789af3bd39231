//! The reconciler runtime and the built-in controllers.
