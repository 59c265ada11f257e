use testenv::{lab, wait, wire::Wire};

use crate::fleet::{Fleet, Network, SOON};

#[test]
fn checksums_that_the_hardware_spoils_are_written_by_the_kernel() {
    lab::run("overlay-checksum", |lab| {
        lab.needs_program("ethtool", "ethtool");
        let fleet = Fleet::up(lab, 3, 1500, Network::default());
        // h1's card says that it writes checksums, and does not.
        let switch = fleet.cluster().switch();
        let lay = "ip link set port1 nomaster; ip link add w0 type veth peer name w1
            ip link set w0 up; ip link set w1 master switch0 up; ethtool -K w1 tx off >/dev/null";
        switch.run(&["sh", "-ec", lay]).unwrap();
        let _wire = Wire::lay(&switch.ns().unwrap(), "port1", "w0").unwrap();
        fleet.start_static();
        fleet.wait_complete();
        let (_, there) = (fleet.add(1, "c1"), fleet.add(2, "c2"));
        fleet.wait_ping(1, "c1", there[0]);
        let offload = |number: u8| {
            let features = fleet.host(number).run(&["ethtool", "-k", "ovl7"]).unwrap();
            features.contains("tx-checksum-ip-generic: on")
        };
        wait::wait_for("h1 to write checksums itself", SOON, || {
            fleet.status(1).is_some_and(|status| status["checksums"] == "software")
        });
        let log = fleet.log(1);
        let line = log.lines().find(|line| line.contains("checksum offload off on ovl7")).unwrap();
        assert!(line.starts_with("<4>level=warn network=lab"), "{line}");
        assert!(line.contains("packets whose checksum eth0 has to write do not arrive at 10.244."), "{line}");
        assert!(!offload(1));
        fleet.talk((1, "c1"), (2, "c2"), there[0]);
        fleet.talk((1, "c1"), (2, "c2"), there[1]);

        // It was that: with the offload on again pings cross and nothing else does.
        fleet.host(1).run(&["ethtool", "-K", "ovl7", "tx", "on"]).unwrap();
        assert!(fleet.pings(1, "c1", there[0], None));
        assert!(fleet.try_talk((1, "c1"), (2, "c2"), there[0]).is_err());
        // A device made anew is so too.
        fleet.host(1).run(&["ip", "link", "del", "ovl7"]).unwrap();
        wait::wait_for("the device without offload", SOON, || {
            fleet.host(1).exec(&["ip", "link", "show", "ovl7"]).is_ok_and(|said| said.code == Some(0))
                && !offload(1)
        });
        fleet.wait_complete();
        fleet.talk((1, "c1"), (2, "c2"), there[0]);
        // The others have nothing to complain of.
        for number in [2, 3] {
            assert!(offload(number) && !fleet.log(number).contains("checksum"), "{}", fleet.log(number));
        }
    });
}
