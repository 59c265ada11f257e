//! The binary of the `overlay` plugin.

fn main() {
    cni::run::run::<overlay::plugin::Overlay>();
}
