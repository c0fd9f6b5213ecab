//! Sockets of container runtimes that are anything but a container runtime's.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use galen_agent::containers::{
    Containers, Metrics, Outcome, Raw, Settings,
    cri::api::{
        self,
        runtime_service_server::{RuntimeService, RuntimeServiceServer},
    },
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tempfile::TempDir;
use tonic::{Request, Response, Status};

use crate::support::hierarchies;

const ID: &str = "4f1c0a3b5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708";
const OTHER: &str = "ffffffffffffffff8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";
/// Of no container: nobody waits so long for anything but a fault.
const NEVER: Duration = Duration::from_secs(30);

/// What a connection meets.
type Peer = fn(UnixStream, &AtomicU64);

/// Takes connections, as long as the process lives.
struct Socket {
    dir: TempDir,
    /// Bytes that were taken from the peer.
    taken: Arc<AtomicU64>,
}

impl Socket {
    fn open(peer: Peer) -> Self {
        let (dir, taken) = (tempfile::tempdir().unwrap(), Arc::<AtomicU64>::default());
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let counter = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || peer(stream, &counter));
            }
        });
        Self { dir, taken }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("socket")
    }
}

/// Reads the question, such as it is, so that the answer is one.
fn hear(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0; 4096]);
}

fn say(mut stream: &UnixStream, text: &[u8], taken: &AtomicU64) -> bool {
    let said = stream.write_all(text).is_ok();
    taken.fetch_add(if said { text.len() as u64 } else { 0 }, Ordering::Relaxed);
    said
}

fn hangs(mut stream: UnixStream, _: &AtomicU64) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn hangs_up(_: UnixStream, _: &AtomicU64) {}

fn talks_garbage(mut stream: UnixStream, taken: &AtomicU64) {
    hear(&mut stream);
    let garbage: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    say(&stream, &garbage, taken);
}

fn never_ends_its_headers(mut stream: UnixStream, taken: &AtomicU64) {
    hear(&mut stream);
    say(&stream, b"HTTP/1.1 200 OK\r\n", taken);
    while say(&stream, &b"x: y\r\n".repeat(1000), taken) {}
}

