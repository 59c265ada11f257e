//! CHECK of a list.

use cni::{
    error::{Code, Error},
    request::{Command, Request},
    version::Version,
};

use super::{Attach, Runtime, event::Event, final_result, input, io};
use crate::{cache::Entry, conf::NetworkList};

/// What CHECK would ask the plugins with, in order, after the ADD that a cache entry tells of. Of a list whose version has no CHECK
/// too.
pub fn requests(list: &NetworkList, entry: &Entry) -> Result<Vec<Request>, Error> {
    let attach = Attach::of_entry(entry);
    let result = final_result(entry, list.version)?;
    let environment = input::environment(Command::Check, Some(&attach));
    let variable = |name: &str| {
        let found = environment.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let each = list.plugins.iter().map(|plugin| {
        Request::parse(Command::Add, input::of_attachment(list, plugin, &attach, result.as_ref()), variable)
    });
    each.collect()
}

impl Runtime<'_> {
    /// CHECK in order, each plugin with the final result of the ADD from the cache. Returns the first error after all
    /// plugins were asked (libcni stops there: this is for people who want to see the whole fault).
    ///
    /// Succeeds without a call where the list says `disableCheck`. Fails where its version has no CHECK, and where the
    /// cache knows of no ADD.
    pub fn check(&mut self, list: &NetworkList, attach: &Attach) -> Result<(), Error> {
        if list.version < Version::V0_4_0 {
            let why = format!(
                "network {}: its version {} has no CHECK: it came with 0.4.0",
                list.name, list.version
            );
            return Err(Error::new(Code::IncompatibleVersion, why));
        }
        if list.disable_check {
            (self.report)(Event::Disabled { key: "disableCheck" });
            return Ok(());
        }
        let unknown = || {
            let file = self.cache.file(&attach.attachment);
            Error::new(
                Code::UnknownContainer,
                format!("{} was not added: no result in {}", attach.attachment, file.display()),
            )
        };
        let entry = self.cache.entry(&attach.attachment).map_err(io)?.ok_or_else(unknown)?;
        let result = final_result(&entry, list.version)?.ok_or_else(unknown)?;
        let attach = attach.filled_from(Some(&entry));
        let environment = input::environment(Command::Check, Some(&attach));
        self.ask_all(list, Command::Check, &environment, |plugin| {
            input::of_attachment(list, plugin, &attach, Some(&result))
        })
        .into_iter()
        .next()
        .map_or(Ok(()), Err)
    }
}
