//! What strangers send: arbitrary configurations, arbitrary bytes. An error, never a panic. No lab: nothing is done.

use bridge::config::Config;
use cni::{
    error::{Code, Error},
    request::{Command, Request, ValidAttachments},
};
use serde_json::{Map, Value, json};

const ROUNDS: u32 = 20_000;

/// Numerical Recipes' generator: a run is the same every time.
struct Dice(u32);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(self.0 >> 8).unwrap() % count
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn text(&mut self) -> String {
        let words = [
            "",
            "cni0",
            "net",
            "auto",
            "iptables",
            "1.1.0",
            "0.1.0",
            "host-local",
            "02:00:00:00:00:01",
            "a/b",
            "..",
            "10.1.0.0/16",
            "fd00::1",
            "\u{0}",
            "\u{feff}é",
            "MAC=1",
            "nameserver",
        ];
        match self.below(8) {
            0 => words[self.below(words.len())].repeat(self.below(40)),
            _ => self.one(&words).to_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => {
                self.one(&[json!(0), json!(1), json!(-1), json!(68), json!(4094), json!(4095), json!(65536)])
            }
            3 => self.one(&[json!(u64::MAX), json!(i64::MIN), json!(1.5), json!(1e300)]),
            4 | 5 => json!(self.text()),
            6 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => self.object(depth - 1),
        }
    }

    fn object(&mut self, depth: usize) -> Value {
        let mut object = Map::new();
        for _ in 0..self.below(8) {
            let mut key = self.one(KEYS).to_owned();
            if self.below(4) == 0 {
                key = key.to_uppercase();
            }
            object.insert(key, self.value(depth));
        }
        Value::Object(object)
    }
}

const KEYS: &[&str] = &[
    "cniVersion",
    "name",
    "type",
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "ipMasq",
    "ipMasqBackend",
    "mtu",
    "hairpinMode",
    "promiscMode",
    "vlan",
    "vlanTrunk",
    "id",
    "minID",
    "maxID",
    "preserveDefaultVlan",
    "macspoofchk",
    "enabledad",
    "disableContainerInterface",
    "portIsolation",
    "ipam",
    "dns",
    "nameservers",
    "domain",
    "search",
    "options",
    "args",
    "cni",
    "runtimeConfig",
    "mac",
    "prevResult",
    "interfaces",
    "ips",
    "routes",
    "cni.dev/valid-attachments",
    "x",
];

/// Everything that reads a configuration before anything is done. True when it is one that could be carried out.
fn read(stdin: Vec<u8>, args: &str) -> bool {
    let variable = |name: &str| if name == "CNI_ARGS" { args.to_owned() } else { String::new() };
    let commands = [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status];
    let mut understood = false;
    for command in commands {
        let request = match Request::parse(command, stdin.clone(), variable) {
            Err(err) => {
                known(&err);
                continue;
            }
            Ok(request) => request,
        };
        let config = Config::new(&request);
        understood |= config.is_ok();
        let _ = config.as_ref().map_err(known);
        let _ = request.prev_result().map_err(|err| known(&err));
        let _ = ValidAttachments::parse(&request.config).map_err(|err| known(&err));
    }
    understood
}

/// An error that tells something, under a code that is meant for it.
#[track_caller]
fn known(err: &Error) {
    let codes = [Code::IncompatibleVersion, Code::InvalidEnvironment, Code::Decode, Code::InvalidConfig];
    assert!(codes.contains(&err.code) && !err.msg.is_empty(), "{err:?}");
}

#[test]
fn arbitrary_configurations() {
    let mut dice = Dice(1);
    let mut understood = 0;
    for _ in 0..ROUNDS {
        let mut config = dice.object(3);
        // Most must get past the name and the version, or nothing else is seen.
        if dice.below(10) > 0 {
            config["name"] = json!("net");
            config["cniVersion"] = json!("1.1.0");
        }
        let args = if dice.below(4) == 0 { dice.text() } else { String::new() };
        understood += u32::from(read(config.to_string().into_bytes(), &args));
    }
    assert!(understood > ROUNDS / 100 && understood < ROUNDS, "{understood}");
}

#[test]
fn damaged_configurations() {
    let whole = crate::net::everything().to_string().into_bytes();
    assert!(read(whole.clone(), ""));
    let mut dice = Dice(2);
    let mut understood = 0;
    for _ in 0..ROUNDS {
        let mut bytes = whole.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len());
            match dice.below(3) {
                0 => bytes.truncate(at + 1),
                1 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        understood += u32::from(read(bytes, ""));
    }
    assert!(understood > 0 && understood < ROUNDS, "{understood}");
}

#[test]
fn depth_without_end() {
    for open in ["[", "{\"ipam\":", "{\"args\":{\"cni\":"] {
        assert!(!read(open.repeat(100_000).into_bytes(), ""));
    }
}
