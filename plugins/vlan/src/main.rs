//! The binary of the `vlan` plugin.

fn main() {
    cni::run::run::<vlan::Vlan>();
}
