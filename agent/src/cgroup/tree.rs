//! The cgroups of one hierarchy, kept current: inotify on the directories announces what comes and goes, so a tick in
//! which nothing changed costs one `read`.
//!
//! Where inotify is not to be had (its limits are per user), and after its queue overflowed, the tree is walked again:
//! every [`RESCAN_WITHOUT_INOTIFY`], or at once. At most `limit` cgroups are kept; what is over is not watched, and
//! counted in [`Tree::skipped`]. Directories that vanish while they are read are no error: that is what cgroups do.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::PathBuf,
    time::Duration,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use super::{directory, id, is_below};

const RESCAN_WITHOUT_INOTIFY: Duration = Duration::from_secs(5);
/// Deeper cgroups than this are not looked at: the kernel's own limit is higher, but nobody nests like that.
const MAX_DEPTH: usize = 24;
const READ_BUFFER: usize = 4096;
const WATCH: WatchFlags =
    WatchFlags::CREATE.union(WatchFlags::DELETE).union(WatchFlags::MOVE).union(WatchFlags::ONLYDIR);

/// What became of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added {
        path: String,
        id: u64,
        /// The last time at which it did not exist, by the caller's clock; `None` if it was there before the tree was
        /// first looked at.
        absent_at: Option<Duration>,
    },
    Removed {
        path: String,
        id: u64,
    },
}

/// The known cgroups of a hierarchy.
pub struct Tree {
    root: PathBuf,
    limit: usize,
    /// Whether the children of a cgroup are of interest.
    descend: Box<dyn Fn(&str) -> bool + Send>,
    inotify: Option<OwnedFd>,
    watches: HashMap<i32, String>,
    known: HashMap<String, u64>,
    polled: Option<Duration>,
    walked: Option<Duration>,
    skipped: u64,
}

impl Tree {
    /// Nothing is read before the first [`poll`](Self::poll).
    pub fn new(root: impl Into<PathBuf>, limit: usize, descend: impl Fn(&str) -> bool + Send + 'static) -> Self {
        Self {
            root: root.into(),
            limit,
            descend: Box::new(descend),
            inotify: None,
            watches: HashMap::new(),
            known: HashMap::new(),
            polled: None,
            walked: None,
            skipped: 0,
        }
    }

    /// What changed since the last poll; at first, all that there is. `now` by a clock that only rises.
    pub fn poll(&mut self, now: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        let walk = match self.inotify.take() {
            Some(inotify) => !self.read_events(inotify, &mut changes),
            None => self.walked.is_none_or(|last| now.saturating_sub(last) >= RESCAN_WITHOUT_INOTIFY),
        };
        if walk {
            self.walk_all(&mut changes);
            self.walked = Some(now);
        } else if self.inotify.is_none() {
            return changes;
        }
        self.polled = Some(now);
        changes
    }

    pub fn path_of(&self, id: u64) -> Option<&str> {
        self.known.iter().find(|(_, known)| **known == id).map(|(path, _)| path.as_str())
    }

    /// Cgroups that did not fit under the limit when the tree was last walked, and since.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Whether the announcements were complete; otherwise the tree has to be walked.
    fn read_events(&mut self, inotify: OwnedFd, changes: &mut Vec<Change>) -> bool {
        let mut buffer = [MaybeUninit::uninit(); READ_BUFFER];
        let mut reader = inotify::Reader::new(&inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) => return false,
            };
            let flags = event.events();
            // A move would leave watches under old paths: rare, so the tree is simply walked again.
            if flags.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO) {
                return false;
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.watches.remove(&event.wd());
                continue;
            }
            let (Some(parent), Some(name)) = (self.watches.get(&event.wd()), event.file_name()) else { continue };
            if !flags.contains(ReadFlags::ISDIR) {
                continue;
            }
            let path = child(parent, &name.to_string_lossy());
            if flags.contains(ReadFlags::DELETE) {
                self.remove(&path, changes);
            } else if flags.contains(ReadFlags::CREATE)
                && !self.walk(Some(&inotify), path, &mut HashSet::new(), changes)
            {
                return false;
            }
        }
        self.inotify = Some(inotify);
        true
    }

    /// Walks the whole tree, with new watches.
    fn walk_all(&mut self, changes: &mut Vec<Change>) {
        self.skipped = 0;
        self.watches.clear();
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        let mut seen = HashSet::new();
        let watched = self.walk(inotify.as_ref(), "/".into(), &mut seen, changes);
        self.inotify = inotify.filter(|_| watched);
        let gone: Vec<String> = self.known.keys().filter(|path| !seen.contains(*path)).cloned().collect();
        for path in gone {
            self.remove(&path, changes);
        }
    }

    /// Takes `path` and what is below it. A directory is watched before it is listed, so that nothing slips between.
    /// Whether all of them could be watched.
    fn walk(
        &mut self,
        inotify: Option<&OwnedFd>,
        path: String,
        seen: &mut HashSet<String>,
        changes: &mut Vec<Change>,
    ) -> bool {
        let mut complete = inotify.is_some();
        let mut pending = vec![path];
        while let Some(path) = pending.pop() {
            let Ok(id) = id(&directory(&self.root, &path)) else { continue };
            match self.known.get(&path) {
                Some(known) if *known == id => {}
                Some(_) => self.remove(&path, changes),
                None => {}
            }
            if !self.known.contains_key(&path) {
                if self.known.len() >= self.limit {
                    self.skipped += 1;
                    continue;
                }
                self.known.insert(path.clone(), id);
                changes.push(Change::Added { path: path.clone(), id, absent_at: self.polled });
            }
            seen.insert(path.clone());
            if !(self.descend)(&path) || path.matches('/').count() >= MAX_DEPTH {
                continue;
            }
            if let Some(inotify) = inotify {
                match inotify::add_watch(inotify, directory(&self.root, &path), WATCH) {
                    Ok(watch) => {
                        self.watches.insert(watch, path.clone());
                    }
                    Err(Errno::NOENT) => {}
                    Err(error) => {
                        tracing::debug!(%error, path, "cgroups are walked, because this one cannot be watched");
                        complete = false;
                    }
                }
            }
            pending.extend(children(&directory(&self.root, &path)).map(|name| child(&path, &name)));
        }
        complete
    }

    fn remove(&mut self, path: &str, changes: &mut Vec<Change>) {
        let gone: Vec<String> =
            self.known.keys().filter(|known| *known == path || is_below(known, path)).cloned().collect();
        for path in gone {
            if let Some(id) = self.known.remove(&path) {
                changes.push(Change::Removed { path, id });
            }
        }
    }
}

