//! Names of containers by id, as their engines tell them over their sockets. An engine that is not there, or does not answer soon, has no
//! names: what it keeps on disk serves then ([`container`](super::container)). Knows nothing of networks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{runtime::Builder, time::timeout};

use super::container::Names;

mod cri;
mod http;

/// A daemon that knows containers by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub kind: Kind,
    pub socket: PathBuf,
}

/// What it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Its own HTTP, which lists the containers that hold pods' namespaces too.
    Podman,
    Docker,
    /// The container runtime interface of Kubernetes, and containerd's own services for what nerdctl made.
    Containerd,
    /// The container runtime interface alone: CRI-O.
    Cri,
}

/// `--runtime`: which engines are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// Each that has a socket
    Auto,
    Podman,
    Docker,
    Containerd,
    Cri,
    /// None: names come from the engines' files
    None,
}

impl Wanted {
    pub fn covers(self, engine: &Engine) -> bool {
        match self {
            Self::Auto => true,
            Self::None => false,
            Self::Podman => engine.kind == Kind::Podman,
            Self::Docker => engine.kind == Kind::Docker,
            Self::Containerd => engine.kind == Kind::Containerd,
            Self::Cri => matches!(engine.kind, Kind::Containerd | Kind::Cri),
        }
    }
}

impl Engine {
    /// Where engines listen by default, or where the variables say that their own clients read.
    pub fn all(variable: impl Fn(&str) -> Option<String>) -> Vec<Self> {
        let said = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            // Another scheme than a path's is another host's.
            let path = value.strip_prefix("unix://").unwrap_or(&value);
            path.starts_with('/').then(|| PathBuf::from(path))
        };
        let engine = |kind, name: &str, default: &str| Self {
            kind,
            socket: said(name).unwrap_or_else(|| default.into()),
        };
        vec![
            engine(Kind::Podman, "CONTAINER_HOST", "/run/podman/podman.sock"),
            engine(Kind::Docker, "DOCKER_HOST", "/run/docker.sock"),
            engine(Kind::Containerd, "CONTAINERD_ADDRESS", "/run/containerd/containerd.sock"),
            Self { kind: Kind::Containerd, socket: "/run/k3s/containerd/containerd.sock".into() },
            engine(Kind::Cri, "CONTAINER_RUNTIME_ENDPOINT", "/run/crio/crio.sock"),
        ]
    }

    async fn names(&self) -> Result<Names, String> {
        match self.kind {
            Kind::Podman => http::names(&self.socket, "/v4.0.0/libpod/containers/json?all=true").await,
            Kind::Docker => http::names(&self.socket, "/containers/json?all=true").await,
            Kind::Containerd => {
                let (pods, made) = tokio::join!(cri::pods(&self.socket), cri::made_by_nerdctl(&self.socket));
                // A containerd may have no interface for kubelets.
                let mut names = made?;
                names.extend(pods.unwrap_or_default());
                Ok(names)
            }
            Kind::Cri => cri::pods(&self.socket).await,
        }
    }
}

/// What all of them say, asked at once and each given [`PATIENCE`].
pub fn names(engines: &[Engine]) -> Names {
    let there: Vec<_> = engines.iter().filter(|engine| is_socket(&engine.socket)).cloned().collect();
    if there.is_empty() {
        return Names::new();
    }
    let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return Names::new() };
    let mut names = Names::new();
    runtime.block_on(async {
        let asked: Vec<_> = there
            .into_iter()
            .map(|engine| tokio::spawn(async move { timeout(PATIENCE, engine.names()).await }))
            .collect();
        for task in asked {
            if let Ok(Ok(Ok(told))) = task.await {
                names.extend(told);
            }
        }
    });
    names
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    path.metadata().is_ok_and(|it| it.file_type().is_socket())
}

/// A thousand containers are listed in a tenth of it; who waits for names wants the rest too.
const PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_are_where_clients_look() {
        let variable = |name: &str| match name {
            "CONTAINER_HOST" => Some("unix:///a/podman.sock".to_owned()),
            "DOCKER_HOST" => Some("tcp://192.0.2.1:2375".to_owned()),
            "CONTAINERD_ADDRESS" => Some("/b/containerd.sock".to_owned()),
            _ => None,
        };
        let sockets: Vec<_> = Engine::all(variable).into_iter().map(|engine| engine.socket).collect();
        let expected = ["/a/podman.sock", "/run/docker.sock", "/b/containerd.sock"];
        assert_eq!(sockets[..3], expected.map(PathBuf::from));
    }

    /// It accepts and says nothing.
    #[test]
    fn a_silent_engine_costs_little() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("silent.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let kinds = [Kind::Podman, Kind::Docker, Kind::Containerd, Kind::Cri];
        let engines = kinds.map(|kind| Engine { kind, socket: socket.clone() });
        let begun = std::time::Instant::now();
        assert_eq!(names(&engines), Names::new());
        assert!(begun.elapsed() < 4 * PATIENCE, "they are asked at once");
    }
}
