//! All nodes of a run: this one and its peers, asked and listened to together; and what selectors mean among them.

use std::{
    net::IpAddr,
    sync::{Arc, mpsc::channel},
};

use anyhow::Context;

use super::{
    node::{Events, Node, Peer},
    place::{Containers, HOST, Place},
    protocol::Request,
};

/// This node first, then the peers in the order they were named.
pub struct Nodes {
    pub all: Vec<Node>,
    pub events: Events,
}

/// A namespace on one of the nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Position of the node.
    pub node: usize,
    pub place: Place,
    /// By which others reach it, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

impl Nodes {
    /// Starts an agent for each. `name` is this node's, by default the host's.
    pub fn start(
        name: Option<&str>,
        peers: &[Peer],
        containers: Arc<dyn Containers>,
    ) -> anyhow::Result<Self> {
        let (sender, events) = channel();
        let name = match name {
            Some(name) => name.to_owned(),
            None => host_name()?,
        };
        let mut all = vec![Node::local(&name, containers, 0, sender.clone())?];
        for (index, peer) in peers.iter().enumerate() {
            all.push(Node::start(peer, index + 1, sender.clone())?);
        }
        let greetings: Vec<_> =
            all.iter_mut().map(|node| node.post(Request::Hello)).collect::<anyhow::Result<_>>()?;
        for (node, greeting) in all.iter_mut().zip(greetings) {
            node.greet(greeting)?;
        }
        Ok(Self { all, events })
    }

    /// Brings all to their end; [`Nodes::events`] ends after the last event.
    pub fn finish(&mut self) {
        self.all.iter_mut().for_each(Node::finish);
    }

    /// The names, by position.
    pub fn names(&self) -> Vec<String> {
        self.all.iter().map(|node| node.name.clone()).collect()
    }

    /// The node and the rest of a selector that names one: `n2/c2`, `host@n2`.
    fn split<'a>(&self, selector: &'a str) -> (Option<usize>, &'a str) {
        let position = |name: &str| self.all.iter().position(|node| node.name == name);
        if let Some((node, rest)) = selector.split_once('/')
            && let Some(node) = position(node)
        {
            return (Some(node), rest);
        }
        match selector.split_once('@') {
            Some((HOST, name)) if position(name).is_some() => (position(name), HOST),
            _ => (None, selector),
        }
    }

    /// What a selector means: on the node it names, else here, else on the first peer that knows it.
    pub fn resolve(&mut self, selector: &str) -> anyhow::Result<Option<Found>> {
        let (on, rest) = self.split(selector);
        let rest = rest.to_owned();
        if let Ok(address) = rest.parse() {
            return self.locate(on, address);
        }
        let candidates: Vec<usize> = on.map_or_else(|| (0..self.all.len()).collect(), |node| vec![node]);
        let mut refused = None;
        for node in candidates {
            match self.all[node].resolve(&rest) {
                Ok(Some((place, addresses))) => return Ok(Some(Found { node, place, addresses })),
                Ok(None) => {}
                Err(err) => refused = refused.or(Some(err)),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    /// The namespace that has an address.
    fn locate(&mut self, on: Option<usize>, address: IpAddr) -> anyhow::Result<Option<Found>> {
        let candidates: Vec<usize> = on.map_or_else(|| (0..self.all.len()).collect(), |node| vec![node]);
        for node in candidates {
            let foreign = self.foreign(node);
            if let Some(place) = self.all[node].locate(address, foreign)? {
                return Ok(Some(Found { node, place, addresses: vec![address] }));
            }
        }
        Ok(None)
    }

    /// The address that a selector is, whichever node it names.
    pub fn address(&self, selector: &str) -> Option<IpAddr> {
        self.split(selector).1.parse().ok()
    }

    /// The own namespaces of all other nodes: on one kernel, they are no containers of this one.
    pub fn foreign(&self, node: usize) -> Vec<u32> {
        let others = self.all.iter().enumerate().filter(|(position, _)| *position != node);
        others.map(|(_, node)| node.own.inode).collect()
    }
}

/// As the kernel has it.
pub fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("ask for the host name")?;
    Ok(name.to_string_lossy().into_owned())
}
