//! A plugin's `main`: the verb from the environment, the answer on standard output, the exit code.
//!
//! The only place that turns an error into JSON, and the only one that prints.

use std::{
    env,
    io::{self, Read, Write},
    panic, process,
};

use serde::Serialize;

use crate::{
    arena::Arena,
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    request::{Command, NetnsKind, Request, Target, ValidAttachments, check_variables, netns_kind},
    result::AddResult,
    version::Version,
};

#[global_allocator]
static ALLOCATOR: Arena = Arena::new();

/// A plugin: one function a verb. Errors may be anything; a [`cni::Error`](Error) in the chain gives the code.
pub trait Plugin {
    /// The type name, for messages and the about text.
    const NAME: &'static str;

    /// The plugin wants the runtime's own namespace as `CNI_NETNS`, which is an error (code 8) for any other.
    const WANTS_OWN_NETNS: bool = false;

    /// `netns` exists, but may turn out to be no namespace. Leaves nothing behind when it fails.
    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult>;

    /// Best effort and repeatable. `netns` is `None` when `CNI_NETNS` is empty, gone, or the runtime's own.
    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()>;

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()>;

    /// Removes what this network's other attachments left. Goes on past errors and reports them together.
    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()>;

    /// Fails, with code 50 or 51, when an ADD would.
    fn status(request: &Request) -> anyhow::Result<()>;
}

/// Serves one call of plugin `P`, and ends the process with its exit code: 0, or 1 after an error.
pub fn run<P: Plugin>() -> ! {
    let code = call::<P>();
    #[expect(unsafe_code, reason = "std has no word for it")]
    // SAFETY: what was to be said is flushed, and nothing is registered for the end of a process. What
    // `process::exit` would do is to give back std's stack for signal handlers: a fortieth of the time of a bridge's ADD.
    unsafe {
        libc::_exit(code)
    }
}

/// The exit code; what there was to say is said.
fn call<P: Plugin>() -> i32 {
    crate::log::start(P::NAME);
    panic::set_hook(Box::new(|panic| {
        let err = Error::new(Code::Internal, format!("{}: internal error: {panic}", P::NAME));
        let _ = print(&json(&Failure::new(&err, None)));
        process::exit(1);
    }));
    let verb = env::var("CNI_COMMAND").unwrap_or_default();
    if verb.is_empty() {
        let versions = Version::ALL.map(Version::as_str).join(", ");
        eprintln!(
            "{} {}: CNI plugin of Tenon\nCNI protocol versions supported: {versions}",
            P::NAME,
            env!("CARGO_PKG_VERSION")
        );
        return 0;
    }
    let mut version = None;
    match verb.parse().map_err(anyhow::Error::from).and_then(|command| serve::<P>(command, &mut version)) {
        Ok(answer) => i32::from(print(&answer).is_err()),
        Err(err) => {
            let _ = print(&json(&Failure::new(&stated::<P>(&err), version)));
            1
        }
    }
}

/// What is still to go to standard output. `version` is set as soon as it is known, for the error's sake.
fn serve<P: Plugin>(command: Command, version: &mut Option<Version>) -> anyhow::Result<Vec<u8>> {
    if command == Command::Version {
        return Ok(versions());
    }
    check_variables(command, variable)?;
    let target = match command {
        Command::Gc | Command::Status | Command::Version => None,
        Command::Add | Command::Del | Command::Check => Some(Target::parse(variable)?),
    };
    // With room for most configurations at once.
    let mut stdin = Vec::with_capacity(8192);
    io::stdin()
        .read_to_end(&mut stdin)
        .map_err(|err| Error::new(Code::Io, format!("read the configuration from standard input: {err}")))?;
    let request = Request::parse(command, stdin, variable)?;
    *version = Some(request.version);
    log::debug!("{} {}", command.as_str(), request.name);
    match (command, target) {
        (Command::Add, Some(target)) => add::<P>(&request, &target.on(request.name.clone()))?,
        (Command::Del, Some(target)) => del::<P>(&request, &target.on(request.name.clone()))?,
        (Command::Check, Some(target)) => {
            P::check(&request, &target.on(request.name.clone()), &namespace::<P>()?)?;
        }
        (Command::Gc, _) => match ValidAttachments::parse(&request.config)? {
            Some(valid) => P::gc(&request, &valid)?,
            None => log::warn!("GC without cni.dev/valid-attachments: nothing done"),
        },
        (Command::Status, _) => P::status(&request)?,
        (Command::Version | Command::Add | Command::Del | Command::Check, _) => {}
    }
    Ok(Vec::new())
}

