//! Who holds a UDP port, for the message that says it is taken. Best effort: the answer is for people.

use std::{fs, path::Path};

use kernel::{
    link::{self, Kind},
    netlink::Netlink,
};

/// The owner of UDP port `port` in words, other than our own device `ours`: a tunnel device, a process, or somebody.
pub fn owner(nl: &mut Netlink, port: u16, ours: &str) -> String {
    let holds = |kind: &Option<Kind>| matches!(kind, Some(Kind::Vxlan { port: its, .. }) if *its == port);
    let links = link::list(nl).unwrap_or_default();
    if let Some(link) = links.iter().find(|link| holds(&link.kind) && link.name != ours) {
        return format!("VXLAN device {}", link.name);
    }
    match socket(port).and_then(process) {
        Some(process) => process,
        None => "a socket of the kernel, or of a process that is hidden from here".into(),
    }
}

/// The inode of the socket that is bound to `port`: column 10 of /proc/net/udp, local port in hex behind the address in
/// column 2 (Documentation/networking/proc_net_tcp.rst).
fn socket(port: u16) -> Option<String> {
    let suffix = format!(":{port:04X}");
    ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let mut columns = line.split_whitespace();
            let local = columns.nth(1)?;
            local.ends_with(&suffix).then(|| columns.nth(7).map(str::to_owned))?
        })
    })
}

fn process(inode: String) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    processes.filter(|path| is_number(path)).find_map(|path| {
        let open = fs::read_dir(path.join("fd")).ok()?.flatten();
        let holds = |target: &Path| target.as_os_str() == wanted.as_str();
        open.into_iter().find(|fd| fs::read_link(fd.path()).is_ok_and(|target| holds(&target)))?;
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        Some(format!("process {} ({})", name.trim(), path.file_name()?.to_string_lossy()))
    })
}

fn is_number(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
}
