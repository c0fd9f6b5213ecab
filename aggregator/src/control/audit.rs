//! Who changed what: two lines for each call, the question before anything is done and the answer after.
//!
//! `who` is the name of the user, `by` what it rests on (`token`, `certificate`, or `loopback` where nobody is asked who
//! they are, and the name is `local`), `role` what the user may do, and `address` where the call came from.
//!
//! `audit.jsonl` in the data directory holds one JSON object a line, `asked` is the same in both lines of a call, and
//! `outcome` is in the second only. A line is on disk before the call goes on. At [`MAX_BYTES`] the file becomes
//! `audit.1.jsonl`, in the place of the one before, so that both together are bounded. The log has every line, too.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use galen_runtime::access::Role;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::task::spawn_blocking;

use crate::access::By;

/// In the data directory.
const FILE: &str = "audit.jsonl";
const EARLIER: &str = "audit.1.jsonl";
const MAX_BYTES: u64 = 8 << 20;

/// Who asked.
#[derive(Debug, Clone, Serialize)]
pub struct Who {
    #[serde(rename = "who")]
    pub name: String,
    pub by: By,
    pub role: Role,
    pub address: String,
}

/// One call.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When, as RFC 3339 in UTC.
    asked: String,
    #[serde(flatten)]
    who: Who,
    call: &'static str,
    node: String,
    /// The rest of the request.
    request: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

impl Entry {
    pub(super) fn new(who: Who, call: &'static str, node: &str, request: Value) -> Self {
        let asked = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        Self { asked, who, call, node: node.into(), request, outcome: None, detail: String::new() }
    }

    pub(super) fn answered(self, outcome: &'static str, detail: String) -> Self {
        Self { outcome: Some(outcome), detail, ..self }
    }
}

/// The audit log.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Files>);

#[derive(Debug)]
struct Files {
    path: PathBuf,
    earlier: PathBuf,
    /// One line after the other.
    turn: Mutex<()>,
}

impl Audit {
    pub fn new(dir: &Path) -> Self {
        Self(Arc::new(Files { path: dir.join(FILE), earlier: dir.join(EARLIER), turn: Mutex::default() }))
    }

    /// # Errors
    /// The disk refuses.
    pub(super) async fn write(&self, entry: Entry) -> io::Result<()> {
        let Entry { who: Who { name: who, by, role, address }, call, node, request, outcome, detail, .. } = &entry;
        tracing::info!(target: "galen_aggregator::audit", who, ?by, %role, address, call, node, %request, outcome, detail, "control");
        let files = Arc::clone(&self.0);
        spawn_blocking(move || files.append(&entry)).await.map_err(io::Error::other)?
    }
}

impl Files {
    fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let _turn = self.turn.lock();
        if fs::metadata(&self.path).is_ok_and(|file| file.len() + line.len() as u64 > MAX_BYTES) {
            fs::rename(&self.path, &self.earlier)?;
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(&line)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Who {
        Who { name: "ada".into(), by: By::Token, role: Role::Operate, address: "127.0.0.1:5".into() }
    }

    #[tokio::test]
    async fn both_lines_of_a_call_are_there_and_the_files_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::new(dir.path());
        let entry = Entry::new(ada(), "set_tracer", "web-1", serde_json::json!({ "tracer": "oom" }));
        audit.write(entry.clone()).await.unwrap();
        audit.write(entry.answered("done", "disabled".into())).await.unwrap();
        let lines = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["who"], &lines[0]["request"]["tracer"]), (&"ada".into(), &"oom".into()));
        let told = ["by", "role", "address"].map(|key| lines[1][key].as_str().unwrap());
        assert_eq!(told, ["token", "operate", "127.0.0.1:5"]);
        assert_eq!((&lines[0]["asked"], &lines[0]["outcome"]), (&lines[1]["asked"], &Value::Null));
        assert_eq!((&lines[1]["outcome"], &lines[1]["detail"]), (&"done".into(), &"disabled".into()));

        let long = Entry::new(ada(), "reload_settings", "web-1", Value::String("x".repeat(3 << 20)));
        for _ in 0..6 {
            audit.write(long.clone()).await.unwrap();
        }
        let bytes: u64 = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 2 * MAX_BYTES, "{bytes}");
    }
}
