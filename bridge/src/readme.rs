//! The README's options against the structs that configurations are read into.

use cni::result::Dns;
use testenv::options::{check, keys};

use crate::config::{Args, Ipam, MacOnly, NetConf, VlanTrunk};

#[test]
fn every_option_is_described_and_every_description_is_an_option() {
    let keys = [
        keys::<NetConf>(""),
        keys::<VlanTrunk>("vlanTrunk[]."),
        keys::<Ipam>("ipam."),
        keys::<Dns>("dns."),
        keys::<Args>("args."),
        keys::<MacOnly>("args.cni."),
        keys::<MacOnly>("runtimeConfig."),
    ];
    check(include_str!("../README.md"), "Options", &keys, &["CNI_ARGS MAC"]);
}
