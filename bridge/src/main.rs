//! The binary of the `bridge` plugin.

fn main() {
    cni::run::run::<bridge::Bridge>();
}
