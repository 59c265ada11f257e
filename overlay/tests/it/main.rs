//! The overlay against the running kernel, in namespaces of the test's own.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod apply;
#[cfg(test)]
mod checksum;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod guard;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod scene;
