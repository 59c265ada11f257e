//! The container runtime interface of Kubernetes and containerd's own services, as far as names go: calls over gRPC on a Unix socket, with
//! the few fields of their messages that are read.

use std::{collections::HashMap, path::Path};

use prost::Message;
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::facts::container::Names;

/// `namespace/pod` by sandbox, as kubectl shows them. The sandbox's id is what plugins get.
pub(super) async fn pods(socket: &Path) -> Result<Names, String> {
    let mut client = connect(socket).await?;
    let method = "/runtime.v1.RuntimeService/ListPodSandbox";
    let Pods { items } = call(&mut client, method, Everything {}, None).await?;
    let named = items.into_iter().filter_map(|Pod { id, metadata }| {
        let PodMetadata { name, namespace } = metadata?;
        Some((id, format!("{namespace}/{name}")))
    });
    Ok(named.collect())
}

/// In every namespace of containerd, by the label that nerdctl sets.
pub(super) async fn made_by_nerdctl(socket: &Path) -> Result<Names, String> {
    let mut client = connect(socket).await?;
    let method = "/containerd.services.namespaces.v1.Namespaces/List";
    let Namespaces { namespaces } = call(&mut client, method, Everything {}, None).await?;
    let mut names = Names::new();
    for Namespace { name: namespace } in namespaces {
        let method = "/containerd.services.containers.v1.Containers/List";
        let listed = call(&mut client, method, Everything {}, Some(&namespace)).await?;
        let Containers { containers } = listed;
        for Container { id, labels } in containers {
            if let Some(name) = labels.get("nerdctl/name") {
                // libcni's id under nerdctl has its namespace before it.
                names.insert(format!("{namespace}-{id}"), name.clone());
                names.insert(id, name.clone());
            }
        }
    }
    Ok(names)
}

async fn connect(socket: &Path) -> Result<Grpc<Channel>, String> {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()));
    let endpoint = endpoint.map_err(|err| err.to_string())?;
    Ok(Grpc::new(endpoint.connect().await.map_err(|err| err.to_string())?))
}

/// containerd wants to know in which of its namespaces.
async fn call<A: Message + Default + Send + Sync + 'static>(
    client: &mut Grpc<Channel>,
    method: &'static str,
    request: Everything,
    namespace: Option<&str>,
) -> Result<A, String> {
    client.ready().await.map_err(|err| err.to_string())?;
    let mut request = tonic::Request::new(request);
    if let Some(namespace) = namespace.and_then(|name| name.parse().ok()) {
        request.metadata_mut().insert("containerd-namespace", namespace);
    }
    let codec = ProstCodec::<Everything, A>::default();
    let answer = client.unary(request, PathAndQuery::from_static(method), codec).await;
    Ok(answer.map_err(|status| status.to_string())?.into_inner())
}

/// All list requests, without their filters.
#[derive(Clone, PartialEq, Message)]
struct Everything {}

/// `ListPodSandboxResponse` of k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
#[derive(Clone, PartialEq, Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Pod>,
}

/// `PodSandbox`.
#[derive(Clone, PartialEq, Message)]
struct Pod {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodMetadata>,
}

/// `PodSandboxMetadata`.
#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// `ListNamespacesResponse` of containerd, api/services/namespaces/v1/namespace.proto.
#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

/// `ListContainersResponse` of containerd, api/services/containers/v1/containers.proto.
#[derive(Clone, PartialEq, Message)]
struct Containers {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
}
