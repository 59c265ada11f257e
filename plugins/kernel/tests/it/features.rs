//! Offload features.

use kernel::features;

use crate::lab;

#[test]
fn what_is_switched_off_is_off() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        // Rtnetlink does not tell features.
        let shown = || {
            let output = std::process::Command::new("ethtool").args(["-k", "a"]).output().ok()?;
            String::from_utf8(output.stdout).ok()
        };
        let Some(before) = shown() else {
            return testenv::skip::record("what_is_switched_off_is_off", "needs ethtool (Debian: ethtool)");
        };
        assert!(before.contains("tx-checksum-ip-generic: on"), "{before}");
        let is_active = || features::active(&a).unwrap().iter().any(|it| it == features::TX_CHECKSUM);
        assert!(is_active());
        for _ in 0..2 {
            features::switch_off(&a, features::TX_CHECKSUM).unwrap();
            let after = shown().unwrap();
            assert!(after.contains("tx-checksum-ip-generic: off"), "{after}");
            assert!(!is_active());
        }
        let err = features::switch_off(&a, "tx-nonsense").unwrap_err().to_string();
        assert!(err.starts_with("switch tx-nonsense off on a: "), "{err}");
    });
}
