//! The etcd directory: ownership by compare-and-swap and without a lease, one range read and one watch a network. Knows no
//! kernel. The engine of agreement is etcd's; there is none here.

pub mod claim;
pub mod http;
pub mod view;
pub mod wire;

use std::{collections::BTreeSet, time::Duration};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use self::{
    http::{CallError, Http, Lines},
    view::{Keys, Owner, View},
    wire::{Condition, Event, KeyValue, Put, WatchMessage},
};
use super::{Directory, DirectoryError, Listing, Watched};
use crate::{
    config::EtcdConfig,
    definition::{Definition, Pool},
    family,
    names::NodeName,
    peer::Record,
    state::Standing,
};

/// One network in etcd.
pub struct Etcd {
    http: Http,
    config: EtcdConfig,
    definition: Definition,
    node: NodeName,
    keys: Keys,
    view: View,
    /// Of the view.
    revision: u64,
    watch: Option<Lines>,
    /// What our sign of life hangs on.
    lease: Option<i64>,
    calls: u64,
}

impl Etcd {
    /// Reads certificates and password; connects to nothing yet.
    pub fn open(
        definition: &Definition,
        config: &EtcdConfig,
        node: NodeName,
    ) -> Result<Self, DirectoryError> {
        let mut http = Http::new(config)?;
        http.start_at(node.as_str().bytes().map(usize::from).sum());
        Ok(Self {
            http,
            config: config.clone(),
            definition: definition.clone(),
            keys: Keys::new(&config.prefix, &definition.name),
            node,
            view: View::default(),
            revision: 0,
            watch: None,
            lease: None,
            calls: 0,
        })
    }

    /// Bytes of requests and answers so far, without headers.
    pub fn bytes(&self) -> u64 {
        self.http.bytes
    }

