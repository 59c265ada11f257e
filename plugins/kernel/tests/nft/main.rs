//! What the batches make of the kernel's ruleset, as `nft` reads it, and what it loads from the same text.

// `cfg(test)` is what tells clippy that these are tests.
#[cfg(test)]
mod batches;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod sets;
