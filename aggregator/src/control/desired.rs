//! What was asked of each node, and has to hold whenever it connects.
//!
//! One JSON file in the data directory, replaced as a whole at each change and durable before anybody is told. A file
//! that cannot be read is put aside and told, and begun anew: the fleet's events must not wait for it. Bounded in
//! entries of all nodes together; what would go beyond is refused.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use galen_proto::v1::{self, Hello, ReloadSettings, SetTracer, Setting, command};
use galen_runtime::atomic_file;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, task::spawn_blocking};

/// In the data directory.
pub const FILE: &str = "desired.json";
/// Tracers and settings of all nodes together.
const MAX_ENTRIES: usize = 100_000;

/// Why a change was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{MAX_ENTRIES} tracers and settings are kept for the nodes, as many as may be")]
    Full,
    #[error("failed to write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the write was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// What has to hold on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// Whether each runs.
    pub tracers: BTreeMap<String, bool>,
    /// Laid over the node's own settings, by dotted key.
    pub settings: BTreeMap<String, String>,
}

/// What has to hold on all nodes.
#[derive(Debug)]
pub struct Desired {
    path: PathBuf,
    nodes: RwLock<BTreeMap<String, Wanted>>,
    /// Changes are made one after the other.
    turn: Mutex<()>,
}

impl Desired {
    /// Reads what is kept in `dir`.
    ///
    /// # Errors
    /// A file that cannot be read cannot be put aside either.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let read = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let nodes = match read {
            Ok(nodes) => nodes,
            Err(error) => {
                let aside = path.with_extension("json.damaged");
                let (file, put_aside) = (path.display(), aside.display());
                tracing::error!(%file, %error, %put_aside, "what was asked of the nodes cannot be read: begun anew");
                fs::rename(&path, &aside)?;
                BTreeMap::new()
            }
        };
        Ok(Self { path, nodes: RwLock::new(nodes), turn: Mutex::default() })
    }

    pub fn of(&self, node: &str) -> Wanted {
        self.nodes.read().get(node).cloned().unwrap_or_default()
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// The disk refuses, or there is no room: nothing has changed then.
    pub async fn change(&self, node: &str, change: impl FnOnce(&mut Wanted)) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let before = self.nodes.read().clone();
        let mut nodes = before.clone();
        let wanted = nodes.entry(node.to_owned()).or_default();
        change(wanted);
        if *wanted == Wanted::default() {
            nodes.remove(node);
        }
        if nodes == before {
            return Ok(());
        }
        let entries = |nodes: &BTreeMap<String, Wanted>| -> usize {
            nodes.values().map(|wanted| wanted.tracers.len() + wanted.settings.len()).sum()
        };
        if entries(&nodes) > MAX_ENTRIES.max(entries(&before)) {
            return Err(Error::Full);
        }
        let path = self.path.clone();
        let written = spawn_blocking(move || {
            let done = serde_json::to_vec_pretty(&nodes).map_err(Into::into);
            let done = done.and_then(|text| atomic_file::write(&path, &text));
            done.map(|()| nodes).map_err(|source| Error::Write { path, source })
        });
        *self.nodes.write() = written.await??;
        Ok(())
    }
}

impl Wanted {
    /// What a node has to be told that says `hello`: all about its tracers, and of its settings what differs.
    pub fn commands(&self, hello: &Hello) -> Vec<command::Command> {
        let forgotten =
            hello.tracers.iter().filter(|tracer| tracer.overridden && !self.tracers.contains_key(&tracer.name));
        let forgotten = forgotten.map(|tracer| SetTracer { tracer: tracer.name.clone(), enabled: None });
        let tracers = self.set_tracers().chain(forgotten).map(command::Command::SetTracer);
        let laid: BTreeMap<String, String> =
            hello.settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect();
        let reload = (laid != self.settings)
            .then(|| command::Command::ReloadSettings(ReloadSettings { settings: settings(&self.settings) }));
        // Settings first: they may say what a tracer needs before it runs.
        reload.into_iter().chain(tracers).collect()
    }

    fn set_tracers(&self) -> impl Iterator<Item = SetTracer> {
        self.tracers.iter().map(|(tracer, enabled)| SetTracer { tracer: tracer.clone(), enabled: Some(*enabled) })
    }

    /// `None` if nothing is asked.
    pub fn told(&self) -> Option<v1::Desired> {
        let told = v1::Desired { tracers: self.set_tracers().collect(), settings: settings(&self.settings) };
        (*self != Self::default()).then_some(told)
    }
}

/// As the wire has them.
pub(super) fn settings(settings: &BTreeMap<String, String>) -> Vec<Setting> {
    settings.iter().map(|(key, value)| Setting { key: key.clone(), value: value.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use galen_proto::v1::TracerStatus;

    use super::*;

    fn no_oom(wanted: &mut Wanted) {
        wanted.tracers.insert("oom".into(), false);
    }

    #[tokio::test]
    async fn what_was_asked_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let desired = Desired::open(dir.path()).unwrap();
        desired.change("web-1", no_oom).await.unwrap();
        desired.change("web-2", |wanted| drop(wanted.settings.insert("a.b".into(), "5s".into()))).await.unwrap();
        desired.change("web-2", |wanted| wanted.settings.clear()).await.unwrap();
        let again = Desired::open(dir.path()).unwrap();
        assert_eq!(again.of("web-1").tracers, BTreeMap::from([("oom".into(), false)]));
        assert_eq!(again.nodes.read().len(), 1);
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"{ \"web-1\": ").unwrap();
        assert_eq!(Desired::open(dir.path()).unwrap().of("web-1"), Wanted::default());
        assert!(dir.path().join("desired.json.damaged").exists() && !dir.path().join(FILE).exists());
    }

    #[tokio::test]
    async fn a_disk_that_refuses_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let desired = Desired::open(dir.path()).unwrap();
        fs::remove_dir(dir.path()).unwrap();
        let refused = desired.change("web-1", no_oom).await;
        assert!(matches!(refused, Err(Error::Write { .. })), "{refused:?}");
        assert_eq!(desired.of("web-1"), Wanted::default());
        fs::create_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_node_is_told_what_holds_and_what_holds_no_more() {
        let wanted = Wanted { tracers: BTreeMap::from([("oom".into(), true)]), settings: BTreeMap::new() };
        let tracer = |name: &str| TracerStatus { name: name.into(), overridden: true, ..TracerStatus::default() };
        let laid = Setting { key: "log.filter".into(), value: "debug".into() };
        let hello = Hello { tracers: vec![tracer("oom"), tracer("cpuidle")], settings: vec![laid], ..Hello::default() };
        let set = |tracer: &str, enabled| command::Command::SetTracer(SetTracer { tracer: tracer.into(), enabled });
        let reload = command::Command::ReloadSettings(ReloadSettings::default());
        assert_eq!(wanted.commands(&hello), [reload, set("oom", Some(true)), set("cpuidle", None)]);
        assert_eq!(Wanted::default().commands(&Hello::default()), []);
    }
}
