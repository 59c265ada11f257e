//! The binary of the `dummy` plugin.

fn main() {
    cni::run::run::<dummy::Dummy>();
}
