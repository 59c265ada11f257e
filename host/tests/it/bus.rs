use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};
use testenv::{lab, lab::Lab};

use super::{assert_is_again, described, device, host_device, network};

/// A bus with a network card, one with its driver in user space, and an auxiliary device, all made up.
fn buses(lab: &Lab) {
    lab.empty(Path::new("/sys/bus"));
    lab.empty(Path::new("/sys/devices"));
    let (pci, auxiliary) = (Path::new("/sys/bus/pci/devices"), Path::new("/sys/bus/auxiliary/devices"));
    for dir in [
        pci.join("0000:03:00.0/net/dev7"),
        pci.join("0000:04:00.0/virtio3/net/dev7"),
        pci.join("0000:05:00.0"),
        auxiliary.join("mlx5_core.sf.1/net/dev7"),
        "/sys/devices/pci0000:00/0000:03:00.0/net/dev7".into(),
    ] {
        fs::create_dir_all(dir).unwrap();
    }
    for (address, driver) in
        [("0000:03:00.0", "ixgbe"), ("0000:04:00.0", "virtio-pci"), ("0000:05:00.0", "vfio-pci")]
    {
        symlink(format!("../../drivers/{driver}"), pci.join(address).join("driver")).unwrap();
    }
}

#[test]
fn a_device_is_found_by_its_place() {
    lab::run("host_bus", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        buses(lab);
        let c1 = lab.netns("c1");
        for named in [
            json!({"hwaddr": "02:00:00:00:00:77"}),
            json!({"kernelpath": "/sys/devices/pci0000:00/0000:03:00.0"}),
            json!({"pciBusID": "0000:03:00.0"}),
            json!({"pciBusID": "0000:04:00.0"}),
            json!({"pciBusID": "0000:99:00.0", "runtimeConfig": {"deviceID": "0000:03:00.0"}}),
            json!({"runtimeConfig": {"deviceID": "mlx5_core.sf.1"}}),
        ] {
            let mut config = network(named);
            config["device"] = Value::Null;
            let call = host_device(lab, &config).netns(&c1);
            call.add().ok();
            assert!(c1.has_link("eth0") && !lab.host().has_link("dev7"));
            // DEL does not look for it again.
            config["runtimeConfig"] = json!({"deviceID": "gone"});
            call.del().ok();
            assert_is_again(lab, &before);
        }
    });
}

#[test]
fn a_device_in_user_space_is_passed_by() {
    lab::run("host_dpdk", |lab| {
        buses(lab);
        let c1 = lab.netns("c1");
        let config = network(json!({"device": null, "pciBusID": "0000:05:00.0"}));
        let call = host_device(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert_eq!(result["interfaces"], json!([{"name": "eth0", "sandbox": c1.path()}]));
        assert_eq!(result["ips"][0]["address"], "10.1.0.2/16");
        assert_eq!(c1.links().len(), 1);
        call.clone().config(&super::with_result(config, &result)).check().ok();
        call.del().ok();
    });
}

#[test]
fn what_is_not_there_is_named() {
    lab::run("host_missing", |lab| {
        buses(lab);
        let c1 = lab.netns("c1");
        for (more, message) in [
            (json!({"device": "eth77"}), "device: \"eth77\": the host has no interface \"eth77\""),
            (
                json!({"device": null, "hwaddr": "02:00:00:00:00:99"}),
                "hwaddr: 02:00:00:00:00:99: no interface of the host has that address",
            ),
            (
                json!({"device": null, "pciBusID": "0000:03:00.0"}),
                "pciBusID: 0000:03:00.0: the host has no interface \"dev7\"",
            ),
            (
                json!({"device": "lo"}),
                "device: \"lo\": is the loopback interface, which every namespace has its own of",
            ),
        ] {
            let reply = host_device(lab, &network(more)).netns(&c1).add().err(7);
            assert_eq!(reply["msg"], format!("host-device: {message}"));
        }
    });
}
