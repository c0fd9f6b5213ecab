//! What a runtime that serves Kubernetes knows, through the Container Runtime Interface (CRI), version 1, on its unix
//! socket: containerd, CRI-O, cri-dockerd.
//!
//! A question has a connection of its own: it is asked once in a container's life. A container's own labels name it,
//! the labels of its sandbox are those of the pod. What comes back is not trusted: messages and headers are limited in
//! size, and an answer about another id is no answer.

use std::{collections::HashMap, path::Path};

use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use self::api::runtime_service_client::RuntimeServiceClient;
use super::{Claim, Description, MAX_ANSWER};

/// The messages and the client, generated from `api.proto`.
#[allow(unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod api {
    tonic::include_proto!("runtime.v1");
}

/// Label that the kubelet puts on every sandbox and container.
pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
/// Name of a pod's sandbox among its containers, by the custom of Kubernetes; one that no container may bear.
pub(super) const SANDBOX: &str = "POD";
const MAX_HEADERS: u32 = 64 << 10;

/// Why a runtime did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("a call failed")]
    Call(#[from] Status),
}

type Client = RuntimeServiceClient<Channel>;

/// What the runtime behind `socket` knows of a container, a sandbox, or if the claim has no id, a pod.
pub(super) async fn describe(socket: &Path, claim: Claim<'_>) -> Result<Option<Description>, Error> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).map_err(Error::Connect)?;
    let channel = endpoint.http2_max_header_list_size(MAX_HEADERS).connect().await.map_err(Error::Connect)?;
    let mut client = RuntimeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let described = match claim.id {
        "" => pod(&mut client, &claim.uid()).await?,
        id => match container(&mut client, id).await? {
            None => sandbox(&mut client, id).await?,
            described => described,
        },
    };
    let Some(mut description) = described else { return Ok(None) };
    if claim.runtime.is_empty() {
        let version = client.version(api::VersionRequest::default()).await?;
        description.runtime = version.into_inner().runtime_name;
    }
    Ok(Some(description))
}

async fn container(client: &mut Client, id: &str) -> Result<Option<Description>, Status> {
    let filter = api::ContainerFilter { id: id.into() };
    let listed = client.list_containers(api::ListContainersRequest { filter: Some(filter) }).await?.into_inner();
    let Some(container) = listed.containers.into_iter().find(|container| container.id == id) else { return Ok(None) };
    let status = client.container_status(api::ContainerStatusRequest { container_id: id.into() }).await;
    let status = match status {
        Ok(response) => response.into_inner().status.filter(|status| status.id == id),
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(status),
    };
    let sandbox = match container.pod_sandbox_id.as_str() {
        "" => None,
        id => sandbox(client, id).await?,
    };
    let mut description = sandbox.unwrap_or_default();
    description.name = container.metadata.unwrap_or_default().name;
    // The list has what the kubelet asked for, which is an id; the status has the name that it belongs to.
    description.image = status.and_then(|status| image(status.image)).or(image(container.image)).unwrap_or_default();
    description.labels.extend(container.labels);
    Ok(Some(description))
}

async fn sandbox(client: &mut Client, id: &str) -> Result<Option<Description>, Status> {
    let filter = api::PodSandboxFilter { id: id.into(), ..Default::default() };
    let listed = client.list_pod_sandbox(api::ListPodSandboxRequest { filter: Some(filter) }).await?.into_inner();
    Ok(listed.items.into_iter().find(|sandbox| sandbox.id == id).map(|sandbox| of_sandbox(sandbox, SANDBOX)))
}

async fn pod(client: &mut Client, uid: &str) -> Result<Option<Description>, Status> {
    let label_selector = HashMap::from([(POD_UID.to_owned(), uid.to_owned())]);
    let filter = api::PodSandboxFilter { label_selector, ..Default::default() };
    let listed = client.list_pod_sandbox(api::ListPodSandboxRequest { filter: Some(filter) }).await?.into_inner();
    let of_pod = |sandbox: &api::PodSandbox| sandbox.metadata.as_ref().is_some_and(|metadata| metadata.uid == uid);
    let sandbox = listed.items.into_iter().find(of_pod);
    Ok(sandbox.map(|sandbox| {
        let name = sandbox.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        of_sandbox(sandbox, &name)
    }))
}

fn of_sandbox(sandbox: api::PodSandbox, name: &str) -> Description {
    let metadata = sandbox.metadata.unwrap_or_default();
    Description {
        name: name.into(),
        pod: metadata.name,
        namespace: metadata.namespace,
        labels: sandbox.labels,
        ..Default::default()
    }
}

fn image(image: Option<api::ImageSpec>) -> Option<String> {
    let image = image?;
    [image.user_specified_image, image.image].into_iter().find(|name| !name.is_empty())
}
