//! Settings under /proc/sys. `net/...` is that of the namespace of the calling thread: in another one, call from inside
//! [`crate::netns::Netns::run`].

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::{
    error::{Error, Result},
    route::Family,
};

/// The path below /proc/sys of a key as sysctl(8) takes it: the separator is the first of `.` and `/` to appear, and
/// the other one stands for itself, so `net.ipv4.conf.eth0/5.forwarding` and `net/ipv4/conf/eth0.5/forwarding` are the
/// same.
pub fn path_of(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'.') => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// The path of a link's setting, `net/ipv6/conf/eth0.5/accept_ra`. `all` and `default` are names too.
pub fn conf(family: Family, link: &str, key: &str) -> String {
    format!("net/{}/conf/{link}/{key}", directory(family))
}

/// The path of a link's neighbour setting, `net/ipv4/neigh/eth0/base_reachable_time_ms`.
pub fn neigh(family: Family, link: &str, key: &str) -> String {
    format!("net/{}/neigh/{link}/{key}", directory(family))
}

fn directory(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// Reads a setting, without the newline at its end. `path` is relative to /proc/sys.
pub fn read(path: &str) -> Result<String> {
    let failed = |err| Error::new(format!("read sysctl {path}"), err);
    let text = full(path).and_then(|path| read_whole(&path)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// One read gets all that there is, and less than it asked for.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut text = vec![0; 256];
    let length = file.read(&mut text)?;
    text.truncate(length);
    if length == text.capacity() {
        file.read_to_end(&mut text)?;
    }
    Ok(text)
}

/// Writes a setting.
pub fn write(path: &str, value: &str) -> Result<()> {
    let failed = |err| Error::new(format!("set sysctl {path} to {value}"), err);
    fs::write(full(path).map_err(failed)?, value).map_err(failed)
}

/// Sees to it that a setting has a value, and says what it was if that had to change. Only then is anything written:
/// writing `ip_forward` again would reset every link's own setting, and in a container /proc/sys may be read-only and
/// right.
pub fn ensure(path: &str, value: &str) -> Result<Option<String>> {
    let before = read(path)?;
    if before == value {
        return Ok(None);
    }
    write(path, value)?;
    Ok(Some(before))
}

/// Refuses a path that leads out of /proc/sys.
fn full(path: &str) -> io::Result<PathBuf> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(plain) {
        Ok(PathBuf::from("/proc/sys").join(path))
    } else {
        Err(Errno::EINVAL.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{full, path_of};

    #[test]
    fn takes_either_separator() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.5/forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("net.ipv4.conf.eth0/5.forwarding", "net/ipv4/conf/eth0.5/forwarding"),
            ("single", "single"),
        ] {
            assert_eq!(path_of(key), path);
        }
    }

    #[test]
    fn stays_below_proc_sys() {
        assert!(full("net/ipv4/conf/eth0.5/forwarding").is_ok());
        for path in ["", "/etc/passwd", "net/../../etc/passwd", "net//x", "net/./x", "net/"] {
            assert!(full(path).is_err(), "{path}");
        }
    }
}
