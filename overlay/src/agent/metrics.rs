//! Prometheus metrics over HTTP on a local address (text format 0.0.4).

use std::{convert::Infallible, fmt::Write, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{network::Ask, request};
use crate::{
    machine::{offload::Checksums, report::Status},
    state::Standing,
};

pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address} for metrics"))
}

pub(super) async fn serve(listener: TcpListener, networks: Vec<mpsc::Sender<Ask>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others must close first.
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let networks = networks.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| respond(request, &networks));
            let connection = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A client that goes away in between is its own affair.
            let _ = timeout(PATIENCE, connection).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    networks: &[mpsc::Sender<Ask>],
) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = request.method() == Method::GET && request.uri().path() == "/metrics";
    let (status, text) = if known {
        (StatusCode::OK, render(&statuses(networks).await))
    } else {
        (StatusCode::NOT_FOUND, "GET /metrics\n".to_owned())
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn statuses(networks: &[mpsc::Sender<Ask>]) -> Vec<Status> {
    let mut statuses = Vec::new();
    for network in networks {
        let (reply, replied) = oneshot::channel();
        let ask = Ask { request: request::Request::Status { network: None }, reply };
        if network.send(ask).await.is_ok()
            && let Ok(Some(request::Answer::Ok(value))) = replied.await
        {
            statuses.extend(serde_json::from_value::<Status>(value).ok());
        }
    }
    statuses
}

/// One metric: its name, what it says, its kind and its value for a network.
type Metric = (&'static str, &'static str, &'static str, fn(&Status) -> u64);

const METRICS: [Metric; 15] = [
    ("peers", "Hosts that are programmed.", "gauge", |s| count(s.peers)),
    ("peers_refused", "Records that are not used.", "gauge", |s| count(s.refused.len())),
    ("peers_held", "Peers gone from the directory and kept until confirmed.", "gauge", |s| count(s.held)),
    ("objects", "Kernel objects that there should be.", "gauge", |s| count(s.objects)),
    ("in_sync", "1 while the kernel is known to hold them.", "gauge", |s| s.in_sync.into()),
    ("device_ready", "1 while the device is as it should be.", "gauge", |s| s.device_ready.into()),
    ("owner", "1 while this host owns a subnet.", "gauge", |s| {
        matches!(s.standing, Standing::Owner { .. }).into()
    }),
    ("directory_up", "1 while the directory is followed.", "gauge", |s| (s.directory == "following").into()),
    ("mtu_bytes", "MTU of the device.", "gauge", |s| s.mtu.unwrap_or_default().into()),
    (
        "checksum_offload",
        "1 unless the kernel writes checksums, since the device's do not arrive.",
        "gauge",
        |s| (s.checksums == Checksums::Offloaded).into(),
    ),
    ("changes_total", "Kernel objects written or removed.", "counter", |s| s.counters.changes),
    ("failures_total", "Of these, refused by the kernel.", "counter", |s| s.counters.failures),
    ("repairs_total", "Changes by others that were noticed.", "counter", |s| s.counters.repairs),
    ("dumps_total", "Full reads of the kernel's tables.", "counter", |s| s.counters.dumps),
    ("overruns_total", "Times that kernel events were lost.", "counter", |s| s.counters.overruns),
];

fn render(statuses: &[Status]) -> String {
    let mut text = String::new();
    for (name, help, kind, value) in METRICS {
        let _ = writeln!(text, "# HELP tenon_overlay_{name} {help}\n# TYPE tenon_overlay_{name} {kind}");
        for status in statuses {
            // A network's name has no character that would need escaping.
            let _ =
                writeln!(text, "tenon_overlay_{name}{{network=\"{}\"}} {}", status.network, value(status));
        }
    }
    text
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed accept, which would fail again at once.
const BREATH: Duration = Duration::from_millis(100);
