//! The binary of the `firewall` plugin.

fn main() {
    cni::run::run::<chained::firewall::Firewall>();
}
