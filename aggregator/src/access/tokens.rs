//! The file of tokens: a line for each, with who bears it and its SHA-256. Never a token itself.
//!
//! ```text
//! # name role sha256
//! grafana read 6b0d…
//! ada admin 91c4…
//! ```
//!
//! It is read at the start, and looked at every [`LOOK_EVERY`] and on SIGHUP. What it holds is taken as a whole: a file
//! that is missing or wrong changes nothing, is counted at each look, and told once. A token that is taken out of it is
//! good for nothing from then on. Whoever may write it makes users, so nobody but its owner may.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use galen_runtime::{
    Chain, OnEnd, Supervisor,
    access::{Entry, ParseEntryError, Token},
    signal::Hangups,
};
use parking_lot::RwLock;
use prometheus::IntCounter;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{By, User};

const LOOK_EVERY: Duration = Duration::from_secs(10);
const MAX_FILE: u64 = 1 << 20;
/// All of them are compared with what is shown.
const MAX_TOKENS: usize = 1000;
/// Others may not write it.
const WRITABLE: u32 = 0o022;

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("`access.tokens_file`: failed to read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`access.tokens_file`: `{}` may be written by others than its owner: `chmod go-w` it", path.display())]
    Writable { path: PathBuf },
    #[error("`access.tokens_file`: `{}` is larger than {MAX_FILE} bytes, or has more than {MAX_TOKENS} tokens", path.display())]
    TooLarge { path: PathBuf },
    #[error("`access.tokens_file`: `{}`, line {line}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        #[source]
        source: ParseEntryError,
    },
    #[error("`access.tokens_file`: `{}`, line {line}: the same token as in line {before}", path.display())]
    Twice { path: PathBuf, line: usize, before: usize },
}

/// Those that are good now.
pub(super) struct Tokens {
    path: PathBuf,
    entries: RwLock<Vec<Entry>>,
    errors: IntCounter,
}

impl Tokens {
    /// # Errors
    /// The file cannot be used.
    pub(super) fn load(path: PathBuf, errors: IntCounter) -> Result<Self, Error> {
        let entries = read(&path)?;
        if entries.is_empty() {
            tracing::warn!(file = %path.display(), "there is no token in the file of tokens: none lets anybody in");
        }
        Ok(Self { path, entries: RwLock::new(entries), errors })
    }

    /// Who bears it.
    pub(super) fn user(&self, token: &Token) -> Option<User> {
        let digest = token.digest();
        let entries = self.entries.read();
        // To the end, so that the time tells nothing about where it is.
        let found =
            entries.iter().fold(None, |found, entry| if entry.digest() == digest { Some(entry) } else { found });
        found.map(|entry| User { name: entry.name().to_owned(), role: entry.role(), by: By::Token })
    }

    /// Looks at the file, and takes what is new in it.
    fn look(&self) -> Result<(), Error> {
        let entries = read(&self.path).inspect_err(|_| self.errors.inc())?;
        if *self.entries.read() != entries {
            tracing::info!(tokens = entries.len(), file = %self.path.display(), "the file of tokens was read again");
            *self.entries.write() = entries;
        }
        Ok(())
    }

    /// Looks at the file as long as `supervisor` runs.
    pub(super) fn watch(self: &Arc<Self>, supervisor: &Supervisor) {
        let (tokens, stop) = (Arc::clone(self), supervisor.token());
        supervisor.spawn("tokens", OnEnd::Ignore, async move {
            tokens.keep(stop).await;
            Ok(())
        });
    }