fn never_ends_its_answer(mut stream: UnixStream, taken: &AtomicU64) {
    hear(&mut stream);
    say(&stream, b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n{\"Name\":\"", taken);
    while say(&stream, &[b'x'; 65536], taken) {}
}

fn answers(mut stream: UnixStream, status: &str, body: &str) {
    hear(&mut stream);
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
}

fn fails(stream: UnixStream, _: &AtomicU64) {
    answers(stream, "500 Internal Server Error", "{}");
}

fn tells_of_another(stream: UnixStream, _: &AtomicU64) {
    answers(stream, "200 OK", &format!(r#"{{"Id":"{OTHER}","Name":"/liar"}}"#));
}

fn tells_what_is_no_container(stream: UnixStream, _: &AtomicU64) {
    answers(stream, "200 OK", r#"{"Id":7,"Name":["liar"],"Config":"liar"}"#);
}

fn containers(docker: &Path, cri: &Path) -> Containers {
    let nowhere = PathBuf::from("/nonexistent/socket");
    let raw =
        Raw { docker_socket: docker.into(), cri_sockets: vec![cri.into()], podman_socket: nowhere, ..Raw::default() };
    Containers::shipped(&Settings::try_from(raw).unwrap(), &hierarchies(), Metrics::new().unwrap()).0
}

async fn is_told_by_its_path_alone(containers: &Containers, path: &str) {
    let container = tokio::time::timeout(NEVER, containers.resolve(path)).await.expect("the socket was waited for");
    assert_eq!((container.id.as_str(), container.name.as_str(), container.image.as_str()), (ID, ID, ""));
}

#[tokio::test]
async fn a_socket_that_fails_is_asked_once_and_then_left_alone() {
    let peers: [(&str, Peer); 8] = [
        ("hangs", hangs),
        ("hangs up", hangs_up),
        ("talks garbage", talks_garbage),
        ("never ends its headers", never_ends_its_headers),
        ("never ends its answer", never_ends_its_answer),
        ("fails", fails),
        ("tells of another", tells_of_another),
        ("tells what is no container", tells_what_is_no_container),
    ];
    for (what, peer) in peers {
        let socket = Socket::open(peer);
        let containers = containers(&socket.path(), &socket.path());
        for (runtime, path) in [("docker", format!("/docker/{ID}")), ("cri", format!("/kubepods/podx/crio-{ID}"))] {
            is_told_by_its_path_alone(&containers, &path).await;
            is_told_by_its_path_alone(&containers, &path).await;
            let asked = |outcome| containers.metrics().questions(runtime, outcome);
            assert_eq!((asked(Outcome::Failed), asked(Outcome::NotAsked)), (1, 1), "{runtime}: {what}");
            assert_eq!((asked(Outcome::Known), asked(Outcome::Unknown)), (0, 0), "{runtime}: {what}");
        }
        // What is over is not read: the limit, and what fits into the buffers of two sockets.
        assert!(
            socket.taken.load(Ordering::Relaxed) < 4 << 20,
            "{what}: {} bytes were taken",
            socket.taken.load(Ordering::Relaxed)
        );
    }
}

#[tokio::test]
async fn a_socket_that_vanishes_is_no_matter() {
    let socket = Socket::open(hangs_up);
    let containers = containers(&socket.path(), &socket.path());
    std::fs::remove_file(socket.path()).unwrap();
    for path in [format!("/docker/{ID}"), format!("/kubepods/podx/crio-{ID}")] {
        is_told_by_its_path_alone(&containers, &path).await;
    }
    for outcome in [Outcome::Known, Outcome::Unknown, Outcome::Failed, Outcome::NotAsked] {
        assert_eq!(
            (containers.metrics().questions("docker", outcome), containers.metrics().questions("cri", outcome)),
            (0, 0)
        );
    }
}

#[tokio::test]
async fn a_daemon_that_hangs_delays_nobody() {
    let socket = Socket::open(hangs);
    let containers = containers(&socket.path(), &socket.path());
    // Each waits for its deadline at most once: after the first, the daemon is left alone for a while.
    let all = async {
        for n in 0..100 {
            containers.resolve(&format!("/docker/{}{n:02}", &ID[..62])).await;
        }
    };
    tokio::time::timeout(NEVER, all).await.expect("a daemon that hangs was waited for");
}

/// A runtime whose answers are well formed.
#[derive(Clone, Copy)]
enum Liar {
    OfAnother,
    /// More than is read.
    Huge,
    /// More than is kept.
    Large,
}

#[tonic::async_trait]
impl RuntimeService for Liar {
    async fn list_containers(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        let asked = request.into_inner().filter.unwrap_or_default().id;
        let id = if matches!(self, Self::OfAnother) { OTHER.into() } else { asked };
        let labels = match self {
            Self::OfAnother => 1,
            Self::Large => 500,
            Self::Huge => 5000,
        };
        let container = api::Container {
            id,
            metadata: Some(api::ContainerMetadata { name: "liar".repeat(1000), attempt: 0 }),
            labels: (0..labels).map(|n| (format!("label-{n:04}"), "x".repeat(1000))).collect(),
            ..Default::default()
        };
        Ok(Response::new(api::ListContainersResponse { containers: vec![container] }))
    }

    async fn container_status(
        &self,
        _: Request<api::ContainerStatusRequest>,
    ) -> Result<Response<api::ContainerStatusResponse>, Status> {
        Ok(Response::new(api::ContainerStatusResponse::default()))
    }

    async fn list_pod_sandbox(
        &self,
        _: Request<api::ListPodSandboxRequest>,
    ) -> Result<Response<api::ListPodSandboxResponse>, Status> {
        let sandbox = api::PodSandbox { id: OTHER.into(), ..Default::default() };
        Ok(Response::new(api::ListPodSandboxResponse { items: vec![sandbox] }))
    }
}

impl Liar {
    async fn serve(self, socket: &Path) {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let mut all = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(RuntimeServiceServer::new(self));
            all.spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    /// What becomes known of a container that it is asked about.
    async fn tells(self) -> (galen_proto::v1::Container, Containers) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let containers = containers("/nonexistent".as_ref(), &socket);
        let asks = async {
            while !socket.exists() {
                tokio::task::yield_now().await;
            }
            containers.resolve(&format!("/kubepods/podx/crio-{ID}")).await
        };
        let container = tokio::select! {
            () = self.serve(&socket) => unreachable!("it serves without end"),
            container = asks => container,
        };
        (container, containers)
    }
}

#[tokio::test]
async fn an_answer_about_another_container_is_none() {
    let (container, containers) = Liar::OfAnother.tells().await;
    assert_eq!((container.name.as_str(), container.image.as_str()), (ID, ""));
    assert_eq!(containers.metrics().questions("cri", Outcome::Unknown), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_not_read() {
    let (container, containers) = Liar::Huge.tells().await;
    assert_eq!(container.name, ID);
    assert_eq!(containers.metrics().questions("cri", Outcome::Failed), 1);
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let (container, containers) = Liar::Large.tells().await;
    assert_eq!(container.name.len(), 1 << 10);
    // The first by name, the pod's uid from the path beside them.
    assert!(container.labels.contains_key("label-0000"));
    assert_eq!(container.labels["io.kubernetes.pod.uid"], "x");
    assert_eq!(container.labels.len(), 9);
    assert_eq!(containers.metrics().questions("cri", Outcome::Known), 1);
}
