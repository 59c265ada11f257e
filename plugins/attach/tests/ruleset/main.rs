//! The suite's tables in the running kernel.

// `cfg(test)` is what tells clippy that these are tests.
#[cfg(test)]
mod cost;
#[cfg(test)]
mod legacy;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod ownership;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod scene;
