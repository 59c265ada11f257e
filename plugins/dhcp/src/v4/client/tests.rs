use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Message, MessageType, Opcode, OptionCode},
};

use super::*;
use crate::config::Wishes;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

/// A client and a server that says what it is told to.
struct Scene {
    client: Client,
    now: Moment,
}

impl Scene {
    fn new() -> Self {
        let identity = Identity {
            mac: MAC,
            client_id: b"\0c/n/i".to_vec(),
            wishes: Wishes { provide: vec![(12, b"box".to_vec())], request: vec![1, 3] },
            broadcast: false,
        };
        let pace = Pace { timeout: Duration::from_secs(10), resend_max: Duration::from_secs(62) };
        let now = Moment(1_000_000);
        Self { client: Client::new(identity, pace, 7, now), now }
    }

    /// Lets time pass until something is due.
    fn next(&mut self) -> Vec<Action> {
        self.now = self.client.deadline().expect("something is due");
        self.client.tick(self.now)
    }

    fn answer(&mut self, to: &Message, kind: MessageType, more: Vec<DhcpOption>) -> Vec<Action> {
        self.client.receive(&reply(to, kind, more), SERVER_MAC, self.now)
    }

    /// Gets a lease of 100 seconds.
    fn bind(&mut self) -> Lease {
        let discover = sent(&self.next()).0;
        let request = sent(&self.answer(&discover, MessageType::Offer, vec![])).0;
        match &self.answer(&request, MessageType::Ack, vec![DhcpOption::AddressLeaseTime(100)])[..] {
            [Action::Have(lease)] => lease.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn reply(to: &Message, kind: MessageType, more: Vec<DhcpOption>) -> Vec<u8> {
    let mut reply =
        Message::new_with_id(to.xid(), [0; 4].into(), ADDRESS, [0; 4].into(), [0; 4].into(), to.chaddr());
    reply.set_opcode(Opcode::BootReply);
    let common = [
        DhcpOption::MessageType(kind),
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::SubnetMask([255, 255, 255, 0].into()),
    ];
    for option in common.into_iter().chain(more) {
        reply.opts_mut().insert(option);
    }
    reply.to_vec().unwrap()
}

#[track_caller]
fn sent(actions: &[Action]) -> (Message, To) {
    match actions {
        [Action::Send(out)] => (Message::decode(&mut Decoder::new(&out.message)).unwrap(), out.to),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().unwrap()
}

#[test]
fn asks_takes_and_keeps() {
    let mut scene = Scene::new();
    let (discover, to) = sent(&scene.next());
    assert_eq!((kind(&discover), to), (MessageType::Discover, To::Everybody));
    assert_eq!(discover.opts().get(OptionCode::Hostname), Some(&DhcpOption::Hostname("box".into())));
    let id = discover.opts().get(OptionCode::ClientIdentifier);
    assert_eq!(id, Some(&DhcpOption::ClientIdentifier(b"\0c/n/i".to_vec())));

    let (request, _) = sent(&scene.answer(&discover, MessageType::Offer, vec![]));
    assert_eq!((kind(&request), request.xid()), (MessageType::Request, discover.xid()));
    let acked = scene.answer(&request, MessageType::Ack, vec![DhcpOption::AddressLeaseTime(100)]);
    let [Action::Have(lease)] = &acked[..] else { panic!("{acked:?}") };
    assert_eq!(lease.address.to_string(), "192.0.2.50/24");
    let times = lease.times.unwrap();
    let after = [times.renew, times.rebind, times.expire].map(|at| at.since(scene.now).as_secs());
    assert_eq!(after, [50, 87, 100]);
    assert!(!scene.client.is_listening());

    // T1: the server is asked, by itself.
    let (renew, to) = sent(&scene.next());
    assert_eq!((kind(&renew), renew.ciaddr()), (MessageType::Request, ADDRESS));
    assert_eq!(to, To::Server { address: SERVER, mac: SERVER_MAC });
    let renewed = scene.answer(&renew, MessageType::Ack, vec![DhcpOption::AddressLeaseTime(100)]);
    assert!(matches!(&renewed[..], [Action::Have(lease)] if lease.times.unwrap().expire > times.expire));
}

#[test]
fn asks_again_ever_more_slowly() {
    let mut scene = Scene::new();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let before = scene.now;
        sent(&scene.next());
        pauses.push(scene.now.since(before).as_secs());
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 10, 10]);
}

#[test]
fn gives_an_offer_up_that_is_not_confirmed() {
    let mut scene = Scene::new();
    let (discover, _) = sent(&scene.next());
    sent(&scene.answer(&discover, MessageType::Offer, vec![]));
    let kinds: Vec<_> = (0..4).map(|_| kind(&sent(&scene.next()).0)).collect();
    assert_eq!(
        kinds,
        [MessageType::Request, MessageType::Request, MessageType::Request, MessageType::Discover]
    );
}

#[test]
fn a_refusal_starts_over() {
    let mut scene = Scene::new();
    let (discover, _) = sent(&scene.next());
    let (request, _) = sent(&scene.answer(&discover, MessageType::Offer, vec![]));
    assert!(scene.answer(&request, MessageType::Nak, vec![]).is_empty());
    assert_eq!(kind(&sent(&scene.next()).0), MessageType::Discover);

    let mut scene = Scene::new();
    let lease = scene.bind();
    let (renew, _) = sent(&scene.next());
    let refused = scene.answer(&renew, MessageType::Nak, vec![]);
    assert_eq!(refused[0], Action::Lose(lease));
    assert_eq!(kind(&sent(&refused[1..]).0), MessageType::Discover);
}

#[test]
fn a_silent_server_costs_the_lease_in_the_end() {
    let mut scene = Scene::new();
    let lease = scene.bind();
    let (mut renewals, mut rebinds) = (0, 0);
    let lost = loop {
        let actions = scene.next();
        match &actions[..] {
            [Action::Send(out)] if out.to == To::Everybody => rebinds += 1,
            [Action::Send(_)] => renewals += 1,
            [] => {}
            _ => break actions,
        }
    };
    assert_eq!(lost[0], Action::Lose(lease.clone()));
    assert_eq!(Some(scene.now), lease.times.map(|times| times.expire));
    assert!(renewals >= 3 && rebinds >= 2, "{renewals} {rebinds}");
    // It would like to have the same again.
    let (discover, _) = sent(&lost[1..]);
    assert_eq!(
        discover.opts().get(OptionCode::RequestedIpAddress),
        Some(&DhcpOption::RequestedIpAddress(ADDRESS))
    );
}

#[test]
fn what_is_not_for_it_is_passed_over() {
    let mut scene = Scene::new();
    let (discover, _) = sent(&scene.next());
    let offer = reply(&discover, MessageType::Offer, vec![]);
    for (at, value) in (0..offer.len()).flat_map(|at| [0, 1, 0xff].map(|value| (at, value))) {
        let mut broken = offer.clone();
        broken[at] = value;
        // Whatever it makes of it, it does not fail.
        scene.client.receive(&broken, SERVER_MAC, scene.now);
    }
    let mut scene = Scene::new();
    let (discover, _) = sent(&scene.next());
    let (mut other_xid, mut other_mac) = (offer.clone(), offer.clone());
    other_xid[4] ^= 1;
    other_mac[28] ^= 4;
    for foreign in
        [other_xid, other_mac, reply(&discover, MessageType::Ack, vec![]), offer[..100].to_vec(), vec![]]
    {
        assert!(scene.client.receive(&foreign, SERVER_MAC, scene.now).is_empty());
    }
}

#[test]
fn a_lease_for_ever_needs_nothing() {
    let mut scene = Scene::new();
    let (discover, _) = sent(&scene.next());
    let (request, _) = sent(&scene.answer(&discover, MessageType::Offer, vec![]));
    scene.answer(&request, MessageType::Ack, vec![DhcpOption::AddressLeaseTime(u32::MAX)]);
    assert_eq!(scene.client.deadline(), None);
}

#[test]
fn nothing_is_asked_for_without_end() {
    for more in
        [vec![DhcpOption::AddressLeaseTime(0)], vec![DhcpOption::AddressLeaseTime(9), DhcpOption::Renewal(0)]]
    {
        let mut scene = Scene::new();
        let (discover, _) = sent(&scene.next());
        let (request, _) = sent(&scene.answer(&discover, MessageType::Offer, vec![]));
        scene.answer(&request, MessageType::Ack, more);
        assert_eq!(scene.client.deadline().unwrap().since(scene.now).as_secs(), 1);
    }
}

#[test]
fn classless_routes_stand_in_for_the_routers() {
    let mut scene = Scene::new();
    let (discover, _) = sent(&scene.next());
    let (request, _) = sent(&scene.answer(&discover, MessageType::Offer, vec![]));
    let more = vec![
        DhcpOption::Router(vec![[192, 0, 2, 1].into()]),
        DhcpOption::ClasslessStaticRoute(vec![
            ("198.51.100.0/24".parse().unwrap(), [192, 0, 2, 7].into()),
            ("203.0.113.0/24".parse().unwrap(), [0, 0, 0, 0].into()),
        ]),
    ];
    let acked = scene.answer(&request, MessageType::Ack, more);
    let [Action::Have(lease)] = &acked[..] else { panic!("{acked:?}") };
    let result = lease.result(Some(7));
    let routes: Vec<_> = result
        .routes
        .iter()
        .map(|r| (r.dst.to_string(), r.gw.map(|gw| gw.to_string()), r.scope, r.priority))
        .collect();
    assert_eq!(
        routes,
        [
            ("198.51.100.0/24".to_owned(), Some("192.0.2.7".to_owned()), None, Some(7)),
            ("203.0.113.0/24".to_owned(), None, Some(253), Some(7)),
        ]
    );
}
