//! The binary of the `ipvlan` plugin.

fn main() {
    cni::run::run::<ipvlan::Ipvlan>();
}
