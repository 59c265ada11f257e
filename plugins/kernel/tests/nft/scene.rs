//! What the tests have in common: a table, values, and the comparison with `nft`.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use kernel::nft::{
    Nft,
    batch::Batch,
    table::{Family, Table},
    value::Value,
};
use testenv::lab;

pub(crate) const OTHER: Table<'_> = Table { family: Family::Inet, name: "other" };
pub(crate) const TABLE: Table<'_> = Table { family: Family::Inet, name: "test" };

pub(crate) fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start nft");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?} took exception to\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `build` makes is listed as `text`, and `text` loaded by nft is listed the same.
#[track_caller]
pub(crate) fn check(name: &str, build: fn(&mut Batch), text: &'static str) {
    lab::run(name, move |lab| {
        lab.needs_program("nft", "nftables");
        let text = text.trim_start();
        let mut netlink = Nft::open().unwrap();
        let mut batch = Batch::new();
        build(&mut batch);
        netlink.commit(batch).unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), text);
        remove_table(&mut netlink);
        nft(&["-f", "-"], text);
        assert_eq!(nft(&["list", "ruleset"], ""), text);
        remove_table(&mut netlink);
    });
}

pub(crate) fn remove_table(nft: &mut Nft) {
    let mut batch = Batch::new();
    batch.remove_table(TABLE);
    nft.commit(batch).unwrap();
}

pub(crate) fn ip(text: &str) -> Value {
    Value::Ip(text.parse().unwrap())
}

pub(crate) fn network(text: &str) -> Value {
    Value::Network(text.parse().unwrap())
}

pub(crate) fn ifname(name: &str) -> Value {
    Value::Ifname(name.into())
}

pub(crate) fn mac(text: &str) -> Value {
    Value::Mac(text.parse().unwrap())
}