/// An attachment whose result does not reach the runtime is undone: nobody would know of it.
fn add<P: Plugin>(request: &Request, attachment: &Attachment) -> anyhow::Result<()> {
    let netns = namespace::<P>()?;
    let result = P::add(request, attachment, &netns)?;
    let encoded = result.encode(request.version);
    let told = encoded.and_then(|encoded| {
        let io = |err| Error::new(Code::Io, format!("write the result to standard output: {err}"));
        print(&json(&encoded)).map_err(io)
    });
    told.map_err(|err| {
        if let Err(err) = P::del(request, attachment, Some(&netns)) {
            log::error!("after an ADD whose result could not be given: {err:#}");
        }
        err.into()
    })
}

/// The reference does a DEL in the runtime's own namespace and then complains. So do we, but nothing in that namespace is
/// taken for the container's.
fn del<P: Plugin>(request: &Request, attachment: &Attachment) -> anyhow::Result<()> {
    let netns = NetnsPath::new(variable("CNI_NETNS"));
    let kind = if netns.as_str().is_empty() { NetnsKind::Absent } else { netns_kind(&netns) };
    let ours_is_wrong = kind == NetnsKind::Own && !P::WANTS_OWN_NETNS && !own_netns_is_overridden();
    P::del(request, attachment, (kind != NetnsKind::Absent && !ours_is_wrong).then_some(&netns))?;
    if ours_is_wrong { Err(own_netns(&netns).into()) } else { Ok(()) }
}

/// `CNI_NETNS` where the verb needs a namespace: it must be there, and not be the runtime's own unless that is wanted.
fn namespace<P: Plugin>() -> Result<NetnsPath, Error> {
    let netns = NetnsPath::new(variable("CNI_NETNS"));
    match netns_kind(&netns) {
        NetnsKind::Absent => {
            Err(Error::new(Code::InvalidNetns, format!("CNI_NETNS: {:?}: no such namespace", netns.as_str())))
        }
        NetnsKind::Own if !P::WANTS_OWN_NETNS && !own_netns_is_overridden() => Err(own_netns(&netns)),
        NetnsKind::Own | NetnsKind::Other => Ok(netns),
    }
}

fn own_netns(netns: &NetnsPath) -> Error {
    Error::new(
        Code::InvalidNetns,
        format!("CNI_NETNS: {:?}: is the plugin's own network namespace, not a container's", netns.as_str()),
    )
}

/// The reference's undocumented way out.
fn own_netns_is_overridden() -> bool {
    matches!(variable("CNI_NETNS_OVERRIDE").to_ascii_lowercase().as_str(), "1" | "true")
}

fn variable(name: &str) -> String {
    env::var_os(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The code comes from the `Error` in the chain, the words from the whole chain.
fn stated<P: Plugin>(err: &anyhow::Error) -> Error {
    let known = err.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let details = known.map_or_else(String::new, |known| known.details.clone());
    let mut words = format!("{}: {err:#}", P::NAME);
    if !details.is_empty() {
        words = words.replacen(&format!("; {details}"), "", 1);
    }
    Error { code: known.map_or(Code::Internal, |known| known.code), msg: words, details }
}

/// The error as CNI 1.1.0 section 5 writes it.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "cniVersion")]
    version: Version,
    code: Code,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl<'a> Failure<'a> {
    fn new(err: &'a Error, version: Option<Version>) -> Self {
        let Error { code, msg, details } = err;
        Self { version: version.unwrap_or(Version::NEWEST), code: *code, msg, details }
    }
}

/// VERSION ignores its input and answers in one line, as the reference does.
fn versions() -> Vec<u8> {
    #[derive(Serialize)]
    struct Versions {
        #[serde(rename = "cniVersion")]
        version: Version,
        #[serde(rename = "supportedVersions")]
        supported: [Version; 7],
    }
    let mut line = serde_json::to_vec(&Versions { version: Version::NEWEST, supported: Version::ALL })
        .unwrap_or_default();
    line.push(b'\n');
    line
}

/// Four spaces, as Go's `json.MarshalIndent` in the reference.
fn json(value: &impl Serialize) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    // Strings, numbers and lists of them can't fail to be written to memory.
    value.serialize(&mut serializer).expect("a result is always JSON");
    text
}

/// Fails when nobody can read the answer.
fn print(answer: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(answer).and_then(|()| stdout.flush());
    if let Err(err) = &printed {
        log::error!("write the answer to standard output: {err}");
    }
    printed
}
