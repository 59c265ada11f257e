//! Every kernel call against the running kernel, in namespaces of the test's own.

// `cfg(test)` is what tells clippy that these are tests.
#[cfg(test)]
mod lab;
#[cfg(test)]
mod links;