    async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut hangups = Hangups::new();
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = hangups.next() => {}
                _ = ticks.tick() => {}
            }
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || this.look().map_err(|error| Chain(&error).to_string()));
            let text = looked.await.unwrap_or(Ok(())).err().unwrap_or_default();
            if !text.is_empty() && text != told {
                tracing::error!(error = text, "the new tokens were refused, those of before hold on");
            }
            told = text;
        }
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, Error> {
    let path = path.to_owned();
    let failed = |source| Error::Read { path: path.clone(), source };
    let mut file = fs::File::open(&path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & WRITABLE != 0 {
        return Err(Error::Writable { path });
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    let (mut entries, mut lines) = (Vec::new(), BTreeMap::new());
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let entry: Entry = text.parse().map_err(|source| Error::Line { path: path.clone(), line, source })?;
        if let Some(before) = lines.insert(entry.digest().to_string(), line) {
            return Err(Error::Twice { path, line, before });
        }
        entries.push(entry);
        if entries.len() > MAX_TOKENS {
            return Err(Error::TooLarge { path });
        }
    }
    if text.len() as u64 > MAX_FILE {
        return Err(Error::TooLarge { path });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use galen_runtime::access::Role;
    use tempfile::{TempDir, tempdir};

    use super::*;

    struct Scratch {
        dir: TempDir,
        token: Token,
    }

    impl Scratch {
        fn new() -> Self {
            Self { dir: tempdir().unwrap(), token: Token::random().unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("tokens")
        }

        fn line(&self, name: &str, role: Role) -> String {
            Entry::new(name, role, self.token.digest()).unwrap().to_string()
        }

        fn write(&self, text: &str, mode: u32) {
            fs::write(self.path(), text).unwrap();
            fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn load(&self) -> Result<Tokens, Error> {
            Tokens::load(self.path(), IntCounter::new("errors", "help").unwrap())
        }

        fn refused(&self, text: &str, mode: u32, says: &str) {
            self.write(text, mode);
            let error = self.load().err().unwrap();
            let error = Chain(&error).to_string();
            assert!(error.contains("access.tokens_file") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_token_is_its_bearers_until_it_is_taken_out_and_a_wrong_file_changes_nothing() {
        let scratch = Scratch::new();
        scratch.write(&format!("# name role sha256\n\n  {}\n", scratch.line("ada", Role::Operate)), 0o644);
        let tokens = scratch.load().unwrap();
        let ada = User { name: "ada".into(), role: Role::Operate, by: By::Token };
        assert_eq!(tokens.user(&scratch.token), Some(ada.clone()));
        assert_eq!(tokens.user(&Token::random().unwrap()), None);

        scratch.write("ada oper", 0o644);
        tokens.look().unwrap_err();
        fs::remove_file(scratch.path()).unwrap();
        tokens.look().unwrap_err();
        assert_eq!((tokens.user(&scratch.token), tokens.errors.get()), (Some(ada), 2));

        scratch.write(&scratch.line("ada", Role::Read), 0o600);
        tokens.look().unwrap();
        assert_eq!(tokens.user(&scratch.token).unwrap().role, Role::Read);
        scratch.write("", 0o600);
        tokens.look().unwrap();
        assert_eq!((tokens.user(&scratch.token), tokens.errors.get()), (None, 2));
    }

    #[test]
    fn what_is_wrong_with_the_file_is_said_with_its_line() {
        let scratch = Scratch::new();
        let (ada, bob) = (scratch.line("ada", Role::Read), scratch.line("bob", Role::Admin));
        assert!(scratch.load().is_err());
        scratch.refused(&ada, 0o664, "chmod go-w");
        scratch.refused(&ada, 0o602, "chmod go-w");
        scratch.refused(&format!("# one\n{}", ada.replace("read", "reader")), 0o600, "line 2: `reader` is not a role");
        scratch.refused(&format!("{ada}\n{bob}"), 0o600, "line 2: the same token as in line 1");
        scratch.refused(&format!("ada read {}", scratch.token.reveal()), 0o600, "line 1: this is a token itself");
        scratch.refused(&"#".repeat(MAX_FILE as usize + 1), 0o600, "larger than");
        scratch.refused("\u{0}", 0o600, "line 1");
    }
}
