//! The node agent: pod lifecycle over pluggable runtimes.
