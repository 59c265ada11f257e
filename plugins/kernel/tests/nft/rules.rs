//! Rules of every kind.

use kernel::nft::{
    batch::Batch,
    rule::{Field, Rule, Verdict},
    table::{ChainKind, Hook},
    value::{Type, Value},
};

use crate::scene::{TABLE, check, ifname, ip};

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

const CONDITIONS: &str = r#"
table inet test {
	chain forwarding {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ct state invalid drop
		ct status dnat accept
		ct direction original counter packets 0 bytes 0
		fib daddr type local counter packets 0 bytes 0
		ct mark 0x00000001 accept
		ct mark & 0x00003000 == 0x00003000 accept
		ct original ip daddr 10.0.0.1 accept
		ct original ip6 daddr fd00::1 accept
		meta l4proto tcp ct original proto-dst 80 accept
		udp sport 53 accept
		ct mark set ct mark | 0x00001000
		meta mark set meta mark | 0x00002000
		iifname "a" oifname != "b" reject
		iifname "veth*" oifname != "br-*" accept
	}
}
"#;

#[test]
fn conditions() {
    let build: fn(&mut Batch) = |batch| {
        let chain = TABLE.base_chain("forwarding", ChainKind::Filter, Hook::Forward, 0);
        batch.ensure_table(TABLE);
        batch.add_chain(chain);
        let rule = || Rule::new(chain);
        let accept = |rule: Rule<'static>| rule.verdict(Verdict::Accept);
        let protocol = |number| rule().equal(Field::L4Proto, &Value::Protocol(number));
        for rule in [
            accept(rule().established()),
            rule().invalid().verdict(Verdict::Drop),
            accept(rule().translated()),
            rule().original_direction().counter(),
            rule().to_this_host().counter(),
            accept(rule().equal(Field::CtMark, &Value::Mark(1))),
            accept(rule().all_bits(Field::CtMark, 0x3000)),
            accept(rule().equal(Field::CtOriginalIp4Destination, &ip("10.0.0.1"))),
            accept(rule().equal(Field::CtOriginalIp6Destination, &ip("fd00::1"))),
            accept(protocol(6).equal(Field::CtOriginalDestinationPort, &Value::Port(80))),
            accept(protocol(17).equal(Field::SourcePort, &Value::Port(53))),
            rule().set_ct_mark_bits(0x1000),
            rule().set_mark_bits(0x2000),
            rule().equal(Field::Iifname, &ifname("a")).not_equal(Field::Oifname, &ifname("b")).reject(),
            accept(rule().begins(Field::Iifname, "veth", false).begins(Field::Oifname, "br-", true)),
        ] {
            batch.append_rule(rule);
        }
    };
    check("conditions", build, CONDITIONS);
}

const TRANSLATIONS: &str = r#"
table inet test {
	map ports4 {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}

	map ports6 {
		type inet_proto . inet_service : ipv6_addr . inet_service
	}

	chain arriving {
		type nat hook prerouting priority dstnat; policy accept;
		dnat ip to ip daddr . meta l4proto . th dport map @ports4
		dnat ip6 to meta l4proto . th dport map @ports6
		meta l4proto tcp dnat ip to 10.0.0.1:80
		meta l4proto tcp dnat ip6 to [fd00::1]:80
		dnat ip to 10.0.0.1
		meta l4proto udp redirect to :53
	}

	chain leaving {
		type nat hook postrouting priority srcnat; policy accept;
		snat ip to 10.0.0.1
		snat ip6 to fd00::1
		masquerade fully-random
	}
}
"#;

#[test]
fn translations() {
    let build: fn(&mut Batch) = |batch| {
        let arriving = TABLE.base_chain("arriving", ChainKind::Nat, Hook::Prerouting, -100);
        let leaving = TABLE.base_chain("leaving", ChainKind::Nat, Hook::Postrouting, 100);
        let ports4 = TABLE.map("ports4", &[Type::Ip4, Type::Protocol, Type::Port], &[Type::Ip4, Type::Port]);
        let ports6 = TABLE.map("ports6", &[Type::Protocol, Type::Port], &[Type::Ip6, Type::Port]);
        batch.ensure_table(TABLE);
        batch.add_set(ports4);
        batch.add_set(ports6);
        batch.add_chain(arriving);
        batch.add_chain(leaving);
        let [v4, v6] = ["10.0.0.1", "fd00::1"].map(|text| text.parse().unwrap());
        let protocol = |number| Rule::new(arriving).equal(Field::L4Proto, &Value::Protocol(number));
        let port = [Field::L4Proto.into(), Field::DestinationPort.into()];
        let published = [Field::Ip4Destination.into(), port[0], port[1]];
        for rule in [
            Rule::new(arriving).dnat_map(&published, ports4),
            Rule::new(arriving).dnat_map(&port, ports6),
            protocol(6).dnat_to_port(v4, 80),
            protocol(6).dnat_to_port(v6, 80),
            Rule::new(arriving).dnat(v4),
            protocol(17).redirect(53),
            Rule::new(leaving).snat(v4),
            Rule::new(leaving).snat(v6),
            Rule::new(leaving).masquerade_fully_random(),
        ] {
            batch.append_rule(rule);
        }
    };
    check("translations", build, TRANSLATIONS);
}
