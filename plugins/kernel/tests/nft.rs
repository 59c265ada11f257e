//! What the batches make of the kernel's ruleset, as `nft` reads it, and what it loads from the same text.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use kernel::{
    error::Error,
    nft::{
        Nft,
        batch::Batch,
        element::{Data, Element},
        is_overtaken,
        rule::{Field, Rule, Verdict},
        table::{ChainKind, Family, Hook, Set, Table},
        value::{Type, Value},
    },
};
use testenv::lab;

const OTHER: Table<'_> = Table { family: Family::Inet, name: "other" };
const TABLE: Table<'_> = Table { family: Family::Inet, name: "test" };

fn nft(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start nft");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?} took exception to\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

/// What `build` makes is listed as `text`, and `text` loaded by nft is listed the same.
#[track_caller]
fn check(name: &str, build: fn(&mut Batch), text: &'static str) {
    lab::run(name, move |lab| {
        lab.needs_program("nft", "nftables");
        let text = text.trim_start();
        let mut netlink = Nft::open().unwrap();
        let mut batch = Batch::new();
        build(&mut batch);
        netlink.commit(batch).unwrap();
        assert_eq!(nft(&["list", "ruleset"], ""), text);
        remove_table(&mut netlink);
        nft(&["-f", "-"], text);
        assert_eq!(nft(&["list", "ruleset"], ""), text);
        remove_table(&mut netlink);
    });
}

fn remove_table(nft: &mut Nft) {
    let mut batch = Batch::new();
    batch.remove_table(TABLE);
    nft.commit(batch).unwrap();
}

fn ip(text: &str) -> Value {
    Value::Ip(text.parse().unwrap())
}

fn network(text: &str) -> Value {
    Value::Network(text.parse().unwrap())
}

fn ifname(name: &str) -> Value {
    Value::Ifname(name.into())
}

fn mac(text: &str) -> Value {
    Value::Mac(text.parse().unwrap())
}

const SETS: &str = r#"
table inet test {
	set of_ip4 {
		type ipv4_addr
		elements = { 10.1.0.5 comment "net/ctr/eth0" }
	}

	set of_ip6 {
		type ipv6_addr
		elements = { fd00::5 }
	}

	set of_ether {
		type ether_addr
		elements = { 02:00:00:00:00:01 }
	}

	set of_protocol {
		type inet_proto
		elements = { sctp }
	}

	set of_port {
		type inet_service
		elements = { 8080 }
	}

	set of_mark {
		type mark
		elements = { 0x00002000 }
	}

	set of_ifname {
		type ifname
		elements = { "cni0" }
	}

	set of_all {
		type ifname . ipv4_addr . inet_proto . inet_service . ether_addr
		elements = { "cni0" . 10.1.0.5 . tcp . 80 . 02:00:00:00:00:01 }
	}
}
"#;

#[test]
fn sets_of_every_type() {
    let build: fn(&mut Batch) = |batch| {
        batch.ensure_table(TABLE);
        let mut fill = |set: Set<'_>, elements: &[Element]| {
            batch.add_set(set);
            batch.add_elements(set, elements);
        };
        fill(TABLE.set("of_ip4", &[Type::Ip4]), &[Element::new([ip("10.1.0.5")]).commented("net/ctr/eth0")]);
        fill(TABLE.set("of_ip6", &[Type::Ip6]), &[Element::new([ip("fd00::5")])]);
        fill(TABLE.set("of_ether", &[Type::Ether]), &[Element::new([mac("02:00:00:00:00:01")])]);
        fill(TABLE.set("of_protocol", &[Type::Protocol]), &[Element::new([Value::Protocol(132)])]);
        fill(TABLE.set("of_port", &[Type::Port]), &[Element::new([Value::Port(8080)])]);
        fill(TABLE.set("of_mark", &[Type::Mark]), &[Element::new([Value::Mark(0x2000)])]);
        fill(TABLE.set("of_ifname", &[Type::Ifname]), &[Element::new([ifname("cni0")])]);
        fill(
            TABLE.set("of_all", &[Type::Ifname, Type::Ip4, Type::Protocol, Type::Port, Type::Ether]),
            &[Element::new([
                ifname("cni0"),
                ip("10.1.0.5"),
                Value::Protocol(6),
                Value::Port(80),
                mac("02:00:00:00:00:01"),
            ])],
        );
    };
    check("sets_of_every_type", build, SETS);
}

