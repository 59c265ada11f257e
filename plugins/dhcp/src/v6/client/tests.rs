use dhcproto::{
    Decodable, Decoder, Encodable,
    v6::{DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode},
};
use kernel::mac::MacAddr;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50);
const DUID: [u8; 4] = [0, 4, 7, 7];
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// A client, and routers and servers that say what they are told to.
struct Scene {
    client: Client,
    now: Moment,
}

impl Scene {
    fn new() -> Self {
        let identity = Identity { mac: MAC, duid: DUID.to_vec(), host_name: Some("box.lan".to_owned()) };
        let now = Moment(1_000_000);
        Self { client: Client::new(identity, Pace::default(), 7, now), now }
    }

    /// Lets time pass until something is due.
    fn next(&mut self) -> Vec<Action> {
        self.now = self.client.deadline().expect("something is due");
        self.client.tick(self.now)
    }

    fn router(&mut self, message: Vec<u8>) -> Vec<Action> {
        self.client.receive(&Heard::Router { from: ROUTER, message }, self.now)
    }

    fn server(&mut self, message: Vec<u8>) -> Vec<Action> {
        self.client.receive(&Heard::Server(message), self.now)
    }

    /// Up to its SOLICIT.
    fn solicited(&mut self) -> Message {
        assert_eq!(self.next(), [Action::Send(Outgoing::Routers)]);
        sent(&self.router(advert(MANAGED, &[prefix(ON_LINK, 100)])))
    }

    /// A lease of 100 seconds.
    fn bind(&mut self) -> Lease {
        let solicit = self.solicited();
        let request = sent(&self.server(reply(&solicit, MessageType::Advertise, &[granted(100), sure()])));
        had(&self.server(reply(&request, MessageType::Reply, &[granted(100)])))
    }
}

fn advert(flags: u8, options: &[Vec<u8>]) -> Vec<u8> {
    [&[134, 0, 0, 0, 64, flags, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0][..], &options.concat()].concat()
}

/// 2001:db8::/64
fn prefix(flags: u8, valid: u32) -> Vec<u8> {
    let network = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0).octets();
    [&[3, 4, 64, flags][..], &valid.to_be_bytes(), &valid.to_be_bytes(), &[0; 4], &network].concat()
}

fn resolver() -> Vec<u8> {
    let server = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53).octets();
    let names = [&[31, 3, 0, 0, 0, 0, 0, 9][..], b"\x03lan\x07example\0", &[0; 3]].concat();
    [&[25, 3, 0, 0, 0, 0, 0, 9][..], &server, &names].concat()
}

fn association(opts: DhcpOptions) -> DhcpOption {
    DhcpOption::IANA(IANA { id: 1, t1: 0, t2: 0, opts })
}

fn granted(seconds: u32) -> DhcpOption {
    let address =
        IAAddr { addr: ADDRESS, preferred_life: seconds, valid_life: seconds, opts: DhcpOptions::new() };
    association([DhcpOption::IAAddr(address)].into_iter().collect())
}

fn status(status: Status) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: String::new() })
}

/// The greatest preference: no other offer is waited for.
fn sure() -> DhcpOption {
    DhcpOption::Preference(255)
}

fn reply(to: &Message, kind: MessageType, more: &[DhcpOption]) -> Vec<u8> {
    let mut reply = Message::new_with_id(kind, to.xid());
    let ours = [DhcpOption::ClientId(DUID.to_vec()), DhcpOption::ServerId(b"server".to_vec())];
    for option in ours.iter().chain(more) {
        reply.opts_mut().insert(option.clone());
    }
    reply.to_vec().unwrap()
}