    /// Requests sent so far, streams among them.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    async fn call(&mut self, act: &str, path: &str, body: &Value) -> Result<Value, DirectoryError> {
        if self.config.username.is_some() && self.http.token.is_none() {
            self.log_in().await?;
        }
        self.calls += 1;
        match self.http.call(path, body).await {
            Err(CallError::Refused { message, .. }) if message.contains("invalid auth token") => {
                // Tokens live for five minutes, and with one member.
                self.log_in().await?;
                self.calls += 1;
                self.http.call(path, body).await.map_err(|err| DirectoryError::new(act, err))
            }
            done => done.map_err(|err| DirectoryError::new(act, err)),
        }
    }

    async fn log_in(&mut self) -> Result<(), DirectoryError> {
        let Some(name) = self.config.username.clone() else { return Ok(()) };
        let file = self.config.password_file.as_deref();
        let file = file.ok_or_else(|| DirectoryError::new("etcd.password-file", "a username needs one"))?;
        let password = std::fs::read_to_string(file)
            .map_err(|err| DirectoryError::new(format!("read etcd.password-file {}", file.display()), err))?;
        let body = json!({"name": name, "password": password.trim_end_matches('\n')});
        self.http.token = None;
        self.calls += 1;
        let act = format!("log in to etcd as {name}");
        let answer = self.http.call("/v3/auth/authenticate", &body).await;
        let answer = answer.map_err(|err| DirectoryError::new(&act, err))?;
        let token =
            answer["token"].as_str().ok_or_else(|| DirectoryError::new(&act, "no token in the answer"))?;
        self.http.token = Some(token.to_owned());
        Ok(())
    }

    /// A network that etcd has not heard of is born: its definition is put down, and newcomers wait.
    async fn give_birth(&mut self) -> Result<(), DirectoryError> {
        let act = format!("register network {}", self.definition.name);
        let lease = self.grant(&act, self.config.grace).await?;
        let text = serde_json::to_vec(&self.definition).map_err(|err| DirectoryError::new(&act, err))?;
        let (config, young) = (self.keys.config(), self.keys.young());
        let puts = [
            Put { key: &config, value: &text, lease: None },
            Put { key: &young, value: b"1", lease: Some(lease) },
        ];
        let body = wire::put_if(&[Condition::Absent(&config)], &puts, &config);
        let answer = self.call(&act, "/v3/kv/txn", &body).await?;
        match wire::put_outcome(&answer) {
            Ok(_) => self.view.config = Some(Ok(self.definition.clone())),
            // Another host was quicker; its definition must be ours.
            Err(Some(kv)) => drop(self.view.apply(&self.keys, &Event::Put(kv))),
            Err(None) => {}
        }
        // Either way it was born just now; the watch tells when that is over.
        self.view.young = true;
        Ok(())
    }

    async fn grant(&mut self, act: &str, time: Duration) -> Result<i64, DirectoryError> {
        let answer =
            self.call(act, "/v3/lease/grant", &json!({"TTL": time.as_secs().max(1).to_string()})).await?;
        let lease = wire::lease(&answer).map(|(id, _)| id);
        lease.ok_or_else(|| DirectoryError::new(act, "no lease in the answer"))
    }

    /// All hosts must mean the same network.
    fn check_definition(&self) -> Result<(), DirectoryError> {
        let act = || format!("join network {}", self.definition.name);
        match &self.view.config {
            Some(Ok(theirs)) if *theirs == self.definition => Ok(()),
            Some(Ok(theirs)) => {
                let text = |definition| serde_json::to_string(definition).unwrap_or_default();
                let (theirs, ours) = (text(theirs), text(&self.definition));
                Err(DirectoryError::new(act(), format!("etcd defines it as {theirs}, this host as {ours}")))
            }
            Some(Err(why)) => Err(DirectoryError::new(act(), format!("its definition in etcd: {why}"))),
            None => Err(DirectoryError::new(act(), "it has no definition in etcd")),
        }
    }

    /// Another host of our name would take our subnets for its own, and we its. Who is here, says so.
    async fn appear(&mut self, record: &Record) -> Result<(), DirectoryError> {
        if self.lease.is_some() {
            return Ok(());
        }
        let act = format!("say that {} is alive", self.node);
        let lease = self.grant(&act, self.config.alive).await?;
        let key = self.keys.alive(&self.node);
        let value = serde_json::to_vec(&record.underlay).map_err(|err| DirectoryError::new(&act, err))?;
        let put = |lease| Put { key: &key, value: &value, lease: Some(lease) };
        let body = wire::put_if(&[Condition::Absent(&key)], &[put(lease)], &key);
        let answer = self.call(&act, "/v3/kv/txn", &body).await?;
        match wire::put_outcome(&answer) {
            Ok(_) => {}
            Err(Some(other)) if other.value == value => {
                // Ourselves, before a restart.
                let unchanged = [Condition::Unchanged(&key, other.modified)];
                let body = wire::put_if(&unchanged, &[put(lease)], &key);
                self.call(&act, "/v3/kv/txn", &body).await?;
            }
            Err(other) => {
                let other =
                    other.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default();
                let why = format!("another host of that name is alive at {other}; names must differ");
                return Err(DirectoryError::new(act, why));
            }
        }
        self.lease = Some(lease);
        Ok(())
    }

    /// Sees to it that our record is what etcd has.
    async fn publish(&mut self, record: &Record) -> Result<(), DirectoryError> {
        let wanted = Record { subnets: Vec::new(), ..record.clone() };
        let (there, modified) = self.view.record(&self.node);
        if there == Some(&wanted) {
            return Ok(());
        }
        let act = format!("publish the record of {}", self.node);
        let key = self.keys.node(&self.node);
        let value = serde_json::to_vec(&wanted).map_err(|err| DirectoryError::new(&act, err))?;
        let unchanged = Condition::Unchanged(&key, modified);
        let body = wire::put_if(&[unchanged], &[Put { key: &key, value: &value, lease: None }], &key);
        let answer = self.call(&act, "/v3/kv/txn", &body).await?;
        match wire::put_outcome(&answer) {
            Ok(revision) => {
                let created = if modified == 0 { revision } else { modified };
                let kv = KeyValue { key, value, created, modified: revision };
                self.view.apply(&self.keys, &Event::Put(kv));
                Ok(())
            }
            Err(_) => Err(DirectoryError::new(act, "somebody else changed it")),
        }
    }

    /// Claims `subnet`, unless somebody has it. The view knows afterwards who.
    async fn take(&mut self, subnet: IpNetwork) -> Result<bool, DirectoryError> {
        let act = format!("claim {subnet}");
        let key = self.keys.subnet(subnet);
        let owner = Owner { node: self.node.clone() };
        let value = serde_json::to_vec(&owner).map_err(|err| DirectoryError::new(&act, err))?;
        let put = Put { key: &key, value: &value, lease: None };
        let body = wire::put_if(&[Condition::Absent(&key)], &[put], &key);
        let answer = self.call(&act, "/v3/kv/txn", &body).await?;
        let (kv, taken) = match wire::put_outcome(&answer) {
            Ok(revision) => (Some(KeyValue { key, value, created: revision, modified: revision }), true),
            // An answer that was lost on the way may have made it ours.
            Err(Some(kv)) => {
                let ours =
                    serde_json::from_slice::<Owner>(&kv.value).is_ok_and(|owner| owner.node == self.node);
                (Some(kv), ours)
            }
            Err(None) => (None, false),
        };
        if let Some(kv) = kv {
            self.view.apply(&self.keys, &Event::Put(kv));
        }
        Ok(taken)
    }

    /// Our subnets of one pool: what we have, else what we had, else a free one.
    async fn claim_in(
        &mut self,
        pool: Pool,
        owned: &[IpNetwork],
    ) -> Result<Result<(), String>, DirectoryError> {
        let inside = |subnet: &IpNetwork| family::contains(pool.network, *subnet);
        if self.view.owned_by(&self.node).iter().any(inside) {
            return Ok(Ok(()));
        }
        let before: Vec<IpNetwork> = owned.iter().copied().filter(inside).collect();
        for subnet in &before {
            if self.view.in_the_way(*subnet, &self.node).is_none() && self.take(*subnet).await? {
                continue;
            }
            let other = self.view.in_the_way(*subnet, &self.node);
            let other = other.map_or_else(|| "somebody".to_owned(), |(_, node)| node.to_string());
            return Ok(Err(format!("{subnet} belongs to {other} now")));
        }
        if !before.is_empty() {
            return Ok(Ok(()));
        }
        if self.view.young {
            return Ok(Err("the directory is new: hosts that own subnets register first".into()));
        }
        let choices: Vec<_> = claim::choices(pool, &self.node, &self.view).take(TRIES).collect();
        if choices.is_empty() {
            return Ok(Err(format!("{} is used up", pool.network)));
        }
        for subnet in choices {
            if self.view.is_free(subnet) && self.take(subnet).await? {
                return Ok(Ok(()));
            }
        }
        Ok(Err(format!("others were quicker {TRIES} times")))
    }

    fn apply(&mut self, events: &[Event]) -> BTreeSet<String> {
        events.iter().flat_map(|event| self.view.apply(&self.keys, event)).collect()
    }
}

