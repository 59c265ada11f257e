//! The guard of all networks' ports, put together from what each lets through. Knows no directory.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    rc::Rc,
    time::Duration,
};

use cni::names::NetworkName;
use kernel::error::Result;

use crate::{
    definition::Definition,
    host::guard::{Guard, Policy},
};

pub(super) struct Guards {
    guard: Guard,
    networks: BTreeMap<NetworkName, Policy>,
}

impl Guards {
    pub(super) fn open() -> Result<Self> {
        Ok(Self { guard: Guard::open()?, networks: BTreeMap::new() })
    }

    /// Lets only `peers` send to the network's port.
    pub(super) fn set(&mut self, definition: &Definition, peers: &BTreeSet<IpAddr>) {
        let port = definition.port.into();
        let policy = Policy {
            ports: [port].into(),
            peers: peers.iter().map(|peer| (*peer, port)).collect(),
            pools: definition.pools.iter().map(|pool| pool.network).collect(),
        };
        self.networks.insert(definition.name.clone(), policy);
        self.enforce();
    }

    fn enforce(&mut self) {
        let mut all = Policy::default();
        for Policy { ports, peers, pools } in self.networks.values() {
            all.ports.extend(ports);
            all.peers.extend(peers);
            all.pools.extend(pools);
        }
        if let Err(err) = self.guard.enforce(&all) {
            log::error!("only peers may send to ports {:?}, but that can't be enforced: {err}", all.ports);
        }
    }

    /// Puts the guard back if somebody flushed the ruleset, as firewalls do when they start.
    fn check(&mut self) {
        match self.guard.is_there() {
            Ok(true) => {}
            Ok(false) if self.networks.is_empty() => {}
            Ok(false) => {
                log::warn!("the rules that guard our ports are gone: putting them back");
                self.guard.forget();
                self.enforce();
            }
            Err(err) => log::error!("look for the rules that guard our ports: {err}"),
        }
    }
}

/// Looks after the guard.
pub(super) async fn watch(guards: Rc<RefCell<Guards>>) {
    let mut every = tokio::time::interval(LOOK);
    loop {
        every.tick().await;
        guards.borrow_mut().check();
    }
}

const LOOK: Duration = Duration::from_secs(10);
