//! The binary of the `macvlan` plugin.

fn main() {
    cni::run::run::<macvlan::Macvlan>();
}
