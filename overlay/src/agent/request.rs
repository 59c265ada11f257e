//! What is asked over the socket, a line of JSON each, and how it is answered. Anybody may send anything.

use cni::names::NetworkName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// How all networks are, or one.
    Status {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<NetworkName>,
    },
    /// Who is in the network.
    Peers { network: NetworkName },
    /// The kernel objects that there should be.
    Desired { network: NetworkName },
    /// What the kernel lacks or has too much, from a new look at it.
    Difference { network: NetworkName },
    /// The peers held back are really gone.
    Confirm { network: NetworkName },
}

/// One answer, a line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Ok(Value),
    Error(String),
}

/// Why a line is no question.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("a request of more than {MAX_LINE} bytes")]
    TooLong,
    #[error("no request: {0}")]
    Malformed(#[from] serde_json::Error),
}

impl Request {
    /// The network that is asked about, unless it is all.
    pub fn network(&self) -> Option<&NetworkName> {
        match self {
            Self::Status { network } => network.as_ref(),
            Self::Peers { network }
            | Self::Desired { network }
            | Self::Difference { network }
            | Self::Confirm { network } => Some(network),
        }
    }
}

/// Reads one line.
pub fn parse(line: &[u8]) -> Result<Request, RequestError> {
    if line.len() > MAX_LINE {
        return Err(RequestError::TooLong);
    }
    Ok(serde_json::from_slice(line)?)
}

/// The longest network name and some words.
pub const MAX_LINE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let network: NetworkName = "lab".parse().unwrap();
        let status = Request::Status { network: None };
        assert_eq!(parse(br#"{"ask":"status"}"#).unwrap(), status);
        let peers = parse(br#"{"ask":"peers","network":"lab"}"#).unwrap();
        assert_eq!(peers, Request::Peers { network });
        let long = [b' '; MAX_LINE + 1];
        for bad in [
            &b""[..],
            b"{}",
            br#"{"ask":"peers"}"#,
            br#"{"ask":"stop"}"#,
            br#"{"ask":"peers","network":"../x"}"#,
            &long,
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
