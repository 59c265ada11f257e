//! A process on the queues of a tap, as a virtual machine's monitor is: it passes frames between them and a tap in another
//! namespace, whose network stack is the machine's.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use kernel::{
    netns::Netns,
    tun::{self, Tap},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use testenv::{lab::Lab, ns::Ns};

/// The machine, until dropped.
pub(crate) struct Machine {
    /// Its own network stack, with the interface `net0`.
    pub(crate) guest: Ns,
    stop: Arc<AtomicBool>,
    /// Frames that each queue gave.
    given: Arc<Vec<AtomicUsize>>,
    thread: Option<JoinHandle<()>>,
}

impl Machine {
    /// Attaches to `eth0` of the container with so many queues, and gives its own interface these addresses.
    #[track_caller]
    pub(crate) fn start(lab: &Lab, container: &Ns, queues: usize, addresses: &[&str]) -> Self {
        let guest = lab.netns("guest");
        let nic = open(&guest);
        tun::add_tap(&nic, "net0", &Tap::default()).expect("make the machine's interface");
        guest.set_sysctl("net.ipv6.conf.net0.accept_dad", "0");
        guest.set_up("net0");
        for address in addresses {
            guest.add_address("net0", address);
        }
        guest.rebase();
        let attach = |_| {
            let queue = open(container);
            tun::attach(&queue, "eth0", queues > 1).expect("attach to the container's interface");
            queue
        };
        let queues: Vec<_> = (0..queues).map(attach).collect();
        container.wait_running("eth0");
        let given: Vec<_> = queues.iter().map(|_| AtomicUsize::new(0)).collect();
        let (stop, given) = (Arc::<AtomicBool>::default(), Arc::new(given));
        let thread = thread::spawn({
            let (stop, given) = (Arc::clone(&stop), Arc::clone(&given));
            move || pump(&queues, &nic, &stop, &given)
        });
        Self { guest, stop, given, thread: Some(thread) }
    }

    /// How many queues have given a frame.
    pub(crate) fn queues_used(&self) -> usize {
        self.given.iter().filter(|given| given.load(Ordering::Relaxed) > 0).count()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The character device, for the taps of a namespace.
pub(crate) fn open(ns: &Ns) -> File {
    let netns = Netns::open(ns.path()).expect("open a namespace of the lab");
    tun::open(&netns).expect("open the device")
}

/// Until told to stop, or until the container's interface is gone.
fn pump(queues: &[File], nic: &File, stop: &AtomicBool, given: &[AtomicUsize]) {
    let mut frame = vec![0; LONGEST];
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let files = queues.iter().chain([nic]);
        let mut ready: Vec<_> = files.map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
        if poll(&mut ready, PollTimeout::from(BEAT)).is_err() {
            continue;
        }
        let readable: Vec<_> = ready.iter().map(|fd| fd.any().unwrap_or_default()).collect();
        for (place, queue) in queues.iter().enumerate().filter(|(place, _)| readable[*place]) {
            let Ok(length) = { queue }.read(&mut frame) else { return };
            given[place].fetch_add(1, Ordering::Relaxed);
            { nic }.write_all(&frame[..length]).ok();
        }
        if readable[queues.len()]
            && let Ok(length) = { nic }.read(&mut frame)
        {
            // In turn, as a machine with several processors does.
            next = (next + 1) % queues.len();
            { &queues[next] }.write_all(&frame[..length]).ok();
        }
    }
}

const LONGEST: usize = 65_550;
/// How soon the machine sees that it shall end, in milliseconds.
const BEAT: u8 = 20;
