//! The binary of the `ptp` plugin.

fn main() {
    cni::run::run::<ptp::Ptp>();
}
