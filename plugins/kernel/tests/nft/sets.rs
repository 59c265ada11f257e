//! Sets and maps of every type.

use kernel::nft::{
    batch::Batch,
    element::{Data, Element},
    rule::Verdict,
    table::Set,
    value::{Type, Value},
};

use crate::scene::{TABLE, check, ifname, ip, mac, network};

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
