//! The binary of the `sbr` plugin.

fn main() {
    cni::run::run::<chained::sbr::Sbr>();
}
