//! resolv.conf(5) as the reference reads it: every line counts, also several of `search` and `domain`.

use cni::result::Dns;

/// The resolver settings of a file's text. Lines of unknown kind are passed over, as the resolver does.
pub(crate) fn parse(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or(dns.domain),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        fn check(text: &str, [nameservers, domain, search, options]: [&str; 4]) {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let expected = Dns {
                nameservers: words(nameservers),
                domain: domain.into(),
                search: words(search),
                options: words(options),
            };
            assert_eq!(parse(text), expected, "{text:?}");
        }
        check("", ["", "", "", ""]);
        check("nameserver 192.0.2.3", ["192.0.2.3", "", "", ""]);
        check(
            "# nameserver 1\n; nameserver 2\n\n  nameserver\t192.0.2.0  # rest\r\nnameserver 192.0.2.1\nnameserver\n",
            ["192.0.2.0 192.0.2.1", "", "", ""],
        );
        check("domain a.example\ndomain b.example\ndomain", ["", "b.example", "", ""]);
        check(
            "search a b\nsearch c\noptions ndots:5 rotate\nsortlist x",
            ["", "", "a b c", "ndots:5 rotate"],
        );
    }
}
