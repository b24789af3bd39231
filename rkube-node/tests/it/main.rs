//! The tests of the node agent.

mod model;
mod plan;
mod properties;
