//! A revisioned key-value store: MVCC, watch, pluggable backends.
