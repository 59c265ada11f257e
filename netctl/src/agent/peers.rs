//! One question to all peers at once. A peer that does not answer is told of and does not keep the others from answering.

use std::sync::mpsc::channel;

use super::{
    node::{Node, Peer, Posted},
    protocol::{Reply, Request},
};

/// The question is under way.
pub struct Asked {
    waiting: Vec<(Node, Posted)>,
    failed: Vec<String>,
}

impl Asked {
    /// Starts the peers' agents and asks.
    pub fn new(peers: &[Peer], request: &Request) -> Self {
        Self::each(peers, |_| request.clone())
    }

    /// As [`Self::new`], with a question for each by its name.
    pub fn each(peers: &[Peer], request: impl Fn(&str) -> Request) -> Self {
        let (mut waiting, mut failed) = (Vec::new(), Vec::new());
        let mut started = Vec::new();
        for peer in peers {
            // These questions cause no events.
            let (events, _) = channel();
            let greeted = Node::start(peer, 0, events).and_then(|mut node| {
                let greeting = node.post(Request::Hello)?;
                Ok((node, greeting))
            });
            match greeted {
                Ok(greeted) => started.push(greeted),
                Err(err) => failed.push(format!("{}: {err:#}", peer.name)),
            }
        }
        for (mut node, greeting) in started {
            let request = request(&node.name);
            match node.greet(greeting).and_then(|()| node.post(request)) {
                Ok(posted) => waiting.push((node, posted)),
                Err(err) => failed.push(format!("{}: {err:#}", node.name)),
            }
        }
        Self { waiting, failed }
    }

    /// The answers, by peer, and what went wrong.
    pub fn replies(self) -> (Vec<(String, Reply)>, Vec<String>) {
        let (mut replies, mut failed) = (Vec::new(), self.failed);
        for (mut node, posted) in self.waiting {
            match node.reply(posted) {
                Ok(reply) => replies.push((node.name.clone(), reply)),
                Err(err) => failed.push(format!("{}: {err:#}", node.name)),
            }
        }
        (replies, failed)
    }
}
