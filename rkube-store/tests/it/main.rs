//! The store from outside: one entry point, a module a subject.

mod basics;
