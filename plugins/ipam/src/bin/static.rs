//! CNI plugin `static`.

fn main() {
    cni::run::run::<ipam::static_::Static>();
}
