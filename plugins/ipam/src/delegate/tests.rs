use std::{fs, os::unix::fs::symlink};

use cni::request::Command;
use tempfile::TempDir;

use super::*;

#[test]
fn the_type_decides() {
    fn check(ipam: &str, expected: Result<&str, &str>) {
        let dir = TempDir::new().unwrap();
        for name in ["host-local", "static", "dhcp"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let config = format!(r#"{{"name": "net", "type": "bridge"{ipam}}}"#);
        let path = dir.path().to_str().unwrap();
        let variable = |name: &str| if name == "CNI_PATH" { path.to_owned() } else { String::new() };
        let request = Request::parse(Command::Add, config.into_bytes(), variable).unwrap();
        let shown = Ipam::resolve(&request).map(|ipam| match ipam {
            None => "none".to_owned(),
            Some(Ipam::HostLocal | Ipam::Static) => "in process".to_owned(),
            Some(Ipam::External(delegate)) => {
                delegate.binary().strip_prefix(path).unwrap().display().to_string()
            }
        });
        let shown = shown.map_err(|err| err.msg.replace(path, "DIR"));
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{ipam}");
    }
    check("", Ok("none"));
    check(r#", "ipam": null"#, Ok("none"));
    check(r#", "ipam": {}"#, Ok("none"));
    check(r#", "IPAM": {"TYPE": ""}"#, Ok("none"));
    // Not neighbours of the program that runs this test.
    check(r#", "ipam": {"type": "host-local"}"#, Ok("host-local"));
    check(r#", "ipam": {"type": "static"}"#, Ok("static"));
    check(r#", "ipam": {"type": "dhcp"}"#, Ok("dhcp"));
    check(r#", "ipam": {"type": "no-such"}"#, Err("ipam.type: \"no-such\": no such plugin in CNI_PATH DIR"));
    check(r#", "ipam": {"type": "../static"}"#, Err("ipam.type: \"../static\": is not the name of a plugin"));
    check(r#", "ipam": []"#, Err("ipam: []: is not an object"));
    check(r#", "ipam": {"type": 1}"#, Err("ipam.type: 1: is not a string"));
}

#[test]
fn neighbours() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for made in ["ours", "theirs"] {
        fs::create_dir(root.join(made)).unwrap();
        fs::write(root.join(made).join("host-local"), "").unwrap();
    }
    symlink(root.join("ours"), root.join("alias")).unwrap();
    fs::create_dir(root.join("links")).unwrap();
    symlink(root.join("ours/host-local"), root.join("links/host-local")).unwrap();
    let bridge = root.join("ours/bridge");
    for (binary, expected) in
        [("ours", true), ("alias", true), ("links", true), ("theirs", false), ("absent", false)]
    {
        assert_eq!(are_neighbours(&root.join(binary).join("host-local"), &bridge), expected, "{binary}");
    }
}

#[test]
fn plain_neighbours_are_no_links() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["bridge", "host-local"] {
        fs::write(path(name), "").unwrap();
        symlink(path(name), path(&format!("{name}-link"))).unwrap();
    }
    for (binary, program, expected) in [
        ("host-local", "bridge", true),
        ("host-local-link", "bridge", false),
        ("host-local", "bridge-link", false),
        ("host-local", "no-such", false),
    ] {
        assert_eq!(are_plain_neighbours(&path(binary), &path(program)), expected, "{binary} {program}");
    }
    assert!(!are_plain_neighbours(&path("host-local"), &path("../bridge")));
}
