//! apt, asked for kernels: by the machine's own sources, or by those of older and newer suites, from the same sites and into
//! directories of our own. Installs nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::kernel::output;
use crate::front::packages;

pub(super) struct Apt {
    /// Takes the place of the machine's own, apt.conf(5).
    config: Option<PathBuf>,
}

/// What a site's path ends in, and its suite that has kernels which Debian 12 has not.
const SUITES: [(&str, &str); 2] =
    [("/debian-security", "bullseye-security"), ("/debian", "trixie-backports")];
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Apt {
    pub(super) fn own() -> Self {
        Self { config: None }
    }

    /// With lists in `dir`, which stay there.
    pub(super) fn of_other_suites(dir: &Path) -> anyhow::Result<Self> {
        let mut ask = Self::own().command("apt-get");
        let sites = output(ask.args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"]))?;
        let mut sources = String::new();
        for (end, suite) in SUITES {
            if let Some(site) = sites.lines().find(|site| site.ends_with(end)) {
                let _ = writeln!(sources, "deb [signed-by={KEYS}] {site} {suite} main");
            }
        }
        ensure!(!sources.is_empty(), "apt has no site of Debian's to ask for other suites");
        for place in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(place))
                .with_context(|| format!("make {place} in {}", dir.display()))?;
        }
        let (here, config) = (dir.display(), dir.join("apt.conf"));
        let settings = format!(
            "Dir::Etc::SourceList \"{here}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
             Dir::State \"{here}\";\nDir::State::Lists \"{here}/lists\";\nDir::State::status \"{here}/status\";\n\
             Dir::Cache \"{here}/cache\";\nAPT::Sandbox::User \"root\";\n"
        );
        let files = [(dir.join("sources.list"), sources), (dir.join("status"), String::new())];
        for (file, text) in files.into_iter().chain([(config.clone(), settings)]) {
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(Self { config: Some(config) })
    }

    /// The newest release of a series such as `6.1`.
    pub(super) fn newest(&self, series: &str) -> anyhow::Result<Option<String>> {
        let pattern = format!("^linux-image-{}\\.[0-9].*-cloud-amd64$", series.replace('.', "\\."));
        let said = output(self.command("apt-cache").args(["search", "--names-only", &pattern]))?;
        let names = said.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("linux-image-"));
        Ok(names.max_by_key(|name| numbers(name)).map(String::from))
    }

    pub(super) fn update(&self) -> anyhow::Result<()> {
        output(self.command("apt-get").arg("update")).map(drop)
    }

    /// Unpacks a package into `dir`.
    pub(super) fn unpack(&self, package: &str, dir: &Path) -> anyhow::Result<()> {
        output(self.command("apt-get").args(["download", package]).current_dir(dir))?;
        let mut files = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let file = files.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        let file = file.with_context(|| format!("apt-get download {package} left no file"))?;
        output(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(dir))?;
        Ok(fs::remove_file(&file)?)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = if program == "apt-get" { packages::apt_get() } else { Command::new(program) };
        command.envs(self.config.iter().map(|file| ("APT_CONFIG", file)));
        command
    }
}

/// The numbers of a release, to order releases by: `6.1.0-9` is before `6.1.0-50`.
pub(super) fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let newest = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-50-cloud-amd64"]
            .into_iter()
            .max_by_key(|release| numbers(release));
        assert_eq!(newest, Some("6.1.0-56-cloud-amd64"));
    }
}
