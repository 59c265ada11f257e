use std::path::Path;

use cni::error::Code;

use super::*;
use crate::conf::parse;

fn progress(style: Style, quiet: bool) -> Progress {
    let text = br#"{"name": "n", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#;
    let list = parse::list(Path::new("f"), text).unwrap().list;
    Progress::new(style, quiet, &list)
}

fn result(interfaces: &[(&str, &str)], ips: &[&str]) -> AddResult {
    let interface = |(name, sandbox): &(&str, &str)| Interface {
        name: (*name).to_owned(),
        sandbox: (*sandbox).to_owned(),
        ..Interface::default()
    };
    let ip = |ip: &&str| IpConfig {
        interface: None,
        address: cni::decode::parse_cidr(ip).unwrap(),
        gateway: None,
    };
    AddResult {
        interfaces: interfaces.iter().map(interface).collect(),
        ips: ips.iter().map(ip).collect(),
        ..AddResult::default()
    }
}

#[track_caller]
fn check(progress: &Progress, event: &Event<'_>, expected: Option<&str>) {
    assert_eq!(progress.line(event).as_deref(), expected);
}

fn call<'a>(
    plugin: &'a str,
    command: Command,
    results: Result<(Option<&'a AddResult>, Option<&'a AddResult>), &'a Error>,
) -> Event<'a> {
    Event::Called(Call { plugin, command, took: Duration::from_micros(38_400), results })
}

#[test]
fn a_line_a_call() {
    let plain = progress(Style { color: false, ascii: false }, false);
    let first = result(&[("cni0", ""), ("veth0c1e", ""), ("eth0", "/n")], &["10.244.1.12/24", "fd00::2/64"]);
    check(
        &plain,
        &call("bridge", Command::Add, Ok((None, Some(&first)))),
        Some("✓ bridge   ADD   38 ms  veth0c1e ↔ eth0, 10.244.1.12/24, fd00::2/64"),
    );
    check(
        &plain,
        &call("portmap", Command::Add, Ok((Some(&first), Some(&first)))),
        Some("✓ portmap  ADD   38 ms"),
    );
    let only_inside = result(&[("eth0", "/n")], &[]);
    check(
        &plain,
        &call("bridge", Command::Add, Ok((None, Some(&only_inside)))),
        Some("✓ bridge   ADD   38 ms  eth0"),
    );
    check(&plain, &call("bridge", Command::Del, Ok((None, None))), Some("✓ bridge   DEL   38 ms"));
    let err = Error::new(Code::InvalidConfig, "bridge: vetha is not a port of cni0");
    check(
        &plain,
        &call("bridge", Command::Check, Err(&err)),
        Some("✗ bridge   CHECK  code 7: vetha is not a port of cni0"),
    );
}

#[test]
fn quiet_leaves_failures_and_ascii_leaves_letters() {
    let quiet = progress(Style { color: false, ascii: true }, true);
    let result = result(&[("veth0", ""), ("eth0", "/n")], &[]);
    check(&quiet, &call("bridge", Command::Add, Ok((None, Some(&result)))), None);
    check(&quiet, &Event::Disabled { key: "disableCheck" }, None);
    let err = Error::new(Code::Internal, "no");
    check(&quiet, &call("bridge", Command::Add, Err(&err)), Some("FAIL bridge   ADD  code 999: no"));
    check(&quiet, &Event::Undoing, Some("warning: ADD failed: DEL of the whole list follows"));
    let ascii = progress(Style { color: false, ascii: true }, false);
    check(
        &ascii,
        &call("bridge", Command::Add, Ok((None, Some(&result)))),
        Some("ok bridge   ADD   38 ms  veth0 <-> eth0"),
    );
}
