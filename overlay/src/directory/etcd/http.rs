//! JSON over HTTP/1.1 to one of several endpoints, with TLS where they ask for it. Knows no etcd but its paths' shape.

use std::{os::fd::AsFd, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::{config::EtcdConfig, directory::DirectoryError};

/// Endpoints, and the connection to the one that answered last.
pub struct Http {
    endpoints: Vec<Endpoint>,
    tls: Option<TlsConnector>,
    /// Which endpoint is next.
    current: usize,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// For `Authorization`.
    pub token: Option<String>,
    /// Of bodies, sent and received.
    pub bytes: u64,
}

#[derive(Debug, Clone)]
struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
}

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Another endpoint may answer.
    #[error("{endpoint}: {why}")]
    Unreachable { endpoint: String, why: String },
    /// etcd does not want to.
    #[error("{endpoint}: {message} (HTTP {status})")]
    Refused { endpoint: String, status: StatusCode, message: String },
}

/// The lines of an answer that does not end.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    endpoint: String,
    /// Drives the connection as long as the lines are wanted.
    _connection: Task,
}

/// A task that ends with its owner.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Http {
    /// Checks the endpoints and reads the certificates; connects to nothing yet.
    pub fn new(config: &EtcdConfig) -> Result<Self, DirectoryError> {
        let endpoints = config.endpoints.iter().map(|text| endpoint(text)).collect::<Result<Vec<_>, _>>()?;
        let tls = if endpoints.iter().any(|endpoint| endpoint.tls) { Some(tls(config)?) } else { None };
        Ok(Self { endpoints, tls, current: 0, connection: None, token: None, bytes: 0 })
    }

    /// Begins with another endpoint than other hosts do.
    pub fn start_at(&mut self, number: usize) {
        self.current = number % self.endpoints.len().max(1);
    }

    /// Posts `body` and reads the answer. Endpoints that can't be reached are tried in turn, each once.
    pub async fn call(&mut self, path: &str, body: &Value) -> Result<Value, CallError> {
        let mut last = None;
        for _ in 0..=self.endpoints.len() {
            match self.try_call(path, body).await {
                Err(err @ CallError::Unreachable { .. }) => {
                    // A kept connection may have been closed meanwhile: that costs this endpoint no turn.
                    if self.connection.take().is_none() || last.is_some() {
                        self.current = (self.current + 1) % self.endpoints.len();
                    }
                    last = Some(err);
                }
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| self.unreachable("no endpoint")))
    }

    /// Another endpoint's turn: this one answers, but is of no use.
    pub fn turn(&mut self) {
        self.connection = None;
        self.current = (self.current + 1) % self.endpoints.len();
    }

    async fn try_call(&mut self, path: &str, body: &Value) -> Result<Value, CallError> {
        let endpoint = self.endpoints[self.current].clone();
        let unreachable = |why: String| CallError::Unreachable { endpoint: endpoint.to_string(), why };
        let ready = self.connection.as_ref().is_some_and(|connection| !connection.is_closed());
        if !ready {
            let (connection, drive) = self.connect(&endpoint).await?;
            // Ends with the connection.
            tokio::task::spawn_local(drive);
            self.connection = Some(connection);
        }
        let request = self.request(&endpoint, path, body, None);
        let Some(connection) = &mut self.connection else { return Err(unreachable("not connected".into())) };
        let exchange = async {
            let response = connection.send_request(request).await.map_err(|err| unreachable(chain(&err)))?;
            let status = response.status();
            let bytes =
                response.into_body().collect().await.map_err(|err| unreachable(chain(&err)))?.to_bytes();
            Ok((status, bytes))
        };
        let exchanged = timeout(PATIENCE, exchange).await;
        if exchanged.is_err() {
            // What comes later would be taken for the answer to the next question.
            self.connection = None;
        }
        let (status, bytes) = exchanged.map_err(|_| unreachable(format!("no answer in {PATIENCE:?}")))??;
        self.bytes += u64::try_from(bytes.len()).unwrap_or_default();
        answer(&endpoint, status, &bytes)
    }

    /// Posts `body` on a connection of its own and hands out the answer line by line.
    pub async fn stream(&mut self, path: &str, body: &Value) -> Result<Lines, CallError> {
        let endpoint = self.endpoints[self.current].clone();
        let unreachable = |why: String| CallError::Unreachable { endpoint: endpoint.to_string(), why };
        let (mut connection, drive) = self.connect(&endpoint).await?;
        let drive = Task(tokio::task::spawn_local(drive));
        // An etcd that has lost its leader must say so, rather than be silent.
        let request = self.request(&endpoint, path, body, Some(("grpc-metadata-hasleader", "true")));
        let response = timeout(PATIENCE, connection.send_request(request))
            .await
            .map_err(|_| unreachable(format!("no answer in {PATIENCE:?}")))?
            .map_err(|err| unreachable(chain(&err)))?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            let bytes = timeout(PATIENCE, response.into_body().collect()).await;
            let bytes = bytes.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
            return Err(answer(&endpoint, status, &bytes)
                .err()
                .unwrap_or_else(|| unreachable("refused".into())));
        }
        Ok(Lines {
            body: response.into_body(),
            buffer: Vec::new(),
            endpoint: endpoint.to_string(),
            _connection: drive,
        })
    }

    fn request(
        &mut self,
        endpoint: &Endpoint,
        path: &str,
        body: &Value,
        extra: Option<(&'static str, &'static str)>,
    ) -> Request<Full<Bytes>> {
        let body = Bytes::from(body.to_string());
        self.bytes += u64::try_from(body.len()).unwrap_or_default();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(host) = HeaderValue::from_str(&endpoint.authority()) {
            headers.insert(HOST, host);
        }
        if let Some(token) = self.token.as_deref().and_then(|token| HeaderValue::from_str(token).ok()) {
            headers.insert(AUTHORIZATION, token);
        }
        if let Some((name, value)) = extra {
            headers.insert(name, HeaderValue::from_static(value));
        }
        request
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(SendRequest<Full<Bytes>>, impl Future<Output = ()> + use<>), CallError> {
        let unreachable = |why: String| CallError::Unreachable { endpoint: endpoint.to_string(), why };
        let connected = timeout(CONNECT, self.open(endpoint)).await;
        connected.map_err(|_| unreachable(format!("no connection in {CONNECT:?}")))?.map_err(unreachable)
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(SendRequest<Full<Bytes>>, impl Future<Output = ()> + use<>), String> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|err| err.to_string())?;
        keep_alive(&stream).map_err(|err| err.to_string())?;
        let io: Box<dyn Stream> = match &self.tls {
            Some(tls) if endpoint.tls => {
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|err| err.to_string())?;
                Box::new(tls.connect(name, stream).await.map_err(|err| err.to_string())?)
            }
            _ => Box::new(stream),
        };
        let (sender, connection) = handshake(TokioIo::new(io)).await.map_err(|err| chain(&err))?;
        // Its error is the pending request's too.
        Ok((sender, async move { drop(connection.await) }))
    }

    fn unreachable(&self, why: &str) -> CallError {
        let endpoint = self.endpoints.get(self.current).map(ToString::to_string).unwrap_or_default();
        CallError::Unreachable { endpoint, why: why.to_owned() }
    }
}

