//! A fresh network and mount namespace for one test body.

use std::{
    thread,
    time::{Duration, Instant},
};

use kernel::{
    link::{self, Dev, Link},
    netlink::Netlink,
    netns::Netns,
    veth,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Runs `body` on a thread inside namespaces of its own, with `lo` up; where none can be made it is recorded as skipped.
/// Without [`testenv::lab`]: what a test leaves goes with the namespaces.
pub(crate) fn run(body: impl FnOnce(&mut Netlink) + Send) {
    if let Some(reason) = testenv::lab::impossible() {
        return testenv::skip::record(thread::current().name().unwrap_or("kernel"), &reason);
    }
    thread::scope(|scope| {
        let inside = || {
            isolate();
            let mut nl = Netlink::open().unwrap();
            nl.execute(link::change_named("lo").up().request()).unwrap();
            body(&mut nl);
        };
        if let Err(panic) = scope.spawn(inside).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn isolate() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
}

/// A second network namespace, alive as long as the handle.
pub(crate) fn netns() -> Netns {
    let made = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        Netns::current().unwrap()
    });
    made.join().unwrap()
}

/// A veth pair, both ends here and up.
pub(crate) fn pair(nl: &mut Netlink, near: &str, far: &str) -> (Dev, Dev) {
    let near = link::create(nl, veth::add(link::new(near), link::new(far)), near).unwrap();
    let far = link::by_name(nl, far).unwrap();
    let devs = (near.dev(), far.dev());
    nl.batch(&[link::change(&devs.0).up().request(), link::change(&devs.1).up().request()]).unwrap();
    devs
}

/// Waits until `link` is as it should be.
pub(crate) fn wait_link(nl: &mut Netlink, dev: &Dev, ready: impl Fn(&Link) -> bool) -> Link {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let link = link::by_index(nl, dev.index).unwrap();
        if ready(&link) {
            return link;
        }
        assert!(Instant::now() < deadline, "still not ready: {link:?}");
        thread::yield_now();
    }
}
