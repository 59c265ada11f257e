//! Every kernel call against the running kernel, in namespaces of the test's own.

// `cfg(test)` is what tells clippy that these are tests.
#[cfg(test)]
mod addresses;
#[cfg(test)]
mod bridges;
#[cfg(test)]
mod features;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod links;
#[cfg(test)]
mod neighbours;
#[cfg(test)]
mod netlink;
#[cfg(test)]
mod netns;
#[cfg(test)]
mod qdiscs;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod sysctls;