impl Directory for Etcd {
    fn heartbeat_every(&self) -> Option<Duration> {
        Some(self.config.alive / 3)
    }

    async fn list(&mut self) -> Result<Listing, DirectoryError> {
        self.watch = None;
        let act = format!("read network {}", self.definition.name);
        let (mut from, to) = self.keys.range();
        let (mut view, mut revision) = (View::default(), 0);
        loop {
            let answer = self.call(&act, "/v3/kv/range", &wire::range(&from, &to, PAGE, revision)).await?;
            if revision == 0 {
                revision = wire::revision(&answer);
            }
            let (found, more) = wire::key_values(&answer);
            let last = found.last().map(|kv| kv.key.clone());
            for kv in found {
                view.apply(&self.keys, &Event::Put(kv));
            }
            match last.filter(|_| more) {
                // The next key in order.
                Some(last) => from = format!("{last}\0"),
                None => break,
            }
        }
        self.view = view;
        self.revision = revision;
        Ok(Listing { candidates: self.view.candidates(), definition: None, own: None })
    }

    async fn watch(&mut self) -> Result<Watched, DirectoryError> {
        let act = "watch etcd";
        loop {
            let lines = match &mut self.watch {
                Some(lines) => lines,
                None => {
                    let (from, to) = self.keys.range();
                    self.calls += 1;
                    let lines =
                        self.http.stream("/v3/watch", &wire::watch(&from, &to, self.revision + 1)).await;
                    self.watch.insert(lines.map_err(|err| DirectoryError::new(act, err))?)
                }
            };
            let line = lines.next().await.map_err(|err| DirectoryError::new(act, err))?;
            self.http.bytes += u64::try_from(line.len()).unwrap_or_default();
            match wire::watch_message(&line).map_err(|err| DirectoryError::new(act, err))? {
                WatchMessage::Cancelled { why } if why.starts_with("compacted") => {
                    self.watch = None;
                    log::debug!("{act}: {why}");
                    return Ok(Watched::Everything);
                }
                WatchMessage::Cancelled { why } => {
                    self.watch = None;
                    self.http.turn();
                    return Err(DirectoryError::new(act, why));
                }
                WatchMessage::Events { revision, events } => {
                    self.revision = self.revision.max(revision);
                    let touched = self.apply(&events);
                    if !touched.is_empty() {
                        return Ok(Watched::Changes(
                            touched.iter().map(|name| self.view.candidate(name)).collect(),
                        ));
                    }
                }
            }
        }
    }

