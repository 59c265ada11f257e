//! Two guests on a wire of their own, as two hosts: the first, 10.0.0.1, does the work, and the second, 10.0.0.2, serves it a
//! shell. Knows nothing of what that is used for.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::guest::{self, End, Ended, Job, Wire};
use super::job;
use super::kernel::Kernel;
use super::scratch::Scratch;

/// Runs `script` in the first guest, for so long at most; passes its output to `out`.
pub(super) fn run(
    kernel: &Kernel,
    script: &str,
    limit: Duration,
    out: impl FnMut(&[u8]) -> io::Result<()> + Send,
) -> anyhow::Result<Ended> {
    let scratch = Scratch::make(&std::env::temp_dir(), "tenon-wire-")?;
    let socket = scratch.path().join("wire");
    let over = AtomicBool::new(false);
    let first = format!("{}export {OTHER_HOST}=10.0.0.2:{PORT}\n{script}", host(1));
    // A line on standard input is a line of a script; the answer goes back.
    let second = format!("{}{}exec busybox nc -ll -p {PORT} -e /bin/sh\n", host(2), job::preamble()?);
    let job = |script, end| {
        let wire = Some(Wire { end, socket: &socket });
        Job { script, limit, wire, over: &over }
    };
    let (first, second) = (job(&first, End::First), job(&second, End::Second));
    thread::scope(|scope| {
        scope.spawn(|| match guest::run(kernel, &second, |_| Ok(())) {
            Ok(Ended { code: Err(cause), .. }) if !over.load(Ordering::Relaxed) => {
                eprintln!("testenv: the second host: {cause:#}");
            }
            Err(cause) => eprintln!("testenv: the second host: {cause:#}"),
            Ok(_) => {}
        });
        let ended = guest::run(kernel, &first, out);
        over.store(true, Ordering::Relaxed);
        ended
    })
}

/// Names a machine and gives it its address.
fn host(number: u8) -> String {
    format!(
        "hostname h{number}\nmodprobe virtio_net && ip address add 10.0.0.{number}/24 dev eth0 && ip link set eth0 up || exit 125\n"
    )
}

/// Tells a test where the second host's shell is.
const OTHER_HOST: &str = "TENON_OTHER_HOST";
const PORT: u16 = 7001;
