//! A program that runs beside the test until it is dropped, and what it says meanwhile.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::lab::Lab;
use crate::ns::Ns;

/// Killed when dropped. What it started itself goes on: see `run_contained`.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far, to either output.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// # Panics
    /// When it has ended by itself.
    #[track_caller]
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("{} ended with {status}:\n{}", self.name, self.said());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Lab {
    /// Starts a program in `ns`; its outputs go to a file of the lab.
    #[track_caller]
    pub fn daemon(&self, ns: &Ns, argv: &[&str]) -> Daemon {
        let name = argv.join(" ");
        let log = self.dir().join(format!("{}-{}.log", ns.name(), argv[0].replace('/', "-")));
        let started = File::create(&log).and_then(|output| {
            let mut command = Command::new(argv[0]);
            command.args(&argv[1..]).stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
            ns.run(|| command.spawn())
        });
        let child = started.unwrap_or_else(|cause| panic!("start {name}: {cause}"));
        Daemon { name, child, log }
    }
}
