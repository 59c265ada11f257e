//! Namespaces: opened, told apart, entered and left.

use std::{fs::File, os::unix::net::UnixListener, panic::AssertUnwindSafe};

use kernel::{link, netlink::Netlink, netns::Netns};
use nix::mount::{MsFlags, mount, umount};

use crate::lab;

#[test]
fn tells_what_is_no_network_namespace() {
    lab::run(|_| {
        let dir = std::env::temp_dir().join(format!("kernel-netns-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name);
        File::create(at("plain")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for path in [at("plain"), at("socket"), dir.clone(), "/proc/self/ns/mnt".into(), "/dev/null".into()] {
            let err = Netns::open(&path).unwrap_err();
            assert!(err.is_not_netns() && !err.is_missing(), "{}: {err}", path.display());
        }
        for path in [at("missing"), at("plain/x"), "/proc/4294967295/ns/net".into()] {
            let err = Netns::open(&path).unwrap_err();
            assert!(err.is_missing() && !err.is_not_netns(), "{}: {err}", path.display());
        }

        File::create(at("bound")).unwrap();
        let bind = |from: &str| {
            mount(Some(from), &at("bound"), None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        };
        bind("/proc/thread-self/ns/net");
        assert_eq!(Netns::open(at("bound")).unwrap(), Netns::current().unwrap());
        bind("/proc/thread-self/ns/uts");
        let err = Netns::open(at("bound")).unwrap().run(|| ()).unwrap_err();
        assert!(err.to_string().ends_with("(os error 22): it is no network namespace"), "{err}");
        umount(&at("bound")).unwrap();
        umount(&at("bound")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn runs_inside_and_stays_outside() {
    lab::run(|nl| {
        let (here, there) = (Netns::current().unwrap(), lab::netns());
        assert_ne!(here, there);
        assert_eq!(there.run(|| Netns::current().unwrap()).unwrap(), there);
        assert_eq!(Netns::current().unwrap(), here);

        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| there.run(|| panic!("inside"))));
        assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"inside"));
        assert_eq!(Netns::current().unwrap(), here);

        // The socket works in its namespace whichever thread uses it, and keeps it alive.
        lab::pair(nl, "a", "b");
        let mut inside = Netlink::open_in(&there).unwrap();
        drop(there);
        assert_eq!(link::list(&mut inside).unwrap().len(), 1);
        assert_eq!(link::list(nl).unwrap().len(), 3);
    });
}
