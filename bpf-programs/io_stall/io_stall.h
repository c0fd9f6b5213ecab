/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the watch of tasks that wait for IO and its reader say to each other. Native byte order; nothing has padding. */
#ifndef GALEN_IO_STALL_H
#define GALEN_IO_STALL_H

#include <linux/types.h>

/* Longest stack, in frames. */
#define IO_STALL_FRAMES 64
/* Places for stacks: many more than there are stacks, as two that fall on one place lose one. */
#define IO_STALL_STACKS 8192
/* Pairs of process and stack. */
#define IO_STALL_WAITERS 4096
/* Tasks that wait. */
#define IO_STALL_WAITING 16384

/* Key of map `waiters`. */
struct io_stall_key {
	__u32 tgid;
	/* Key of map `stacks`, or a negative errno. */
	__s32 stack;
};

/* Value of map `waiters`: waits that ended. */
struct io_stall_waiter {
	__u64 waits;
	/* Nanoseconds. */
	__u64 time;
	__u64 time_max;
	/* Whom the process is charged to. */
	__u64 cgroup;
	__u64 hierarchy;
	/* Of the process, not of the thread. */
	char comm[16];
};

/* Value of map `waiting`, by thread; and a record of the ring `stalls`, of a wait that ended and was long. */
struct io_stall {
	/* Nanoseconds since boot, sleep included. */
	__u64 begun;
	/* Nanoseconds; 0 while it waits. */
	__u64 took;
	__u64 cgroup;
	__u64 hierarchy;
	struct io_stall_key key;
	__u32 tid;
	__u32 reserved;
	/* Of the process, and of the thread. */
	char comm[16];
	char thread[16];
};

/* Indexes of map `counts`. */
enum io_stall_counts {
	/* Waits that have no place in `waiters`. */
	IO_STALL_WAITERS_FULL = 0,
	/* Waits that had no place in `waiting`. */
	IO_STALL_WAITING_FULL = 1,
	/* Stalls that found the ring full. */
	IO_STALL_RING_FULL = 2,
	/* Stacks that had no place, or that could not be walked. */
	IO_STALL_NO_STACK = 3,
	IO_STALL_COUNTS = 4,
};

#endif
