//! podman and docker: a list of containers as JSON over HTTP on a Unix socket.

use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1::handshake, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::facts::container::Names;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    /// The first is the container's; docker's begin with a slash.
    #[serde(default)]
    names: Option<Vec<String>>,
}

/// The names in the list that the engine has under `path`.
pub(super) async fn names(socket: &Path, path: &str) -> Result<Names, String> {
    let told = |err: hyper::Error| err.to_string();
    let stream = UnixStream::connect(socket).await.map_err(|err| err.to_string())?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(told)?;
    // Its error is the request's too. It ends with the sender.
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
    let response = sender.send_request(request.map_err(|err| err.to_string())?).await.map_err(told)?;
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    let body = response.into_body().collect().await.map_err(told)?.to_bytes();
    understand(&body).map_err(|err| err.to_string())
}

fn understand(body: &[u8]) -> serde_json::Result<Names> {
    let containers: Vec<Container> = serde_json::from_slice(body)?;
    let named = containers.into_iter().filter_map(|Container { id, names }| {
        let name = names?.into_iter().next()?;
        Some((id, name.trim_start_matches('/').to_owned()))
    });
    Ok(named.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_engines_lists_are_understood() {
        let list = r#"[{"Id": "aa", "Names": ["web"], "Pod": ""}, {"Id": "bb", "Names": ["/db", "/x/db"]},
            {"Id": "cc", "Names": null}, {"Id": "dd"}]"#;
        let names = understand(list.as_bytes()).unwrap();
        let found: Vec<_> = names.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
        assert_eq!(found, [("aa", "web"), ("bb", "db")]);
        assert!(understand(b"{}").is_err());
    }
}
