//! Errors of an act that goes on past them, such as DEL and GC.

use std::fmt;

/// What failed so far.
#[derive(Debug, Default)]
pub struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// Notes a failure; hands back what succeeded.
    pub fn note<T>(&mut self, result: Result<T, impl Into<anyhow::Error>>) -> Option<T> {
        result.map_err(|err| self.0.push(err.into())).ok()
    }

    /// Nothing failed so far.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as one error: alone as it was, several in one message.
    pub fn into_result(mut self) -> anyhow::Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.remove(0)),
            _ => Err(anyhow::Error::msg(self.to_string())),
        }
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(|err| format!("{err:#}")).collect();
        f.write_str(&texts.join("; "))
    }
}
