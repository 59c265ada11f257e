//! The real binaries `host-local` and `static` in a lab of their own, alone and beside those of the reference.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod host_local;
mod interop;
mod measure;
mod scene;
mod static_;