impl Lines {
    /// The next line; may be dropped while it waits, and called again.
    pub async fn next(&mut self) -> Result<Vec<u8>, CallError> {
        let unreachable =
            |endpoint: &str, why: String| CallError::Unreachable { endpoint: endpoint.to_owned(), why };
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(unreachable(&self.endpoint, format!("a line of more than {LONGEST_LINE} bytes")));
            }
            match self.body.frame().await {
                None => return Err(unreachable(&self.endpoint, "the stream ended".into())),
                Some(Err(err)) => return Err(unreachable(&self.endpoint, chain(&err))),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

/// A connection, encrypted or not.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

/// A host that vanished is noticed in half a minute, on a stream that is silent by nature too.
fn keep_alive(stream: &TcpStream) -> nix::Result<()> {
    let fd = stream.as_fd();
    setsockopt(&fd, sockopt::KeepAlive, &true)?;
    setsockopt(&fd, sockopt::TcpKeepIdle, &10)?;
    setsockopt(&fd, sockopt::TcpKeepInterval, &5)?;
    setsockopt(&fd, sockopt::TcpKeepCount, &3)?;
    setsockopt(&fd, sockopt::TcpUserTimeout, &25_000)
}

fn answer(endpoint: &Endpoint, status: StatusCode, bytes: &[u8]) -> Result<Value, CallError> {
    let endpoint = endpoint.to_string();
    let value = serde_json::from_slice::<Value>(bytes);
    if status == StatusCode::OK {
        let malformed =
            |err| CallError::Unreachable { endpoint, why: format!("no JSON in the answer: {err}") };
        return value.map_err(malformed);
    }
    // What is no JSON is not etcd's own word, but that of its HTTP server or of something in between.
    let message = value.map_or_else(
        |_| String::from_utf8_lossy(bytes).trim().chars().take(200).collect(),
        |value| {
            let message = value["message"].as_str().or_else(|| value["error"].as_str());
            message.unwrap_or("refused").to_owned()
        },
    );
    // "No leader", "request timed out", "not capable": this member is cut off, another may not be.
    if status.is_server_error() {
        return Err(CallError::Unreachable { endpoint, why: message });
    }
    Err(CallError::Refused { endpoint, status, message })
}

fn endpoint(text: &str) -> Result<Endpoint, DirectoryError> {
    let wrong = |why: String| DirectoryError::new(format!("etcd.endpoints: {text:?}"), why);
    let uri: Uri = text.parse().map_err(|err| wrong(format!("{err}")))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("begins neither with http:// nor with https://".into())),
    };
    let host = uri.host().ok_or_else(|| wrong("no host".into()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if !matches!(uri.path(), "" | "/") {
        return Err(wrong("a path has no meaning here".into()));
    }
    Ok(Endpoint { tls, host, port: uri.port_u16().unwrap_or(2379) })
}

fn tls(config: &EtcdConfig) -> Result<TlsConnector, DirectoryError> {
    let EtcdConfig { ca, cert, key, .. } = config;
    let ca = ca.as_deref().ok_or_else(|| DirectoryError::new("etcd.ca", "https endpoints need one"))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|err| DirectoryError::new(format!("etcd.ca: {}", ca.display()), err))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|err| DirectoryError::new("set up TLS", err))?
        .with_root_certificates(roots);
    let config = match (cert, key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let act = || format!("etcd.key: {}", key.display());
            let private = PrivateKeyDer::from_pem_file(key).map_err(|err| DirectoryError::new(act(), err))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .map_err(|err| DirectoryError::new(act(), err))?
        }
        _ => return Err(DirectoryError::new("etcd.cert and etcd.key", "one without the other")),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, DirectoryError> {
    let act = || format!("read certificates from {}", file.display());
    let read = CertificateDer::pem_file_iter(file).map_err(|err| DirectoryError::new(act(), err))?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(|err| DirectoryError::new(act(), err))?;
    if read.is_empty() { Err(DirectoryError::new(act(), "there is none")) } else { Ok(read) }
}

/// hyper says what failed and keeps why in the source.
fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl Endpoint {
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

const CONNECT: Duration = Duration::from_secs(2);
/// etcd gives up by itself after 5 s plus two elections.
const PATIENCE: Duration = Duration::from_secs(4);
/// A transaction touches at most 128 keys, and a value has at most 1.5 MiB; ours have less than 1 KiB.
const LONGEST_LINE: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, expected) in [
            ("http://10.0.0.1:2379", "http://10.0.0.1:2379"),
            ("https://[fd00::1]", "https://[fd00::1]:2379"),
            ("http://etcd.example/", "http://etcd.example:2379"),
        ] {
            assert_eq!(endpoint(text).unwrap().to_string(), expected);
        }
        for bad in ["", "10.0.0.1:2379", "ftp://a", "http://", "http://a/v2"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
