use super::*;

const LIMITS: Limits = Limits { max_file_bytes: 100, max_files: 3, max_age: Duration::from_secs(3600) };

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort_unstable();
    names
}

fn rotated(dir: &Path) -> usize {
    names(dir).iter().filter(|name| name.starts_with(ROTATED_PREFIX)).count()
}

fn attachment(bytes: usize) -> Attachment {
    Attachment { name: "cpu.pb.gz".into(), content: vec![7; bytes].into(), ..Default::default() }
}

fn append(files: &mut Files, text: &[u8], now: Instant) -> Written {
    files.append("t", "run", text, &[], now)
}

fn set_age(path: &Path, age: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn a_file_is_rotated_before_it_grows_over_its_size_and_only_so_many_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut files = Files::new(root.path(), LIMITS);
    let line = [b'x'; 60];
    for _ in 0..10 {
        assert_eq!(append(&mut files, &line, Instant::now()), Written::Yes);
    }
    let dir = root.path().join("t");
    assert_eq!(rotated(&dir), LIMITS.max_files);
    assert_eq!(fs::metadata(dir.join(CURRENT)).unwrap().len(), 60);
    // A line that is larger than a file has one of its own.
    assert_eq!(append(&mut files, &[b'x'; 500], Instant::now()), Written::Yes);
    assert_eq!(fs::metadata(dir.join(CURRENT)).unwrap().len(), 500);
}

#[test]
fn what_is_too_old_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let mut files = Files::new(root.path(), LIMITS);
    let dir = root.path().join("t");
    files.append("t", "old", &[b'x'; 60], &[attachment(10)], Instant::now());
    append(&mut files, &[b'x'; 60], Instant::now());
    assert_eq!((rotated(&dir), names(&dir).len()), (1, 3));
    for name in names(&dir) {
        set_age(&dir.join(name), LIMITS.max_age * 2);
    }
    append(&mut files, b"x\n", Instant::now());
    assert_eq!(names(&dir), [CURRENT]);
}

#[test]
fn evidence_lies_beside_the_lines_and_is_bounded_in_all() {
    let root = tempfile::tempdir().unwrap();
    let mut files = Files::new(root.path(), LIMITS);
    let dir = root.path().join("t");
    for run in ["1", "2", "3", "4"] {
        assert_eq!(files.append("t", run, b"{}\n", &[attachment(100)], Instant::now()), Written::Yes);
    }
    // 300 bytes in all.
    let kept: Vec<_> = names(&dir).into_iter().filter(|name| name.ends_with("gz")).collect();
    assert_eq!(kept, ["2.cpu.pb.gz", "3.cpu.pb.gz", "4.cpu.pb.gz"]);
    assert_eq!(fs::read(dir.join("4.cpu.pb.gz")).unwrap(), vec![7; 100]);
}

#[test]
fn a_directory_that_cannot_be_made_disables_the_file_until_it_can() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().join("records");
    fs::write(&place, "in the way").unwrap();
    let mut files = Files::new(&place, LIMITS);
    let now = Instant::now();
    assert_eq!(append(&mut files, b"{}\n", now), Written::Failed);
    let until = files.disabled["t"].until;
    if until > now {
        assert_eq!(append(&mut files, b"{}\n", now), Written::Skipped);
    }
    fs::remove_file(&place).unwrap();
    assert_eq!(append(&mut files, b"{}\n", until), Written::Yes);
    assert!(files.disabled.is_empty());
    // Taken away while it is in use: made again.
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(append(&mut files, b"{}\n", until), Written::Yes);
}

#[test]
fn a_full_disk_leaves_whole_lines_and_writing_goes_on_when_there_is_room() {
    let Some(disk) = galen_scratch::Tmpfs::mount(1 << 20) else { return };
    let limits = Limits { max_file_bytes: 64 << 20, ..LIMITS };
    let mut files = Files::new(disk.path(), limits);
    let mut line = vec![b'x'; 10_000];
    line.push(b'\n');
    let mut now = Instant::now();
    let mut written = 0;
    while append(&mut files, &line, now) == Written::Yes {
        written += 1;
        assert!(written < 1000, "a disk of 1 MiB does not fill up");
    }
    let current = disk.path().join("t").join(CURRENT);
    let length = || usize::try_from(fs::metadata(&current).unwrap().len()).unwrap();
    assert!(written > 50);
    assert_eq!(length(), written * line.len(), "half of a line was left");

    // Evidence that does not fit leaves no half of itself, and its line is not written.
    now = files.disabled["t"].until;
    assert_eq!(files.append("t", "big", b"{}\n", &[attachment(2 << 20)], now), Written::Failed);
    assert!(!names(&disk.path().join("t")).iter().any(|name| name.starts_with("big")));
    assert_eq!(length(), written * line.len());

    File::options().write(true).open(&current).unwrap().set_len(0).unwrap();
    now = files.disabled["t"].until;
    assert_eq!(append(&mut files, &line, now), Written::Yes);
    assert_eq!(length(), line.len());
}
