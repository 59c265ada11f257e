use std::fs;

use super::*;

#[track_caller]
fn check(which: Which, expected: Result<&str, &str>) {
    let dir = tempfile::tempdir().unwrap();
    for net in [
        "devices/pci0/0000:03:00.0/net/eno2",
        "devices/pci0/0000:03:00.0/net/eno1",
        "bus/pci/devices/0000:03:00.0/net/eno1",
        "bus/pci/devices/0000:04:00.0/virtio0/net/ens4",
        "bus/pci/devices/0000:05:00.0/virtio0/block",
        "bus/pci/devices/0000:06:00.0/net",
        "bus/auxiliary/devices/mlx5_core.sf.1/net/en1s1",
    ] {
        fs::create_dir_all(dir.path().join(net)).unwrap();
    }
    let found = Sysfs::at(dir.path()).link_name(&which).map_err(|err| err.to_string());
    assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
}

#[test]
fn a_device_is_found_by_its_place() {
    check(Which::KernelPath("/sys/devices/pci0/0000:03:00.0".into()), Ok("eno1"));
    check(Which::Pci("0000:03:00.0".into()), Ok("eno1"));
    check(Which::Pci("0000:04:00.0".into()), Ok("ens4"));
    check(Which::Auxiliary("mlx5_core.sf.1".into()), Ok("en1s1"));
    check(Which::Pci("0000:05:00.0".into()), Err("it has no network interface"));
    check(Which::Pci("0000:06:00.0".into()), Err("it has no network interface"));
    check(Which::Pci("0000:07:00.0".into()), Err("No such file or directory (os error 2)"));
}