#[track_caller]
fn sent(actions: &[Action]) -> Message {
    match actions {
        [Action::Send(Outgoing::Servers(bytes))] => Message::decode(&mut Decoder::new(bytes)).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn had(actions: &[Action]) -> Lease {
    match actions {
        [Action::Have(lease)] => lease.clone(),
        other => panic!("{other:?}"),
    }
}

fn seconds(scene: &Scene, lease: &Lease) -> [u64; 3] {
    let times = lease.times.unwrap();
    [times.renew, times.rebind, times.expire].map(|at| at.since(scene.now).as_secs())
}

#[test]
fn a_managed_network_has_a_server() {
    let mut scene = Scene::new();
    let solicit = scene.solicited();
    assert_eq!(solicit.msg_type(), MessageType::Solicit);
    let fqdn = solicit.opts().get(OptionCode::ClientFqdn).unwrap().to_vec().unwrap();
    assert_eq!(fqdn[4..], *b"\x01\x03box\x03lan");
    let request = sent(&scene.server(reply(&solicit, MessageType::Advertise, &[granted(9), sure()])));
    assert_eq!(request.msg_type(), MessageType::Request);
    let server = DhcpOption::ServerId(b"server".to_vec());
    assert_eq!(request.opts().get(OptionCode::ServerId), Some(&server));
    let lease = had(&scene.server(reply(&request, MessageType::Reply, &[granted(100)])));
    assert_eq!((lease.address.to_string(), lease.router), ("2001:db8::50/64".to_owned(), Some(ROUTER)));
    assert_eq!(seconds(&scene, &lease), [50, 80, 100]);
    assert!(!scene.client.is_listening());

    // T1: the server that granted it. Its answer says nothing of the link.
    let renew = sent(&scene.next());
    assert_eq!(renew.msg_type(), MessageType::Renew);
    assert_eq!(renew.opts().get(OptionCode::ServerId), Some(&server));
    let renewed = had(&scene.server(reply(&renew, MessageType::Reply, &[granted(100)])));
    assert_eq!((renewed.address, renewed.router), (lease.address, lease.router));

    // Given back to that server.
    let Some(Outgoing::Servers(bytes)) = scene.client.release() else { panic!("nobody is told") };
    let release = Message::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(release.msg_type(), MessageType::Release);
    assert!(release.opts().get(OptionCode::ORO).is_none());
}

#[test]
fn the_best_offer_of_the_first_second_is_taken() {
    let mut scene = Scene::new();
    let solicit = scene.solicited();
    for preference in [3, 7, 5] {
        let mut offer = Message::decode(&mut Decoder::new(&reply(
            &solicit,
            MessageType::Advertise,
            &[granted(9), DhcpOption::Preference(preference)],
        )))
        .unwrap();
        offer.opts_mut().remove(OptionCode::ServerId);
        offer.opts_mut().insert(DhcpOption::ServerId(vec![preference]));
        assert!(scene.server(offer.to_vec().unwrap()).is_empty());
    }
    let request = sent(&scene.next());
    assert_eq!(request.opts().get(OptionCode::ServerId), Some(&DhcpOption::ServerId(vec![7])));
}

#[test]
fn a_prefix_for_everybody_makes_an_address() {
    let mut scene = Scene::new();
    scene.next();
    // A router that says nothing of addresses leaves it to the others.
    assert!(scene.router(advert(0, &[prefix(ON_LINK, 100)])).is_empty());
    let lease = had(&scene.router(advert(0, &[prefix(ON_LINK | AUTONOMOUS, 100), resolver()])));
    assert_eq!(lease.address.to_string(), "2001:db8::ff:fe00:1/64");
    assert_eq!(
        (&lease.name_servers[..], &lease.search[..]),
        (&["2001:db8::53".parse().unwrap()][..], &["lan.example".to_owned()][..])
    );
    assert_eq!(seconds(&scene, &lease), [50, 100, 100]);
    assert_eq!(scene.client.release(), None);

    // Renewed by a router; then none says anything any more.
    assert_eq!(scene.next(), [Action::Send(Outgoing::Routers)]);
    assert_eq!(scene.client.lease(), Some(&lease));
    assert!(scene.router(advert(0, &[])).is_empty());
    let renewed = had(&scene.router(advert(0, &[prefix(ON_LINK, 100)])));
    assert!(renewed.times.unwrap().expire > lease.times.unwrap().expire);
    let lost = loop {
        let actions = scene.next();
        if actions != [Action::Send(Outgoing::Routers)] {
            break actions;
        }
    };
    assert_eq!(lost, [Action::Lose(renewed), Action::Send(Outgoing::Routers)]);
}

#[test]
fn the_rest_comes_from_a_server_or_not_at_all() {
    let names = DhcpOption::DomainNameServers(vec![ADDRESS]);
    let announced = || advert(OTHER, &[prefix(AUTONOMOUS, u32::MAX)]);
    let mut scene = Scene::new();
    scene.next();
    let inform = sent(&scene.router(announced()));
    assert_eq!(inform.msg_type(), MessageType::InformationRequest);
    assert!(inform.opts().get(OptionCode::IANA).is_none());
    let lease = had(&scene.server(reply(&inform, MessageType::Reply, &[names])));
    assert_eq!((lease.name_servers, lease.times, lease.address.prefix()), (vec![ADDRESS], None, 128));
    assert_eq!(scene.client.deadline(), None);

    let mut scene = Scene::new();
    scene.next();
    sent(&scene.router(announced()));
    sent(&scene.next());
    assert!(had(&scene.next()).name_servers.is_empty());
}

#[test]
fn without_a_router_servers_are_asked_and_then_routers_again() {
    let mut scene = Scene::new();
    let mut said = Vec::new();
    while said.len() < 8 {
        match &scene.next()[..] {
            [Action::Send(Outgoing::Routers)] => said.push("routers"),
            [Action::Send(Outgoing::Servers(_))] => said.push("servers"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(said[..3], ["routers"; 3]);
    assert_eq!(said[3..7], ["servers"; 4]);
    assert_eq!(said[7], "routers");
    // An address of a network without routers is alone on its prefix.
    let mut scene = Scene::new();
    let solicit = loop {
        if let [Action::Send(Outgoing::Servers(bytes))] = &scene.next()[..] {
            break Message::decode(&mut Decoder::new(bytes)).unwrap();
        }
    };
    let request = sent(&scene.server(reply(&solicit, MessageType::Advertise, &[granted(9), sure()])));
    let lease = had(&scene.server(reply(&request, MessageType::Reply, &[granted(9)])));
    assert_eq!((lease.address.prefix(), lease.router), (128, None));
}

#[test]
fn a_refusal_starts_over() {
    for refusal in [
        status(Status::UseMulticast),
        association([status(Status::NoAddrsAvail)].into_iter().collect()),
        association(DhcpOptions::new()),
    ] {
        let mut scene = Scene::new();
        let solicit = scene.solicited();
        let useless = reply(&solicit, MessageType::Advertise, &[refusal.clone(), sure()]);
        assert!(scene.server(useless).is_empty());
        let request = sent(&scene.server(reply(&solicit, MessageType::Advertise, &[granted(9), sure()])));
        assert!(scene.server(reply(&request, MessageType::Reply, &[refusal])).is_empty());
        assert_eq!(scene.next(), [Action::Send(Outgoing::Routers)]);
    }
    for refusal in [association([status(Status::NoBinding)].into_iter().collect()), granted(0)] {
        let mut scene = Scene::new();
        let lease = scene.bind();
        let renew = sent(&scene.next());
        let lost = scene.server(reply(&renew, MessageType::Reply, &[refusal]));
        assert_eq!(lost, [Action::Lose(lease), Action::Send(Outgoing::Routers)]);
        // It would like to have the same again.
        let solicit = sent(&scene.router(advert(MANAGED, &[])));
        assert!(solicit.to_vec().unwrap().windows(16).any(|octets| octets == ADDRESS.octets()));
    }
}

#[test]
fn a_silent_server_costs_the_address_in_the_end() {
    let mut scene = Scene::new();
    let lease = scene.bind();
    let mut kinds = Vec::new();
    let lost = loop {
        match &scene.next()[..] {
            [Action::Send(Outgoing::Servers(bytes))] => {
                kinds.push(Message::decode(&mut Decoder::new(bytes)).unwrap().msg_type());
            }
            other => break other.to_vec(),
        }
    };
    let rebinds = kinds.iter().skip_while(|kind| **kind == MessageType::Renew);
    assert!(kinds[0] == MessageType::Renew && rebinds.clone().count() >= 2, "{kinds:?}");
    assert!(rebinds.clone().all(|kind| *kind == MessageType::Rebind), "{kinds:?}");
    assert_eq!(lost, [Action::Lose(lease.clone()), Action::Send(Outgoing::Routers)]);
    assert_eq!(Some(scene.now), lease.times.map(|times| times.expire));
}

#[test]
fn nothing_is_asked_for_without_end() {
    let mut scene = Scene::new();
    scene.next();
    let lease = had(&scene.router(advert(0, &[prefix(AUTONOMOUS, 1)])));
    assert_eq!(seconds(&scene, &lease), [1, 1, 1]);
    let mut scene = Scene::new();
    let solicit = scene.solicited();
    let request = sent(&scene.server(reply(&solicit, MessageType::Advertise, &[granted(1), sure()])));
    let lease = had(&scene.server(reply(&request, MessageType::Reply, &[granted(1)])));
    assert_eq!(seconds(&scene, &lease), [1, 1, 1]);
}

#[test]
fn what_strangers_send_does_no_harm() {
    let mut scene = Scene::new();
    let solicit = scene.solicited();
    let good = reply(&solicit, MessageType::Advertise, &[granted(9), status(Status::Success), sure()]);
    let announced = advert(OTHER, &[prefix(AUTONOMOUS, 9), resolver()]);
    for at in 0..good.len().max(announced.len()) {
        for value in [0, 1, 2, 17, 0xff] {
            let broken = |bytes: &[u8]| {
                let mut broken = bytes.to_vec();
                if let Some(byte) = broken.get_mut(at) {
                    *byte = value;
                }
                broken
            };
            // Whatever it makes of it, it does not fail.
            scene.server(broken(&good));
            Scene::new().router(broken(&announced));
            scene.server(good[..at.min(good.len())].to_vec());
            Scene::new().router(announced[..at.min(announced.len())].to_vec());
        }
    }
    let mut scene = Scene::new();
    let solicit = scene.solicited();
    let foreign = |change: fn(&mut Message)| {
        let mut message = Message::decode(&mut Decoder::new(&good)).unwrap();
        message.set_xid(solicit.xid());
        change(&mut message);
        message.to_vec().unwrap()
    };
    for message in [
        foreign(|message| {
            message.set_xid_num(1);
        }),
        foreign(|message| drop(message.opts_mut().remove(OptionCode::ServerId))),
        foreign(|message| drop(message.opts_mut().remove(OptionCode::ClientId))),
        foreign(|message| {
            message.set_msg_type(MessageType::Reply);
        }),
    ] {
        assert!(scene.server(message).is_empty());
    }
    // Not from the link.
    let mut scene = Scene::new();
    scene.next();
    let message = advert(MANAGED, &[]);
    assert!(scene.client.receive(&Heard::Router { from: ADDRESS, message }, scene.now).is_empty());
}
