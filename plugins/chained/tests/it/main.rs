//! The chained plugins as a runtime sees them: the real binaries against the real kernel, in labs.

mod loopback;
