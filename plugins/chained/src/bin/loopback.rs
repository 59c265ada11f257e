//! The binary of the `loopback` plugin.

fn main() {
    cni::run::run::<chained::loopback::Loopback>();
}
