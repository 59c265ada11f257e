//! The binary of the `vrf` plugin.

fn main() {
    cni::run::run::<chained::vrf::Vrf>();
}
