//! A small client of the Kubernetes container runtime interface, so that a test can drive a runtime as a kubelet does.
//! Its own crate, so that who builds the lab alone need not build a gRPC stack. Knows no network.

mod message;

use std::path::Path;

use anyhow::Context;
use prost::Message;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use self::message::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, CreateContainerResponse, ExecSyncRequest,
    ExecSyncResponse, ImageSpec, LinuxPodSandboxConfig, Nothing, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxRequest, PodSandboxStatusResponse, PortMapping, RunPodSandboxRequest, RunPodSandboxResponse,
    StartContainerRequest,
};

/// A connection to a runtime. Every call blocks until it is answered.
pub struct Cri {
    runtime: Runtime,
    client: Grpc<Channel>,
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: String,
    /// The primary address; empty when the runtime told none.
    pub ip: String,
    config: PodSandboxConfig,
}

/// What a command in a container said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cri {
    /// Connects to the runtime's Unix socket.
    pub fn connect(socket: &Path) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let endpoint =
            Endpoint::try_from(format!("unix://{}", socket.display())).context("name the socket")?;
        let channel = runtime
            .block_on(endpoint.connect())
            .with_context(|| format!("connect to {}", socket.display()))?;
        Ok(Self { runtime, client: Grpc::new(channel) })
    }

    /// Starts a pod; `ports` are pairs of host and container TCP ports.
    pub fn run_pod(&mut self, name: &str, ports: &[(u16, u16)]) -> anyhow::Result<Pod> {
        let mapping = |(host, container): &(u16, u16)| PortMapping {
            container_port: i32::from(*container),
            host_port: i32::from(*host),
            ..PortMapping::default()
        };
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_string(),
                uid: format!("uid-{name}"),
                namespace: "default".to_string(),
                attempt: 1,
            }),
            hostname: name.to_string(),
            log_directory: "/run/podlogs".to_string(),
            port_mappings: ports.iter().map(mapping).collect(),
            linux: Some(LinuxPodSandboxConfig {}),
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let RunPodSandboxResponse { pod_sandbox_id: id } = self.call("RunPodSandbox", request)?;
        let request = PodSandboxRequest { pod_sandbox_id: id.clone() };
        let PodSandboxStatusResponse { status } = self.call("PodSandboxStatus", request)?;
        let network = status.and_then(|status| status.network);
        Ok(Pod { id, ip: network.map(|network| network.ip).unwrap_or_default(), config })
    }

    /// Starts a container of `image` in the pod: its id.
    pub fn run_container(&mut self, pod: &Pod, image: &str, command: &[&str]) -> anyhow::Result<String> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_string(), attempt: 1 }),
            image: Some(ImageSpec { image: image.to_string() }),
            command: command.iter().map(ToString::to_string).collect(),
            log_path: format!("{}.log", pod.id),
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let CreateContainerResponse { container_id } = self.call("CreateContainer", request)?;
        let request = StartContainerRequest { container_id: container_id.clone() };
        self.call::<_, Nothing>("StartContainer", request)?;
        Ok(container_id)
    }

    /// Runs a command in a container to its end, ten seconds at most.
    pub fn exec(&mut self, container: &str, command: &[&str]) -> anyhow::Result<Said> {
        let request = ExecSyncRequest {
            container_id: container.to_string(),
            cmd: command.iter().map(ToString::to_string).collect(),
            timeout: 10,
        };
        let ExecSyncResponse { stdout, stderr, exit_code } = self.call("ExecSync", request)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { code: exit_code, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Stops the pod's containers and takes its network away.
    pub fn stop_pod(&mut self, pod: &Pod) -> anyhow::Result<()> {
        self.call("StopPodSandbox", PodSandboxRequest { pod_sandbox_id: pod.id.clone() }).map(|Nothing {}| ())
    }

    /// Removes a stopped pod.
    pub fn remove_pod(&mut self, pod: &Pod) -> anyhow::Result<()> {
        self.call("RemovePodSandbox", PodSandboxRequest { pod_sandbox_id: pod.id.clone() })
            .map(|Nothing {}| ())
    }

    fn call<Q, A>(&mut self, method: &str, request: Q) -> anyhow::Result<A>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let path: PathAndQuery =
            format!("/runtime.v1.RuntimeService/{method}").parse().context("name a method")?;
        let client = &mut self.client;
        let answer = self.runtime.block_on(async {
            client.ready().await.context("wait for the connection")?;
            let request = tonic::Request::new(request);
            client.unary(request, path, ProstCodec::<Q, A>::default()).await.map_err(anyhow::Error::from)
        });
        Ok(answer.with_context(|| method.to_string())?.into_inner())
    }
}
