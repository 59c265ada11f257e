//! The option page against the structs that configurations are read into.

use testenv::options::{check, keys};

const PAGE: &str = include_str!("../README.md");

#[test]
fn portmap() {
    use crate::portmap::config::{MappingConf, NetConf, RuntimeConf};
    let mappings = keys::<MappingConf>("runtimeConfig.portMappings[].");
    check(PAGE, "portmap", &[keys::<NetConf>(""), keys::<RuntimeConf>("runtimeConfig."), mappings], &[]);
}

#[test]
fn firewall() {
    check(PAGE, "firewall", &[keys::<crate::firewall::config::NetConf>("")], &[]);
}

#[test]
fn tuning() {
    use crate::tuning::config::{ArgsConf, CniArgsConf, NetConf, RuntimeConf};
    let keys = [
        keys::<NetConf>(""),
        keys::<RuntimeConf>("runtimeConfig."),
        keys::<ArgsConf>("args."),
        keys::<CniArgsConf>("args.cni."),
    ];
    check(PAGE, "tuning", &keys, &["CNI_ARGS MAC"]);
}

#[test]
fn bandwidth() {
    use crate::bandwidth::config::{NetConf, RatesConf, RuntimeConf};
    let keys = [
        keys::<NetConf>(""),
        keys::<RuntimeConf>("runtimeConfig."),
        keys::<RatesConf>("runtimeConfig.bandwidth."),
    ];
    check(PAGE, "bandwidth", &keys, &[]);
}

#[test]
fn sbr() {
    check(PAGE, "sbr", &[keys::<crate::sbr::config::NetConf>("")], &[]);
}

#[test]
fn vrf() {
    check(PAGE, "vrf", &[keys::<crate::vrf::config::NetConf>("")], &[]);
}
