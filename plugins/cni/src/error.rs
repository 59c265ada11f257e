//! The error that crosses the protocol: a code for the runtime, words for the person.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A failure as the runtime sees it, `{code, msg, details}` on standard output (CNI 1.1.0, section 5, "Error").
///
/// Plugins use it only where the code tells the runtime something; any other error is reported as [`Code::Internal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    /// One line: the act, the object, the cause.
    pub msg: String,
    /// More words, or empty.
    pub details: String,
}

/// The codes of CNI 1.1.0, section 5, and the two that the reference library adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u32", into = "u32")]
pub enum Code {
    /// 1: the configuration asks for a version that the plugin does not speak.
    IncompatibleVersion,
    /// 2: a field is understood but can't be served; the message holds key and value.
    UnsupportedField,
    /// 3: the container does not exist, and the runtime need not clean up.
    UnknownContainer,
    /// 4: an environment variable is missing or malformed; the message names it.
    InvalidEnvironment,
    /// 5: reading or writing failed, for example of the configuration on standard input.
    Io,
    /// 6: the configuration, or a delegate's answer, is not the JSON that it should be.
    Decode,
    /// 7: the configuration does not make sense; the message names the field and the value.
    InvalidConfig,
    /// 8: `CNI_NETNS` can't serve (`ErrInvalidNetNS` of the reference library; not in the specification).
    InvalidNetns,
    /// 11: a passing condition; the runtime should call again later.
    TryAgainLater,
    /// 50: STATUS: the plugin can't serve ADD now.
    NotAvailable,
    /// 51: STATUS: as 50, and containers that exist may have limited connectivity.
    LimitedConnectivity,
    /// 999: anything else (`ErrInternal` of the reference library).
    Internal,
    /// A code that another plugin gave.
    Other(u32),
}

impl Error {
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The configuration's `field` has a `value` that can't be used, and why. `field` is a path such as
    /// `ipam.ranges[0][1].subnet`.
    pub fn invalid_config(field: &str, value: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Code::InvalidConfig, format!("{field}: {value}: {why}"))
    }

    /// The field makes sense but can't be served here, such as VLAN filtering on a kernel without it.
    pub fn unsupported_field(field: &str, value: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Code::UnsupportedField, format!("{field}: {value}: {why}"))
    }

    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<u32> for Code {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            8 => Self::InvalidNetns,
            11 => Self::TryAgainLater,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            999 => Self::Internal,
            other => Self::Other(other),
        }
    }
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::InvalidNetns => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Internal => 999,
            Code::Other(other) => other,
        }
    }
}