#[test]
fn intervals() {
    let build: fn(&mut Batch) = |batch| {
        batch.ensure_table(TABLE);
        let mut fill = |set: Set<'_>, elements: &[Element]| {
            batch.add_set(set);
            batch.add_elements(set, elements);
        };
        let private = [Element::new([network("10.0.0.0/8")]), Element::new([network("192.168.0.0/16")])];
        fill(TABLE.set("private", &[Type::Ip4]).of_intervals(), &private);
        fill(TABLE.set("upper", &[Type::Ip4]).of_intervals(), &[Element::new([network("128.0.0.0/1")])]);
        fill(
            TABLE.set("pairs", &[Type::Ifname, Type::Ip6]).of_intervals(),
            &[Element::new([ifname("cni0"), network("fd00::/64")]).commented("net")],
        );
    };
    check(
        "intervals",
        build,
        r#"
table inet test {
	set private {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/8, 192.168.0.0/16 }
	}

	set upper {
		type ipv4_addr
		flags interval
		elements = { 128.0.0.0/1 }
	}

	set pairs {
		type ifname . ipv6_addr
		flags interval
		elements = { "cni0" . fd00::/64 comment "net" }
	}
}
"#,
    );
}

#[test]
fn maps() {
    let build: fn(&mut Batch) = |batch| {
        batch.ensure_table(TABLE);
        batch.add_chain(TABLE.chain("deeper"));
        let ports = TABLE.map("ports", &[Type::Protocol, Type::Port], &[Type::Ip4, Type::Port]);
        batch.add_set(ports);
        let to = [ip("10.1.0.5"), Value::Port(80)];
        batch.add_elements(
            ports,
            &[Element::to([Value::Protocol(6), Value::Port(8080)], to).commented("a/b/c")],
        );
        let verdicts = TABLE.map("verdicts", &[Type::Ifname], &[Type::Verdict]);
        batch.add_set(verdicts);
        let verdict = |name: &str, verdict| Element {
            key: vec![ifname(name)],
            data: Data::Verdict(verdict),
            comment: None,
        };
        batch.add_elements(
            verdicts,
            &[verdict("a", Verdict::Accept), verdict("b", Verdict::Jump("deeper".into()))],
        );
    };
    check(
        "maps",
        build,
        r#"
table inet test {
	map ports {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 comment "a/b/c" : 10.1.0.5 . 80 }
	}

	map verdicts {
		type ifname : verdict
		elements = { "a" : accept,
			     "b" : jump deeper }
	}

	chain deeper {
	}
}
"#,
    );
}

const RULES: &str = r#"
table inet test {
	set exempt4 {
		type ifname . ipv4_addr . ipv4_addr
	}

	set exempt6 {
		type ifname . ipv6_addr . ipv6_addr
	}

	map verdicts {
		type ifname : verdict
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark != 0x00000001 drop
		iifname . ip saddr . ip daddr & 255.255.128.0 @exempt4 return
		iifname . ip6 saddr . ip6 daddr & ffff:ffff:ffff:ffff:: != @exempt6 counter packets 0 bytes 0 masquerade comment "why not"
		ip daddr 224.0.0.0/4 counter packets 0 bytes 0
		ip6 saddr fd00::1 ip6 daddr != ff00::/8 accept
		oifname vmap @verdicts
	}
}
"#;

