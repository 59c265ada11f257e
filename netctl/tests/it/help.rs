//! Every verb's help has an example, and every example is a command line that works.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use clap::Parser;
use netctl::cli::Cli;
use serde_json::json;
use testenv::lab;

use crate::{
    examples::{COLOURLESS, Scene as Where, commands, examples},
    node::{Node, bridged, name_server},
    scene::Scene,
};

/// The words of a command line up to where its output goes; single quotes keep spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (nth, part) in line.split('\'').enumerate() {
        if nth % 2 == 1 {
            words.last_mut().expect("never empty").push_str(part);
            continue;
        }
        let mut pieces = part.split(' ');
        words.last_mut().expect("never empty").push_str(pieces.next().unwrap_or_default());
        words.extend(pieces.map(str::to_owned));
    }
    words.into_iter().take_while(|word| !["|", ">"].contains(&word.as_str())).collect()
}

#[test]
fn every_verb_has_an_example_that_parses() {
    let commands = commands();
    assert!(commands.len() >= 7, "{commands:?}");
    for (path, command) in commands {
        let examples = examples(&command);
        assert!(!examples.is_empty(), "{path} --help has no example");
        for example in examples {
            let parsed = Cli::try_parse_from(words(&example));
            assert!(parsed.is_ok(), "{path} --help: {example}: {parsed:?}");
        }
    }
}

#[test]
fn help_is_the_reply() {
    for (path, command) in commands() {
        let output = Command::new(env!("CARGO_BIN_EXE_netctl"))
            .args(path.split(' ').skip(1))
            .arg("--help")
            .envs(COLOURLESS)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{path}");
        assert!(!text.contains('\x1b'), "{path}: {text:?}");
        for example in examples(&command) {
            assert!(text.contains(&example), "{path} --help lacks {example}:\n{text}");
        }
    }
}

#[test]
fn every_example_of_exec_works() {
    lab::run("every_example_of_exec_works", |lab| {
        let (scene, _blue) = (Scene::new(lab), lab.netns("blue"));
        scene.recorder("any");
        scene.conf("mynet.conf", &json!({"name": "mynet", "cniVersion": "1.1.0", "type": "any"}));
        scene.answer("any", "ADD", false, &json!({}));
        // In the order of a container's life.
        let rank =
            |example: &String| ["status", "add", "check", "gc", "del"].map(|verb| example.contains(verb));
        let mut examples = Where::Exec.examples();
        examples.sort_by_key(|example| std::cmp::Reverse(rank(example)));
        for verb in ["status", "add", "check", "gc", "del"] {
            assert!(examples.iter().any(|example| example.contains(verb)), "no example of {verb}");
        }
        for example in &examples {
            let said = scene.netctl_with(&COLOURLESS, example.trim_start_matches("netctl "));
            assert_eq!(said.code, Some(0), "{example}: {said:#?}");
            assert!(!said.stderr.contains('\x1b'), "{example}: {said:#?}");
        }
        assert!(!scene.told().is_empty());
        // There is a colour to forbid.
        let coloured = scene.netctl_with(&COLOURLESS[..1], "exec status mynet");
        assert!(coloured.stderr.contains('\x1b'), "{coloured:#?}");
    });
}

#[test]
fn every_other_example_works() {
    lab::run("every_other_example_works", |lab| {
        let (node, containers, _n2) =
            (Node::new(lab), ["c1", "c2"].map(|name| lab.netns(name)), lab.netns("n2"));
        let mut conf = bridged();
        conf["name"] = json!("mynet");
        node.conf(&conf);
        node.add("mynet", "c1");
        node.add("mynet", "c2");
        let _server = containers[1].tcp_echo("10.9.0.3:80".parse().unwrap());
        let _names = name_server(lab, "c1");
        let dir = lab.dir().join("bin");
        fs::create_dir_all(&dir).unwrap();
        let netctl = env!("CARGO_BIN_EXE_netctl");
        for (name, text) in [
            ("netctl", format!("exec {netctl} --root {} \"$@\"", node.scene.root.display())),
            (
                "ssh",
                format!(
                    "shift; shift; exec ip netns exec n2 {netctl} --root {}/none \"$@\"",
                    node.scene.root.display()
                ),
            ),
        ] {
            fs::write(dir.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let trace = node.scene.netctl("trace c1 c2 --count 1 -o json").ok().stdout;
        fs::write(dir.join("trace.json"), trace).unwrap();
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
        let examples = Where::Node.examples();
        assert!(examples.len() > 30, "{examples:?}");
        for example in examples {
            // The machine's manual stays as it is.
            let line = example.replace("/usr/local/share", &dir.display().to_string());
            let mut command = Command::new("sh");
            command.args(["-c", &line]).current_dir(&dir).env("PATH", &path);
            command.envs(COLOURLESS).env("CNI_PATH", std::env::join_paths(&node.scene.path).unwrap());
            let said = command.output().unwrap();
            assert!(said.status.success(), "{example}: {said:?}");
            let shown = [said.stdout, said.stderr].concat();
            assert!(!shown.contains(&b'\x1b'), "{example}: {}", String::from_utf8_lossy(&shown));
        }
        node.del("mynet", "c1");
        node.del("mynet", "c2");
    });
}
