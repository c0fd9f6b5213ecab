/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the OOM watch and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_OOM_H
#define GALEN_OOM_H

#include <linux/types.h>

enum oom_flags {
	/* The fields of the victim below `tgid` are filled in: the kernel handed over the task, not only its number. */
	OOM_VICTIM_KNOWN = 1,
	/* The memory counters are filled in. */
	OOM_MEMORY_KNOWN = 2,
	/* The memory cgroup is one of the unified hierarchy. */
	OOM_UNIFIED = 4,
};

/* A record of the ring `kills`. */
struct oom_kill {
	/* Nanoseconds since boot, sleep included. */
	__u64 time;
	/* Id (inode number) of the victim's memory cgroup; 0 when not known. */
	__u64 victim_memcg;
	/* The same of the task that ran out of memory. */
	__u64 trigger_memcg;
	__u64 anon_kb;
	__u64 file_kb;
	__u64 shmem_kb;
	__u64 swap_kb;
	__u64 page_tables_kb;
	__u64 virtual_kb;
	__u32 flags;
	/* The victim: its thread group and the thread that was picked (0 when not known). */
	__u32 tgid;
	__u32 tid;
	__u32 uid;
	__s32 oom_score_adj;
	/* The task that ran out of memory and called the killer. */
	__u32 trigger_tgid;
	__u32 trigger_tid;
	__u32 reserved;
	char comm[16];
	char trigger_comm[16];
};

#endif
