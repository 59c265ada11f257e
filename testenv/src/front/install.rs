//! `cargo testenv install --dir DIR`: the suite built for release, in a plugin directory.

use std::env::{self, consts::ARCH};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use super::suite::PROGRAMS;
use super::{cargo, say};

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let [option, dir] = arguments else { bail!("install: expected --dir DIR") };
    if option != "--dir" {
        bail!("install: unexpected argument {option:?}; expected --dir DIR");
    }
    let dir = Path::new(dir);
    let built = build(&suite())?;
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    for program in PROGRAMS {
        for name in program.names {
            put(&built.join(program.binary), dir, name)?;
            say(&dir.join(name).display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What names every program of the suite to `cargo build`.
pub(super) fn suite() -> Vec<String> {
    PROGRAMS
        .iter()
        .flat_map(|program| ["--package", program.package, "--bin", program.binary])
        .map(String::from)
        .collect()
}

/// Builds what `selection` names, for release: the directory that the programs are in.
pub(super) fn build(selection: &[String]) -> anyhow::Result<PathBuf> {
    let mut arguments = vec!["build", "--release"];
    arguments.extend(selection.iter().map(String::as_str));
    let (mut built, mut environment) = (cargo::target_directory()?, Vec::new());
    let musl = format!("{ARCH}-unknown-linux-musl");
    if has_target(&musl) {
        arguments.extend(["--target", &musl]);
        built.push(&musl);
        environment.extend(c_compiler(&musl));
    } else {
        eprintln!("testenv: no Rust target {musl} here: the programs will need this host's C library");
    }
    cargo::run_with(&arguments, &environment)?;
    Ok(built.join("release"))
}

/// The C parts of the agent's cryptography call no C library: the host's compiler does where there is none for musl.
fn c_compiler(target: &str) -> Option<(String, String)> {
    let variable = format!("CC_{}", target.replace('-', "_"));
    let own = format!("{ARCH}-linux-musl-gcc");
    let there =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(&own).is_file());
    (!there && env::var_os(&variable).is_none()).then(|| (variable, "cc".to_string()))
}

/// Whether programs can be built for `target`; asks rustup for it when it is not there.
fn has_target(target: &str) -> bool {
    let there = || {
        let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
        output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
    };
    let added = || {
        let rustup = Command::new("rustup").args(["target", "add", target]).stdin(Stdio::null()).status();
        rustup.is_ok_and(|status| status.success())
    };
    there() || (added() && there())
}

/// Copies `program` to `dir/name` so that a runtime sees the old file or the new one, never a part of it.
fn put(program: &Path, dir: &Path, name: &str) -> anyhow::Result<()> {
    let (part, whole) = (dir.join(format!(".{name}.new")), dir.join(name));
    fs::copy(program, &part).with_context(|| format!("copy {} to {}", program.display(), part.display()))?;
    fs::set_permissions(&part, Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", part.display()))?;
    fs::rename(&part, &whole).with_context(|| format!("rename {} to {}", part.display(), whole.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_replaced_whole() {
        let dir = env::temp_dir().join(format!("tenon-install-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("built"), "new").unwrap();
        fs::write(dir.join("bridge"), "old").unwrap();
        let old = fs::File::open(dir.join("bridge")).unwrap();
        put(&dir.join("built"), &dir, "bridge").unwrap();
        assert_eq!(fs::read_to_string(dir.join("bridge")).unwrap(), "new");
        assert_eq!(std::io::read_to_string(old).unwrap(), "old", "whoever runs the old one keeps it");
        assert_eq!(fs::metadata(dir.join("bridge")).unwrap().permissions().mode() & 0o7777, 0o755);
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["bridge", "built"], "nothing else is left");
        fs::remove_dir_all(&dir).unwrap();
    }
}