fn child(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

fn children(directory: &std::path::Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let is_directory = |entry: &fs::DirEntry| -> io::Result<bool> { Ok(entry.file_type()?.is_dir()) };
    entries
        .flatten()
        .filter(move |entry| is_directory(entry).unwrap_or(false))
        .filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn added(changes: &[Change]) -> Vec<(&str, Option<Duration>)> {
        let mut added: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Added { path, absent_at, .. } => Some((path.as_str(), *absent_at)),
                Change::Removed { .. } => None,
            })
            .collect();
        added.sort_unstable();
        added
    }

    fn removed(changes: &[Change]) -> Vec<&str> {
        let mut removed: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Removed { path, .. } => Some(path.as_str()),
                Change::Added { .. } => None,
            })
            .collect();
        removed.sort_unstable();
        removed
    }

    #[test]
    fn what_was_there_before_has_an_unknown_past_and_what_comes_later_a_known_one() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("old")).unwrap();
        let mut tree = Tree::new(root.path(), 100, |_| true);
        assert_eq!(added(&tree.poll(SECOND)), [("/", None), ("/old", None)]);
        assert_eq!(tree.poll(SECOND * 2), []);
        fs::create_dir_all(root.path().join("new/deep")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        let changes = tree.poll(SECOND * 3);
        assert_eq!(added(&changes), [("/new", Some(SECOND * 2)), ("/new/deep", Some(SECOND * 2))]);
        fs::create_dir(root.path().join("new/deep/er")).unwrap();
        assert_eq!(added(&tree.poll(SECOND * 4)), [("/new/deep/er", Some(SECOND * 3))]);
    }

    #[test]
    fn a_removed_cgroup_goes_with_all_below_it_and_may_come_back() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        let mut tree = Tree::new(root.path(), 100, |_| true);
        tree.poll(SECOND);
        fs::remove_dir_all(root.path().join("a")).unwrap();
        fs::create_dir_all(root.path().join("a")).unwrap();
        let changes = tree.poll(SECOND * 2);
        assert_eq!(removed(&changes), ["/a", "/a/b"]);
        assert_eq!(added(&changes), [("/a", Some(SECOND))]);
        assert_eq!(tree.path_of(id(&root.path().join("a")).unwrap()), Some("/a"));
    }

    #[test]
    fn a_renamed_cgroup_is_another_one() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        let mut tree = Tree::new(root.path(), 100, |_| true);
        tree.poll(SECOND);
        fs::rename(root.path().join("a"), root.path().join("c")).unwrap();
        let changes = tree.poll(SECOND * 2);
        assert_eq!(removed(&changes), ["/a", "/a/b"]);
        assert_eq!(added(&changes).iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["/c", "/c/b"]);
        fs::create_dir(root.path().join("c/b/d")).unwrap();
        assert_eq!(added(&tree.poll(SECOND * 3)), [("/c/b/d", Some(SECOND * 2))]);
    }

    #[test]
    fn children_of_no_interest_are_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("closed/inner")).unwrap();
        let mut tree = Tree::new(root.path(), 100, |path| path != "/closed");
        assert_eq!(added(&tree.poll(SECOND)), [("/", None), ("/closed", None)]);
        fs::create_dir(root.path().join("closed/later")).unwrap();
        assert_eq!(tree.poll(SECOND * 2), []);
    }

    #[test]
    fn what_is_over_the_limit_is_counted() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let mut tree = Tree::new(root.path(), 2, |_| true);
        assert_eq!(tree.poll(SECOND).len(), 2);
        assert_eq!(tree.skipped(), 2);
    }

    #[test]
    fn an_overflow_of_the_announcements_loses_no_cgroup() {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut tree = Tree::new(root.path(), 100_000, |path| path == "/");
        tree.poll(SECOND);
        let queue: usize =
            fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        for n in 0..queue / 2 + 100 {
            fs::create_dir(root.path().join(n.to_string())).unwrap();
            fs::remove_dir(root.path().join(n.to_string())).unwrap();
        }
        fs::create_dir(root.path().join("last")).unwrap();
        let changes = tree.poll(SECOND * 2);
        assert!(added(&changes).contains(&("/last", Some(SECOND))));
        assert!(tree.known.len() == 2);
    }
}
