//! Crashes and damage: nothing is indexed twice, and nothing is left out.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use galen_proto::v1::Event;
use galen_specimen::{NOW, event, record};
use proptest::prelude::*;

use crate::{
    Error, Store, Writer,
    testing::{DAY, found, settings},
};

/// What the log holds: event `n` has offset `n` and sequence number `n + 1`, and belongs to one of three days.
fn log(events: u64) -> Vec<Event> {
    (0..events).map(|n| event("a", NOW + DAY * ((n * 7 % 3) as i64 - 1), &format!("{{\"n\":{n}}}"))).collect()
}

/// Feeds the writer from where it stands, `batch` events to a commit.
fn feed(writer: &mut Writer, log: &[Event], batch: usize) -> Result<(), Error> {
    while (writer.next() as usize) < log.len() {
        let from = writer.next() as usize;
        let to = (from + batch).min(log.len());
        writer.add(from as u64, &record(from as u64 + 1, &log[from..to]))?;
        writer.commit()?;
    }
    Ok(())
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn files(dir: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_crash_between_the_commits_of_a_round_repeats_and_loses_nothing() {
    for commits in 0..9 {
        let dir = tempfile::tempdir().unwrap();
        let log = log(24);
        let store = Store::open(settings(&dir)).unwrap();
        let mut writer = store.writer(24).unwrap();
        writer.commits_before_fault = Some(commits);
        assert!(matches!(feed(&mut writer, &log, 8), Err(Error::Injected)));
        drop((writer, store));

        let store = Store::open(settings(&dir)).unwrap();
        let mut writer = store.writer(24).unwrap();
        feed(&mut writer, &log, 8).unwrap();
        assert_eq!(found(&store, ""), (1..=24).collect::<Vec<_>>(), "after {commits} commits");
    }
}

#[test]
fn a_writer_that_failed_can_be_replaced_while_the_store_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(24);
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(24).unwrap();
    writer.commits_before_fault = Some(4);
    assert!(feed(&mut writer, &log, 8).is_err());
    drop(writer);
    let deadline = Instant::now() + Duration::from_secs(60);
    // On a busy machine the threads of the one before take a while to let go of their index.
    while let Err(error) = feed(&mut store.writer(24).unwrap(), &log, 8) {
        assert!(Instant::now() < deadline, "{error:?}");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(found(&store, ""), (1..=24).collect::<Vec<_>>());
}

#[test]
fn a_damaged_index_is_put_aside_and_built_again_from_the_log() {
    for extension in ["store", "fast", "idx", "term", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let log = log(30);
        let store = Store::open(settings(&dir)).unwrap();
        let mut writer = store.writer(30).unwrap();
        feed(&mut writer, &log, 10).unwrap();
        drop((writer, store));
        // The index of the newest events: the others are not read in full.
        let days = dir.path().join("store/days");
        let files = files(&days, extension);
        let file = files.iter().rfind(|path| !path.ends_with(".managed.json")).unwrap();
        flip(file);

        let store = Store::open(settings(&dir)).unwrap();
        assert_eq!(store.stats().damaged, 1, "{}", file.display());
        let aside = fs::read_dir(dir.path().join("store/aside")).unwrap().next().unwrap().unwrap().path();
        assert!(fs::read_to_string(aside.join("reason")).unwrap().contains("damaged"));
        assert!(found(&store, "").len() < 30);
        // A crash in the middle of the repair.
        let mut writer = store.writer(30).unwrap();
        assert_eq!(writer.next(), 0);
        writer.commits_before_fault = Some(1);
        assert!(feed(&mut writer, &log, 10).is_err());
        drop((writer, store));
        let store = Store::open(settings(&dir)).unwrap();
        let mut writer = store.writer(30).unwrap();
        feed(&mut writer, &log, 10).unwrap();
        assert_eq!(found(&store, ""), (1..=30).collect::<Vec<_>>(), "{extension}");
        drop((writer, store));
        let store = Store::open(settings(&dir)).unwrap();
        assert_eq!(store.writer(30).unwrap().next(), 30);
    }
}

#[test]
fn damage_that_a_search_meets_fails_that_search_alone_and_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(60);
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(60).unwrap();
    feed(&mut writer, &log, 60).unwrap();
    // After a clean stop nothing is read in full.
    writer.close_clean().unwrap();
    drop(store);
    let stores = files(&dir.path().join("store/days"), "store");
    let mut bytes = fs::read(&stores[0]).unwrap();
    let length = bytes.len();
    bytes[length / 8..length / 2].fill(0xff);
    fs::write(&stores[0], bytes).unwrap();

    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(60).unwrap();
    let everything = crate::Query::parse("", NOW).unwrap();
    let search = || store.search(&crate::Search::newest(&everything, 1000));
    assert_eq!(search().unwrap_err().class(), crate::Class::Internal);
    assert_eq!(store.stats().suspect, 1);
    assert_eq!(search().unwrap().total, 40);
    assert!(matches!(writer.retain(NOW), Err(Error::Damaged { .. })));
    drop(writer);
    let mut writer = store.writer(60).unwrap();
    feed(&mut writer, &log, 10).unwrap();
    assert_eq!(search().unwrap().total, 60);
    assert_eq!((store.stats().damaged, store.stats().suspect), (1, 0));
    writer.retain(NOW).unwrap();
}

#[test]
fn a_clean_stop_is_not_verified_and_an_unclean_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(3);
    let store = Store::open(settings(&dir)).unwrap();
    let mut writer = store.writer(3).unwrap();
    feed(&mut writer, &log, 3).unwrap();
    writer.close_clean().unwrap();
    drop(store);
    assert!(dir.path().join("store/clean").exists());
    let store = Store::open(settings(&dir)).unwrap();
    assert!(!dir.path().join("store/clean").exists());
    assert_eq!(found(&store, ""), [1, 2, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_series_of_crashes_indexes_every_event_once(
        faults in prop::collection::vec((0_u32..8, 1_usize..12), 0..6),
        drop_oldest in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let log = log(40);
        for (commits, batch) in faults {
            let store = Store::open(settings(&dir)).unwrap();
            let mut writer = store.writer(40).unwrap();
            writer.commits_before_fault = Some(commits);
            let _ = feed(&mut writer, &log, batch);
        }
        let store = Store::open(settings(&dir)).unwrap();
        let mut writer = store.writer(40).unwrap();
        feed(&mut writer, &log, 7).unwrap();
        prop_assert_eq!(found(&store, ""), (1..=40).collect::<Vec<_>>());
        if drop_oldest {
            // The day that is dropped does not come back, and the others stay as they are.
            writer.retain(NOW + 7 * DAY).unwrap();
            drop((writer, store));
            let store = Store::open(settings(&dir)).unwrap();
            let mut writer = store.writer(40).unwrap();
            feed(&mut writer, &log, 7).unwrap();
            let kept: Vec<u64> = (0..40).filter(|n| n * 7 % 3 != 0).map(|n| n + 1).collect();
            prop_assert_eq!(found(&store, ""), kept);
        }
    }
}

/// Set in the child that is killed: the directory of its store.
const CHILD: &str = "GALEN_STORE_TEST_CHILD";

/// Runs as the child of the test below; by itself it has nothing to do.
#[test]
fn child_that_indexes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let log = log(4000);
    let settings = crate::Settings { dir: dir.into(), ..settings(&tempfile::tempdir().unwrap()) };
    let store = Store::open(settings).unwrap();
    let _ = feed(&mut store.writer(4000).unwrap(), &log, 5);
}

#[test]
fn a_kill_at_any_moment_repeats_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(&dir);
    let mut reached = 0;
    for round in 1..=6 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash_tests::child_that_indexes_until_it_is_killed"])
            .env(CHILD, &settings.dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Killed somewhere behind the next few commits: their number is what differs, not the time.
        let days = settings.dir.join("days");
        let began = std::time::Instant::now();
        let metas = || {
            if days.exists() {
                files(&days, "json").iter().filter_map(|path| fs::read(path).ok()).collect()
            } else {
                Vec::new()
            }
        };
        let (mut seen, mut changes) = (metas(), 0);
        while changes < round * 3 && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed().as_secs() < 60, "the child indexes nothing");
            let now = metas();
            changes += u32::from(now != seen);
            seen = now;
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let store = Store::open(settings.clone()).unwrap();
        assert_eq!(store.stats().damaged, 0);
        let next = store.writer(4000).unwrap().next();
        assert!(next >= reached, "{next} < {reached}");
        reached = next;
    }
    assert!(reached > 0);
    let log = log(reached + 50);
    let store = Store::open(settings).unwrap();
    let mut writer = store.writer(log.len() as u64).unwrap();
    feed(&mut writer, &log, 50).unwrap();
    let query = crate::Query::parse("", NOW).unwrap();
    let count_by = ["offset".to_owned()];
    let mut after = None;
    let mut offsets = Vec::new();
    loop {
        let search = crate::Search {
            order: crate::Order::Logged,
            after,
            count_by: &count_by,
            ..crate::Search::newest(&query, 1000)
        };
        let found = store.search(&search).unwrap();
        assert_eq!(found.total, log.len() as u64);
        offsets.extend(found.hits.iter().map(|hit| hit.offset));
        match found.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(offsets, (0..log.len() as u64).collect::<Vec<_>>());
}
