//! The API through its real router, in this process, with a fresh database for each test.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
mod certificates;
mod crud;
mod document;
mod etags;
mod operation;
mod pages;
mod running;
mod secrets;
mod support;
mod tokens;
