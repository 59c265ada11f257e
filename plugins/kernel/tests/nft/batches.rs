//! What a batch does as a whole: errors, absence, generations, size; and what is read back.

use kernel::{
    error::Error,
    nft::{
        Nft,
        batch::Batch,
        element::Element,
        is_overtaken,
        rule::Rule,
        table::{ChainKind, Family, Hook},
        value::{Type, Value},
    },
};
use testenv::lab;

use crate::scene::{OTHER, TABLE, ifname, ip, mac, remove_table};

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
