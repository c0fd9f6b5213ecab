/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the watch of block requests and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_BLOCK_IO_H
#define GALEN_BLOCK_IO_H

#include <linux/types.h>

/* Disks watched at one time. */
#define BLOCK_IO_DISKS 64
/* Pairs of process and cgroup. */
#define BLOCK_IO_USERS 4096
/* Requests on their way. */
#define BLOCK_IO_REQUESTS 16384
/* Slots of a histogram: slot n holds what took 2^n to 2^(n+1) microseconds, the first also what took less. */
#define BLOCK_IO_SLOTS 32

enum block_io_direction {
	BLOCK_IO_READ = 0,
	BLOCK_IO_WRITE = 1,
	/* Discards, flushes, commands. */
	BLOCK_IO_OTHER = 2,
	BLOCK_IO_DIRECTIONS = 3,
};

enum block_io_phase {
	/* From its making to the driver. */
	BLOCK_IO_QUEUED = 0,
	/* From the driver to its end. */
	BLOCK_IO_DEVICE = 1,
	/* Both. */
	BLOCK_IO_TOTAL = 2,
	BLOCK_IO_PHASES = 3,
};

enum block_io_user_flags {
	/* A thread of the kernel: what it does it does for others. */
	BLOCK_IO_KERNEL_THREAD = 1,
};

/* Value of map `disks`, whose key is the kernel's number of a disk: where its requests are first seen. */
enum block_io_beginning {
	BLOCK_IO_BEGINS_MADE = 1,
	BLOCK_IO_BEGINS_ISSUED = 2,
};

/* Key of map `users`. */
struct block_io_user {
	/* Id (inode number) of the cgroup that the request is charged to; 0 for the machine itself. */
	__u64 cgroup;
	/* enum owner_hierarchy. */
	__u32 hierarchy;
	/* The process that made the request; 0 when not known. */
	__u32 tgid;
};

/* Value of map `users`: requests that ended. */
struct block_io_usage {
	__u64 bytes[BLOCK_IO_DIRECTIONS];
	__u64 requests[BLOCK_IO_DIRECTIONS];
	/* Nanoseconds. */
	__u64 queued[BLOCK_IO_DIRECTIONS];
	__u64 device[BLOCK_IO_DIRECTIONS];
	__u64 queued_max[BLOCK_IO_DIRECTIONS];
	__u64 device_max[BLOCK_IO_DIRECTIONS];
	__u64 errors;
	__u64 flags;
	/* Of the process, not of the thread. */
	char comm[16];
};

/* Value of map `flights`, by the address of the request. */
struct block_io_flight {
	/* Nanoseconds since boot, sleep excluded; `issued` is 0 until the driver has it. */
	__u64 made;
	__u64 issued;
	__u64 bytes;
	struct block_io_user user;
	__u64 direction;
	__u64 flags;
	char comm[16];
};

/* Indexes of map `counts`. */
enum block_io_counts {
	/* Requests that ended and have no place in `users`. */
	BLOCK_IO_USERS_FULL = 0,
	/* Requests that had no place in `flights`. */
	BLOCK_IO_FLIGHTS_FULL = 1,
	/* Requests that ended and had begun before the watch. */
	BLOCK_IO_BEGUN_BEFORE = 2,
	BLOCK_IO_COUNTS = 3,
};

#endif
