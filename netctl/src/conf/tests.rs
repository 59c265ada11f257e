use std::{env, process};

use super::*;

/// The list's version, flags and plugin types, or the error.
#[track_caller]
fn check(text: &str, expected: Result<(Version, &str), &str>) {
    let parsed = parse::list(Path::new("f"), text.as_bytes()).map(|partial| {
        let types: Vec<_> = partial.list.plugins.iter().map(|plugin| plugin.plugin_type.clone()).collect();
        (partial.list.version, types.join(","))
    });
    let parsed = parsed.map_err(|err| err.to_string());
    assert_eq!(parsed, expected.map(|(v, t)| (v, t.to_owned())).map_err(str::to_owned), "{text}");
}

fn with(rest: &str) -> String {
    format!(
        "{{\n  \"name\": \"n\",\n  {rest},\n  \"plugins\": [{{\"type\": \"a\"}}, {{\"TYPE\": \"b\"}}]\n}}"
    )
}

#[test]
fn the_version_is_the_newest_that_is_spoken() {
    let ok = |version| Ok((version, "a,b"));
    check(&with(r#""cniVersion": "1.0.0""#), ok(Version::V1_0_0));
    check(&with(r#""x": 1"#), ok(Version::V0_1_0));
    check(&with(r#""cniVersion": """#), ok(Version::V0_1_0));
    check(&with(r#""cniVersions": ["0.3.1", "1.0.0", "0.4.0"]"#), ok(Version::V1_0_0));
    check(&with(r#""cniVersions": ["0.3.1", "2.0.0"]"#), ok(Version::V0_3_1));
    check(&with(r#""cniVersion": "1.1.0", "cniVersions": ["0.4.0"]"#), ok(Version::V1_1_0));
    check(&with(r#""cniVersion": "9.0.0", "cniVersions": ["0.4.0"]"#), ok(Version::V0_4_0));
    check(&with(r#""cniVersions": []"#), ok(Version::V0_1_0));
    let none = "f:3:17: cniVersion: nothing that is spoken here; 1.1.0 is the newest";
    check(&with(r#""cniVersion": "9.0.0""#), Err(none));
    check(&with(r#""cniVersion": "1.0""#), Err("f:3:17: cniVersion: \"1.0\" is not a version"));
    check(&with(r#""cniVersion": 1"#), Err("f:3:17: cniVersion: 1 is not a string"));
    check(&with(r#""cniVersions": "1.0.0""#), Err("f:3:18: cniVersions: \"1.0.0\" is not an array"));
    check(&with(r#""cniVersions": ["1.0.0", 1]"#), Err("f:3:28: cniVersions[1]: 1 is not a string"));
}

#[test]
fn errors_point_at_the_file() {
    check("{\n \"name\":", Err("f:2:8: EOF while parsing a value"));
    check("[]", Err("f: is not a JSON object"));
    check("{}", Err("f:1:1: name: missing"));
    check(r#"{"name": 1}"#, Err("f:1:10: name: 1 is not a string"));
    check(
        r#"{"name": "a/b"}"#,
        Err(
            "f:1:10: name: \"a/b\" must start with a letter or a digit and hold only letters, digits, '_', '.' and '-'",
        ),
    );
    check(r#"{"name": "n", "plugins": {}}"#, Err("f:1:26: plugins: {} is not an array"));
    check(r#"{"name": "n", "plugins": []}"#, Err("f:1:26: plugins: no plugins in the list"));
    check(r#"{"name": "n", "plugins": [1]}"#, Err("f:1:27: plugins[0]: 1 is not an object"));
    check(r#"{"name": "n", "plugins": [{}]}"#, Err("f:1:27: plugins[0].type: missing"));
    check(
        r#"{"name": "n", "plugins": [{"type": "../a"}]}"#,
        Err("f:1:36: plugins[0].type: \"../a\" is not the name of a plugin"),
    );
    check(
        r#"{"name": "n", "plugins": [{"type": "a", "capabilities": {"mac": "yes"}}]}"#,
        Err(
            "f:1:57: plugins[0].capabilities: mac: \"yes\": invalid type: string \"yes\", expected a boolean",
        ),
    );
    check(
        r#"{"name": "n", "loadOnlyInlinedPlugins": true}"#,
        Err("f:1:1: plugins: missing, and loadOnlyInlinedPlugins is true"),
    );
}

#[test]
fn booleans_may_be_strings() {
    #[track_caller]
    fn check(value: &str, expected: Result<bool, &str>) {
        let text = with(&format!("\"disableCheck\": {value}, \"disableGC\": {value}"));
        let parsed = parse::list(Path::new("f"), text.as_bytes());
        let parsed = parsed.map(|partial| {
            assert_eq!(partial.list.disable_check, partial.list.disable_gc);
            partial.list.disable_gc
        });
        assert_eq!(parsed.map_err(|err| err.to_string()), expected.map_err(str::to_owned), "{value}");
    }
    check("true", Ok(true));
    check("false", Ok(false));
    check(r#""TRUE""#, Ok(true));
    check(r#""false""#, Ok(false));
    check("1", Err("f:3:19: disableCheck: 1 is not a boolean"));
    check(r#""yes""#, Err("f:3:19: disableCheck: \"yes\" is not a boolean"));
    check("null", Err("f:3:19: disableCheck: null is not a boolean"));
}

#[test]
fn a_single_plugin_is_wrapped_as_libcni_wraps_it() {
    let text = br#"{"type": "a", "Name": "n", "cniVersion": "0.3.1", "capabilities": {"mac": true}}"#;
    let list = parse::single(Path::new("f"), text).unwrap();
    assert_eq!((list.name.as_str(), list.version), ("n", Version::V0_3_1));
    assert_eq!(list.plugins[0].capabilities, BTreeMap::from([("mac".to_owned(), true)]));
    let wrapped = r#"{"cniVersion":"0.3.1","name":"n","plugins":[{"Name":"n","capabilities":{"mac":true},"cniVersion":"0.3.1","type":"a"}]}"#;
    assert_eq!(String::from_utf8(list.bytes).unwrap(), wrapped);
    let misnamed = parse::single(Path::new("f"), br#"{"name": "n", "plugins": []}"#).unwrap_err();
    assert_eq!(misnamed.to_string(), "f: is a list: its name must end in .conflist");
}

/// A directory that goes with the test.
struct Dir(PathBuf);

impl Dir {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = env::temp_dir().join(format!("netctl-conf-{name}-{}", process::id()));
        for (file, text) in files {
            let file = dir.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_in_libcnis_order() {
    let list =
        |name: &str| format!(r#"{{"name": "{name}", "cniVersion": "1.0.0", "plugins": [{{"type": "a"}}]}}"#);
    let single = |name: &str| format!(r#"{{"name": "{name}", "type": "single"}}"#);
    let dir = Dir::with(
        "order",
        &[
            ("20-b.conflist", &list("b")),
            ("10-twice.conflist", &list("twice")),
            ("05-broken.conflist", "{"),
            ("00-single.conf", &single("twice")),
            ("01-json.json", &single("json")),
            ("02-no.txt", "not read"),
            ("03-dir.conflist/x", "not read"),
        ],
    );
    let directory = Directory::read(&dir.0).unwrap();
    let names: Vec<_> = directory.networks.iter().map(|list| list.name.as_str()).collect();
    assert_eq!(names, ["twice", "b", "twice", "json"]);
    assert_eq!(directory.network("twice").unwrap().plugins[0].plugin_type, "a");
    assert_eq!(directory.broken.len(), 1);
    assert!(directory.broken[0].to_string().ends_with("05-broken.conflist:1:1: EOF while parsing an object"));
    let missing = directory.network("c").unwrap_err().to_string();
    assert_eq!(missing, format!("no network \"c\" in {}; there are: twice, b, twice, json", dir.0.display()));
    assert!(Directory::read(Path::new("/nonexistent")).unwrap().networks.is_empty());
}

#[test]
fn plugins_beside_the_list_come_after_those_in_it() {
    let dir = Dir::with(
        "beside",
        &[
            ("inline.conflist", r#"{"name": "both", "plugins": [{"type": "a"}]}"#),
            ("both/20.conf", r#"{"type": "c"}"#),
            ("both/10.conf", r#"{"type": "b"}"#),
            ("both/30.json", "not read"),
            (
                "only.conflist",
                r#"{"name": "only", "loadOnlyInlinedPlugins": "true", "plugins": [{"type": "a"}]}"#,
            ),
            ("only/10.conf", "not read"),
            ("outside.conflist", r#"{"name": "outside"}"#),
            ("outside/1.conf", r#"{"type": "z"}"#),
            ("empty.conflist", r#"{"name": "empty"}"#),
            ("wrong.conflist", r#"{"name": "wrong"}"#),
            ("wrong/1.conf", r#"{"typ": "z"}"#),
        ],
    );
    let directory = Directory::read(&dir.0).unwrap();
    let types = |name: &str| {
        let list = directory.network(name).unwrap();
        list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect::<Vec<_>>().join(",")
    };
    assert_eq!((types("both"), types("only"), types("outside")), ("a,b,c".into(), "a".into(), "z".into()));
    let broken: Vec<_> = directory.broken.iter().map(ToString::to_string).collect();
    let dir = dir.0.display();
    assert_eq!(
        broken,
        [
            format!("{dir}/empty.conflist: no plugins: neither in the file nor beside it"),
            format!("{dir}/wrong/1.conf:1:1: type: missing"),
        ]
    );
}
