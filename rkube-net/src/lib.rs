//! Addresses, services and the networks of pods.
