//! The binary of the `bandwidth` plugin.

fn main() {
    cni::run::run::<chained::bandwidth::Bandwidth>();
}
