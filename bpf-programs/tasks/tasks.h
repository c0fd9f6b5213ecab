/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the task iterator and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_TASKS_H
#define GALEN_TASKS_H

#include <linux/types.h>

/* Longest stack, in frames. */
#define TASKS_MAX_FRAMES 64

enum tasks_flags {
	/* Of the head: `uninterruptible` is filled in. */
	TASKS_COUNTED = 1,
	/* Of a task: `waiting` is filled in. */
	TASKS_WAITING_KNOWN = 2,
	/* Of a task: it waits for IO, by the kernel's own reckoning. */
	TASKS_IOWAIT = 4,
};

/* What a task is doing, as far as it matters here. */
enum tasks_state {
	TASKS_RUNNING = 0,
	TASKS_SLEEPING = 1,
	/* Asleep, and no signal but a fatal one, or none at all, ends it; it counts for the load average. */
	TASKS_UNINTERRUPTIBLE = 2,
	/* By a signal or a tracer. */
	TASKS_STOPPED = 3,
	/* Dead, idle kernel threads, frozen ones: what no load average counts. */
	TASKS_OTHER = 4,
};

/* Comes first, once. */
struct tasks_head {
	/* Tasks in uninterruptible sleep, as the kernel counts them for its load average. */
	__s32 uninterruptible;
	__u32 flags;
};

/* A task, followed by `stack_bytes` of its kernel stack, the innermost frame first. */
struct tasks_task {
	/* Id (inode number) of its cgroup in the unified hierarchy. */
	__u64 unified;
	/* The same in the version 1 hierarchy of the cpu controller; 0 if there is none. */
	__u64 cpu;
	/* Nanoseconds since it last ran. */
	__u64 waiting;
	__u32 pid;
	__u32 tid;
	__u32 state;
	__u32 flags;
	/* 0, or the negative errno of the walk. */
	__s32 stack_error;
	__u32 stack_bytes;
	char comm[16];
};

#endif
