//! Real system calls on real files, seen by the program. They need root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use galen_bpf::{
    Inode, InodeName,
    file_io::{Kind, Lost, Usage, Watch},
};
use support::{Cgroup, Disk, Mount, kernel, packed};

const BYTES: u64 = 4 << 20;

fn watch(device: u32) -> Watch {
    let mut watch = Watch::attach(&kernel()).unwrap_or_else(|error| panic!("{error:?}"));
    watch.add_volume(device).unwrap();
    watch
}

fn usage_of(watch: &Watch, pid: u32) -> Usage {
    let all = watch.usage();
    *all.iter().find(|usage| usage.pid == pid).unwrap_or_else(|| panic!("{all:?}"))
}

fn names(watch: &mut Watch) -> Vec<InodeName> {
    std::iter::from_fn(|| watch.next_name()).map(Result::unwrap).collect()
}

fn path_of(names: &[InodeName], file: Inode) -> &str {
    &names.iter().find(|name| name.inode == file).unwrap_or_else(|| panic!("{file:?} is not among {names:?}")).path
}

/// Writes with a sync, and reads, a file on the file system of `directory`.
fn files_are_counted(directory: &Path) {
    fs::create_dir_all(directory.join("a/b")).unwrap();
    let path = directory.join("a/b/file");
    let mut watch = watch(packed(fs::metadata(directory).unwrap().dev()));
    let cgroup = Cgroup::create();
    let writer = cgroup.run(&format!("exec dd if=/dev/zero of={} bs=64k count=64 conv=fsync", path.display()));
    let reader = cgroup.run(&format!("exec dd if={} of=/dev/null bs=32k", path.display()));

    let written = usage_of(&watch, writer);
    assert_eq!((written.totals(Kind::Write).bytes, written.totals(Kind::Write).calls), (BYTES, 64));
    assert_eq!((written.totals(Kind::Sync).calls, written.totals(Kind::Read).calls), (1, 0));
    assert!(written.totals(Kind::Write).time >= written.totals(Kind::Write).time_max);
    assert_eq!((written.owner, written.comm.text()), (Some(cgroup.owner()), "dd".into()));
    assert_eq!(written.file.number, fs::metadata(&path).unwrap().ino());
    let read = usage_of(&watch, reader);
    // The last of the calls finds the end.
    assert_eq!((read.totals(Kind::Read).bytes, read.totals(Kind::Read).calls), (BYTES, 129));
    let names = names(&mut watch);
    assert!(path_of(&names, written.file).ends_with("/a/b/file"), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.inode == written.file).count(), 1);
    assert_eq!(watch.lost(), Lost::default());
}

#[test]
fn what_is_read_and_written_is_counted_to_the_byte_with_the_path_of_the_file() {
    let mount = Mount::create(64 << 20);
    files_are_counted(mount.path.path());
}

#[test]
fn a_file_system_of_another_kind_is_counted_as_well() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    files_are_counted(memory.path());
}

#[test]
fn a_disk_that_is_written_as_a_file_is_counted() {
    let (disk, cgroup) = (Disk::create(BYTES), Cgroup::create());
    let mut watch = watch(disk.number());
    let pid = cgroup.run(&format!("exec dd if=/dev/zero of={} bs=1M count=4 oflag=direct", disk.path()));
    let usage = usage_of(&watch, pid);
    assert_eq!(usage.totals(Kind::Write).bytes, BYTES);
    assert!(usage.file.is_disk);
    assert_eq!(format!("/dev{}", path_of(&names(&mut watch), usage.file)), disk.path());
}

#[test]
fn a_copy_in_the_kernel_is_a_read_of_one_file_and_a_write_of_the_other() {
    let mount = Mount::create(64 << 20);
    let root = mount.path.path();
    fs::write(root.join("from"), vec![1; BYTES as usize]).unwrap();
    let watch = watch(packed(fs::metadata(root).unwrap().dev()));
    // The standard library copies by copy_file_range, sendfile or splice.
    fs::copy(root.join("from"), root.join("to")).unwrap();
    let bytes = |file: &str, kind| {
        let inode = fs::metadata(root.join(file)).unwrap().ino();
        let of_file = watch.usage().into_iter().filter(|usage| usage.file.number == inode);
        of_file.map(|usage| usage.totals(kind).bytes).sum::<u64>()
    };
    assert_eq!((bytes("from", Kind::Read), bytes("to", Kind::Write)), (BYTES, BYTES));
}
