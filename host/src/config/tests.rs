use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use super::*;

/// A sysfs with a PCI device under a network driver, one under a driver of user space, one under none, and an auxiliary
/// device.
fn sysfs() -> (tempfile::TempDir, Sysfs) {
    let dir = tempfile::tempdir().unwrap();
    let devices = dir.path().join("bus/pci/devices");
    for (address, driver) in
        [("0000:03:00.0", Some("ixgbe")), ("0000:03:00.1", Some("vfio-pci")), ("0000:03:00.2", None)]
    {
        fs::create_dir_all(devices.join(address)).unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), devices.join(address).join("driver")).unwrap();
        }
    }
    fs::create_dir_all(dir.path().join("bus/auxiliary/devices/mlx5_core.sf.1")).unwrap();
    let sysfs = Sysfs::at(dir.path());
    (dir, sysfs)
}

#[track_caller]
fn check(conf: Value, expected: Result<Mode, &str>) {
    let (_dir, sysfs) = sysfs();
    let conf = cni::decode::decode(&conf).unwrap();
    let mode = Config::from_parts(conf, &sysfs).map(|config| config.mode).map_err(|err| err.msg);
    assert_eq!(mode, expected.map_err(str::to_owned));
}

fn device(which: Which) -> Result<Mode, &'static str> {
    Ok(Mode::Device(Device { which, in_user_space: false, dns: Dns::default() }))
}

fn pci(address: &str) -> Which {
    Which::Pci(address.into())
}

#[test]
fn one_way_to_name_a_device_wins_over_the_next() {
    let all = json!({
        "mode": "device", "device": "eth7", "hwaddr": "02:00:00:00:00:07", "kernelpath": "/sys/devices/pci0",
        "pciBusID": "0000:03:00.0", "runtimeConfig": {"deviceID": "mlx5_core.sf.1"},
    });
    let without = |keys: &[&str]| {
        let mut conf = all.clone();
        keys.iter().for_each(|key| drop(conf.as_object_mut().unwrap().remove(*key)));
        conf
    };
    check(without(&[]), device(Which::Name("eth7".into())));
    check(without(&["device"]), device(Which::Mac("02:00:00:00:00:07".parse().unwrap())));
    check(without(&["device", "hwaddr"]), device(Which::KernelPath("/sys/devices/pci0".into())));
    // The capability takes the PCI address's place.
    let by_bus = ["device", "hwaddr", "kernelpath"];
    check(without(&by_bus), device(Which::Auxiliary("mlx5_core.sf.1".into())));
    check(without(&[&by_bus[..], &["runtimeConfig"]].concat()), device(pci("0000:03:00.0")));
    let by_capability = json!({"mode": "device", "runtimeConfig": {"deviceID": "0000:03:00.0"}});
    check(by_capability, device(pci("0000:03:00.0")));
}

#[test]
fn a_driver_of_user_space_has_no_link() {
    check(
        json!({"mode": "device", "pciBusID": "0000:03:00.1"}),
        Ok(Mode::Device(Device { which: pci("0000:03:00.1"), in_user_space: true, dns: Dns::default() })),
    );
}

#[test]
fn what_can_not_be_is_named() {
    for (conf, expected) in [
        (json!({}), "mode: \"\": is neither \"device\" nor \"share\""),
        (
            json!({"mode": "device"}),
            "device: \"\": name a device by \"device\", \"hwaddr\", \"kernelpath\", \"pciBusID\" or the capability deviceID",
        ),
        (
            json!({"mode": "device", "hwaddr": "02"}),
            "hwaddr: 02: \"02\" is not an Ethernet address (like 02:00:5e:10:00:01)",
        ),
        (
            json!({"mode": "device", "kernelpath": "/sys/class/net"}),
            "kernelpath: \"/sys/class/net\": does not begin with /sys/devices/",
        ),
        (
            json!({"mode": "device", "kernelpath": "/sys/devices/../class"}),
            "kernelpath: \"/sys/devices/../class\": leads out of /sys/devices by \"..\"",
        ),
        (
            json!({"mode": "device", "pciBusID": "../x"}),
            "pciBusID: \"../x\": is not the name of a device on a bus",
        ),
        (
            json!({"mode": "device", "runtimeConfig": {"deviceID": "0000:99:00.0"}}),
            "runtimeConfig.deviceID: 0000:99:00.0: is a device of neither the PCI nor the auxiliary bus",
        ),
        (
            json!({"mode": "device", "pciBusID": "0000:03:00.2"}),
            "pciBusID: 0000:03:00.2: no driver has the device: No such file or directory (os error 2)",
        ),
        (
            json!({"mode": "device", "device": "a", "interfaces": ["b"]}),
            "interfaces: b: is for mode \"share\" alone",
        ),
        (
            json!({"mode": "share", "device": "a"}),
            "device: \"a\": is for mode \"device\" alone; \"interfaces\" names those to tell of",
        ),
        (
            json!({"mode": "share", "ipam": {"type": "dhcp"}}),
            "ipam: {\"type\":\"dhcp\"}: mode \"share\" has the host's addresses, and can give no others",
        ),
    ] {
        check(conf, Err(expected));
    }
}

/// The README's table has each key, and no other.
#[test]
fn the_readme_lists_every_option() {
    let rows = include_str!("../../README.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let keys = cni::decode::field_names::<NetConf>().iter().copied();
    assert_eq!(rows.collect::<BTreeSet<_>>(), keys.collect());
}
