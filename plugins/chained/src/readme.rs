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
