//! The binary of the `portmap` plugin.

fn main() {
    cni::run::run::<chained::portmap::Portmap>();
}