#[test]
fn rules() {
    let build: fn(&mut Batch) = |batch| {
        let postrouting = TABLE.base_chain("postrouting", ChainKind::Nat, Hook::Postrouting, 100);
        let exempt4 = TABLE.set("exempt4", &[Type::Ifname, Type::Ip4, Type::Ip4]);
        let exempt6 = TABLE.set("exempt6", &[Type::Ifname, Type::Ip6, Type::Ip6]);
        let verdicts = TABLE.map("verdicts", &[Type::Ifname], &[Type::Verdict]);
        batch.ensure_table(TABLE);
        batch.add_set(exempt4);
        batch.add_set(exempt6);
        batch.add_set(verdicts);
        batch.add_chain(postrouting);
        let rule = || Rule::new(postrouting);
        batch.append_rule(
            rule()
                .in_set(
                    &[Field::Iifname.into(), Field::Ip4Source.into(), Field::Ip4Destination.prefix(17)],
                    exempt4,
                )
                .verdict(Verdict::Return),
        );
        batch.append_rule(
            rule()
                .not_in_set(
                    &[Field::Iifname.into(), Field::Ip6Source.into(), Field::Ip6Destination.prefix(64)],
                    exempt6,
                )
                .counter()
                .masquerade()
                .commented("why not"),
        );
        batch.append_rule(rule().within(Field::Ip4Destination, "224.0.0.0/4".parse().unwrap()).counter());
        batch.append_rule(
            rule()
                .equal(Field::Ip6Source, &ip("fd00::1"))
                .not_within(Field::Ip6Destination, "ff00::/8".parse().unwrap())
                .verdict(Verdict::Accept),
        );
        batch.append_rule(rule().verdict_map(&[Field::Oifname.into()], verdicts));
        batch.insert_rule(rule().not_equal(Field::Mark, &Value::Mark(1)).verdict(Verdict::Drop));
    };
    check("rules", build, RULES);
}

#[test]
fn lists_what_it_wrote() {
    lab::run("lists_what_it_wrote", |_| {
        let mut nft = Nft::open().unwrap();
        let chain = TABLE.base_chain("postrouting", ChainKind::Nat, Hook::Postrouting, 100);
        let set = TABLE.set("s", &[Type::Ifname, Type::Ip6, Type::Ether]);
        let map = TABLE.map("m", &[Type::Port], &[Type::Ip4, Type::Port]);
        let element =
            Element::new([ifname("cni0"), ip("fd00::5"), mac("02:00:00:00:00:01")]).commented("a/b/c");
        let mapped = Element::to([Value::Port(80)], [ip("10.0.0.1"), Value::Port(81)]);
        assert_eq!(nft.elements(set).unwrap(), []);
        let mut batch = Batch::new();
        batch.ensure_table(TABLE);
        batch.add_chain(chain);
        batch.add_set(set);
        batch.add_set(map);
        batch.add_elements(set, std::slice::from_ref(&element));
        batch.add_elements(map, std::slice::from_ref(&mapped));
        batch.append_rule(Rule::new(chain).masquerade().commented("x"));
        nft.commit(batch).unwrap();
        assert_eq!(nft.tables(Family::Inet).unwrap(), ["test"]);
        assert_eq!(nft.chains(TABLE).unwrap(), ["postrouting"]);
        assert_eq!(nft.sets(TABLE).unwrap(), ["s", "m"]);
        assert_eq!(nft.elements(set).unwrap(), [element]);
        assert_eq!(nft.elements(map).unwrap(), [mapped]);
        let rules = nft.rules(chain).unwrap();
        assert_eq!(rules[0].comment.as_deref(), Some("x"));

        let mut batch = Batch::new();
        batch.remove_rule(chain, rules[0].handle);
        nft.commit(batch).unwrap();
        assert_eq!(nft.rules(chain).unwrap(), []);
        remove_table(&mut nft);
    });
}

