//! The README's tables against the structs that configurations are read into: neither has a key that the other lacks.

use testenv::options::{check, keys};

use crate::{host_local, range::RangeConf, requested::CniArgsConf, static_};

const PAGE: &str = include_str!("../README.md");

#[test]
fn host_local_s_options() {
    use host_local::config::{IpamConf, RuntimeConf};
    let keys = [
        keys::<IpamConf>(""),
        keys::<RangeConf>("ranges[][]."),
        keys::<RuntimeConf>("runtimeConfig."),
        keys::<CniArgsConf>("args.cni."),
    ];
    check(PAGE, "host-local", &keys, &["type", "CNI_ARGS IP"]);
}

#[test]
fn static_s_options() {
    use static_::config::{AddressConf, IpamConf, RuntimeConf};
    let keys = [
        keys::<IpamConf>(""),
        keys::<AddressConf>("addresses[]."),
        keys::<RuntimeConf>("runtimeConfig."),
        keys::<CniArgsConf>("args.cni."),
    ];
    check(PAGE, "static", &keys, &["type", "CNI_ARGS IP", "CNI_ARGS GATEWAY"]);
}
