//! The scheduling framework, its plugins and its engine.