    async fn claim(
        &mut self,
        record: Option<&Record>,
        owned: &[IpNetwork],
    ) -> Result<Standing, DirectoryError> {
        if self.view.config.is_none() {
            self.give_birth().await?;
        }
        self.check_definition()?;
        // A host that does not know where it is has nothing to say yet, and nobody could reach its subnet.
        let Some(record) = record else {
            return Ok(Standing::Waiting { why: "the underlay of this host is not known yet".into() });
        };
        self.appear(record).await?;
        self.publish(record).await?;
        let mut problems = Vec::new();
        for pool in self.definition.pools.clone() {
            if let Err(why) = self.claim_in(pool, owned).await? {
                problems.push(why);
            }
        }
        let subnets = self.view.owned_by(&self.node);
        let lost = owned.iter().any(|subnet| !subnets.contains(subnet));
        Ok(match problems.into_iter().next() {
            Some(why) if lost => Standing::Lost { subnets: owned.to_vec(), why },
            Some(why) => Standing::Waiting { why },
            None => Standing::Owner { subnets },
        })
    }

    async fn heartbeat(&mut self) -> Result<(), DirectoryError> {
        let Some(lease) = self.lease else { return Ok(()) };
        let body = json!({"ID": lease.to_string()});
        let answer = self.call("say that this host is alive", "/v3/lease/keepalive", &body).await?;
        if wire::lease(&answer).is_none_or(|(_, left)| left == 0) {
            // We were silent for too long, or etcd has forgotten everything.
            self.lease = None;
            return Err(DirectoryError::new(
                "say that this host is alive",
                "etcd does not know the lease any more",
            ));
        }
        Ok(())
    }
}

/// Keys a page: large enough for all but the largest networks to be one request.
const PAGE: u64 = 20_000;
/// Subnets that are asked for in a row before the view is given time to catch up.
const TRIES: usize = 32;