#[test]
fn errors_name_the_change() {
    lab::run("errors_name_the_change", |_| {
        let mut nft = Nft::open().unwrap();
        let set = TABLE.set("s", &[Type::Ifname, Type::Ip4]);
        let element = Element::new([ifname("cni0"), ip("10.1.0.5")]);
        let add = |nft: &mut Nft| -> Result<(), Error> {
            let mut batch = Batch::new();
            batch.ensure_table(OTHER);
            batch.add_elements(set, std::slice::from_ref(&element));
            nft.commit(batch)
        };
        let error = add(&mut nft).unwrap_err();
        assert!(error.is_missing());
        assert_eq!(
            error.to_string(),
            "add cni0 . 10.1.0.5 to set inet test s: No such file or directory (os error 2)"
        );
        assert_eq!(nft.tables(Family::Inet).unwrap(), [""; 0], "nothing of a refused batch is applied");
        let mut batch = Batch::new();
        batch.ensure_table(TABLE);
        batch.add_set(set);
        nft.commit(batch).unwrap();
        add(&mut nft).unwrap();
        assert!(add(&mut nft).unwrap_err().is_exists());
        let mut batch = Batch::new();
        batch.remove_table(OTHER);
        nft.commit(batch).unwrap();
        remove_table(&mut nft);
    });
}

#[test]
fn removals_accept_absence() {
    lab::run("removals_accept_absence", |_| {
        let mut nft = Nft::open().unwrap();
        let set = TABLE.set("s", &[Type::Ip4]);
        let keys = ["10.1.0.1", "10.1.0.2", "10.1.0.3"].map(|address| vec![ip(address)]);
        let remove = || {
            let mut batch = Batch::new();
            keys.iter().for_each(|key| batch.remove_element(set, key));
            batch
        };
        nft.commit(remove()).expect("no table");
        let mut batch = Batch::new();
        batch.ensure_table(TABLE);
        batch.add_set(set);
        batch.add_elements(set, &[Element::new(keys[1].clone()).commented("old")]);
        nft.commit(batch).unwrap();
        let mut batch = remove();
        let replaced = Element::new(keys[1].clone()).commented("new");
        batch.add_elements(set, std::slice::from_ref(&replaced));
        nft.commit(batch).unwrap();
        assert_eq!(nft.elements(set).unwrap(), [replaced]);
        nft.commit(remove()).unwrap();
        assert_eq!(nft.elements(set).unwrap(), []);
        remove_table(&mut nft);
    });
}

#[test]
fn generation_guards_a_batch() {
    lab::run("generation_guards_a_batch", |_| {
        let mut nft = Nft::open().unwrap();
        let ensure = || {
            let mut batch = Batch::new();
            batch.ensure_table(TABLE);
            batch
        };
        let generation = nft.generation().unwrap();
        nft.commit(ensure().only_at(generation)).unwrap();
        let error = nft.commit(ensure().only_at(generation)).unwrap_err();
        assert!(is_overtaken(&error));
        let generation = nft.generation().unwrap();
        nft.commit(ensure().only_at(generation)).unwrap();
        remove_table(&mut nft);
    });
}

#[test]
fn batch_larger_than_the_socket_buffer() {
    lab::run("batch_larger_than_the_socket_buffer", |_| {
        let mut nft = Nft::open().unwrap();
        let set = TABLE.set("s", &[Type::Ip4]);
        let mut batch = Batch::new();
        batch.ensure_table(TABLE);
        batch.add_set(set);
        let elements: Vec<_> = (0..2_000_u32)
            .map(|n| {
                Element::new([Value::Ip(std::net::Ipv4Addr::from(0x0a00_0000 + n).into())])
                    .commented("x".repeat(100))
            })
            .collect();
        batch.add_elements(set, &elements);
        nft.commit(batch).unwrap();
        assert_eq!(nft.elements(set).unwrap().len(), 2_000);
        remove_table(&mut nft);
    });
}
