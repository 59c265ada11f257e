//! The binary of the `tuning` plugin.

fn main() {
    cni::run::run::<chained::tuning::Tuning>();
}
