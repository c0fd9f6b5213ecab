/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the watch of file IO and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_FILE_IO_H
#define GALEN_FILE_IO_H

#include <linux/types.h>

#include "../include/inode_name.h"

/* File systems and disks watched at one time. */
#define FILE_IO_VOLUMES 1024
/* Pairs of process and file. */
#define FILE_IO_FILES 8192
/* System calls that are not over. */
#define FILE_IO_CALLS 8192

enum file_io_kind {
	FILE_IO_READ = 0,
	FILE_IO_WRITE = 1,
	/* fsync and its kin. */
	FILE_IO_SYNC = 2,
	FILE_IO_KINDS = 3,
};

/* Key of map `usage`. */
struct file_io_key {
	struct inode_id file;
	__u32 tgid;
	__u32 reserved;
};

/* Value of map `usage`: calls that ended well. */
struct file_io_usage {
	__u64 bytes[FILE_IO_KINDS];
	__u64 calls[FILE_IO_KINDS];
	/* Nanoseconds. */
	__u64 time[FILE_IO_KINDS];
	__u64 time_max[FILE_IO_KINDS];
	/* Whom the process is charged to. */
	__u64 cgroup;
	__u64 hierarchy;
	/* Of the process, not of the thread. */
	char comm[16];
};

/* Value of map `calls`, by thread. */
struct file_io_call {
	/* Nanoseconds since boot, sleep excluded. */
	__u64 begun;
	/* The file of each kind that the call is about; a device of 0 means none. */
	struct inode_id files[FILE_IO_KINDS];
	__u32 tgid;
	__u32 reserved;
};

/* Indexes of map `counts`. */
enum file_io_counts {
	/* Calls that have no place in `usage`. */
	FILE_IO_USAGE_FULL = 0,
	/* Calls that had no place in `calls`. */
	FILE_IO_CALLS_FULL = 1,
	FILE_IO_COUNTS = 2,
};

#endif
