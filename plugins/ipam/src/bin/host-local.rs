//! CNI plugin `host-local`.

fn main() {
    cni::run::run::<ipam::host_local::HostLocal>();
}
