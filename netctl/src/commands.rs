//! What a person would type to see or do what a verb does: lines for a shell, of `ip`, `bridge`, `nft`, `conntrack` and the like.
//! Runs none of them.
//!
//! [`facts`] has those of the verbs that look at a node's state, [`nodes`] those of the verbs that send and watch packets.

use std::path::Path;

use crate::agent::{node::Peer, place::Place};

pub mod facts;
pub mod nodes;

/// The words of a command of this host's `ip`, `bridge`, ...
pub type Words = Vec<String>;

/// A command, from its words as they would be typed without quotes.
pub fn words(text: &str) -> Words {
    text.split(' ').map(str::to_owned).collect()
}

/// The command in the namespace of `place`: `ip -n` and `ip netns exec` where `ip netns` has a name for it, else `nsenter`.
pub fn inside(place: &Place, command: &str) -> Words {
    if place.name == crate::agent::place::HOST {
        return words(command);
    }
    let entered = match (named(place), command.strip_prefix("ip ")) {
        (Some(name), Some(rest)) => vec!["ip".to_owned(), "-n".to_owned(), name, rest.to_owned()],
        (Some(name), None) => ["ip", "netns", "exec", &name, command].map(str::to_owned).to_vec(),
        (None, _) => {
            vec!["nsenter".to_owned(), format!("--net={}", place.path.display()), command.to_owned()]
        }
    };
    // Only the last is more than one word.
    let (command, before) = entered.split_last().expect("never empty");
    before.iter().cloned().chain(words(command)).collect()
}

/// The command on a peer, by the way that its agent is started; a comment where that can't be told from the peer's command.
pub fn on(peer: Option<&Peer>, command: &[String]) -> String {
    let Some(peer) = peer else { return line(command) };
    let is_ours = |word: &String| Path::new(word).file_name().is_some_and(|name| name == "netctl");
    match peer.argv.iter().position(is_ours) {
        Some(end) if end > 0 => line(&[&peer.argv[..end], command].concat()),
        _ => format!("# on {}: {}", peer.name, line(command)),
    }
}

/// A line for a shell.
pub fn line(words: &[String]) -> String {
    let quoted = words.iter().map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into));
    quoted.collect::<Vec<String>>().join(" ")
}

/// The call of a CNI plugin, with its input.
pub fn plugin(program: &Path, environment: &[(&str, &str)], stdin: &[u8]) -> String {
    let quoted = |text: &str| line(&[text.to_owned()]);
    let variables = environment.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
    let (variables, stdin) = (variables.collect::<Vec<_>>().join(" "), String::from_utf8_lossy(stdin));
    format!("printf %s {} | {variables} {}", quoted(&stdin), quoted(&program.display().to_string()))
}

/// The name that `ip netns` has for a namespace.
fn named(place: &Place) -> Option<String> {
    place.path.strip_prefix(NAMED).ok().map(|name| name.display().to_string())
}

/// Where `ip netns` keeps namespaces.
const NAMED: &str = "/run/netns";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_run_where_the_thing_is() {
        let place = |name: &str, path: &str| Place { name: name.to_owned(), path: path.into(), inode: 1 };
        #[track_caller]
        fn check(place: &Place, command: &str, expected: &str) {
            assert_eq!(line(&inside(place, command)), expected);
        }
        check(&place("host", "/proc/7/task/8/ns/net"), "ip neigh", "ip neigh");
        check(&place("web", "/run/netns/blue"), "ip -d addr", "ip -n blue -d addr");
        check(&place("web", "/run/netns/blue"), "ping -c 1 a", "ip netns exec blue ping -c 1 a");
        check(&place("web", "/proc/7/ns/net"), "ip addr", "nsenter '--net=/proc/7/ns/net' ip addr");

        let peer: Peer = "n2=ssh root@n2 netctl agent --stdio".parse().unwrap();
        assert_eq!(on(Some(&peer), &words("ip neigh")), "ssh root@n2 ip neigh");
        let odd: Peer = "n2=/bin/reach".parse().unwrap();
        assert_eq!(on(Some(&odd), &words("ip neigh")), "# on n2: ip neigh");
        assert_eq!(on(None, &["cat".to_owned(), "a b".to_owned()]), "cat 'a b'");
    }
}
