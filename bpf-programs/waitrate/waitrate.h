/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the accounting of waits and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_WAITRATE_H
#define GALEN_WAITRATE_H

#include <linux/types.h>

/* Cgroups that can be told apart while the programs are attached; a power of two. */
#define WAITRATE_CGROUPS 2048
/* Slots beside those of cgroups: nobody ran, and all cgroups that found no slot. */
#define WAITRATE_IDLE WAITRATE_CGROUPS
#define WAITRATE_OTHERS (WAITRATE_CGROUPS + 1)
#define WAITRATE_SLOTS (WAITRATE_CGROUPS + 2)
/* Places for tasks that wait at one time, by the low bits of their number; a power of two. */
#define WAITRATE_TASKS 32768
/* Pairs of one who waited and one who held the CPU. */
#define WAITRATE_PAIRS 8192

/* Map `cells`: nanoseconds of one slot on one CPU since the programs were attached. */
struct waitrate_cell {
	/* Its tasks ran. */
	__u64 run;
	/* Its tasks waited while a task of the same cgroup held the CPU. */
	__u64 internal;
	/* ... while a task of another cgroup did; by whom is in map `pairs`. */
	__u64 external;
	/* ... because of its quota, or of one above it. */
	__u64 throttled;
	/* ... while the CPU was idle: it takes a moment to wake one up. */
	__u64 latency;
	/* ... longer ago than the CPU remembers who held it. */
	__u64 beyond;
	/* Waits that ended. */
	__u64 waits;
	/* CPU time that was lost: part of `external` in which each moment counts once, however many tasks waited in it. */
	__u64 external_cpu;
	/* The same of `throttled`. */
	__u64 throttled_cpu;
	/* The programs' own: up to when these two have been counted, by the clock of each. */
	__u64 external_until;
	__u64 throttled_until;
};

/* Key of map `pairs`: slots; the value is nanoseconds. */
struct waitrate_pair {
	__u32 victim;
	__u32 holder;
};

/* Map `lost`, for each CPU. */
struct waitrate_lost {
	/* Waits that were not counted, because another task that waited had their place. */
	__u64 tasks;
	/* Tasks that were switched to and whose cgroup found no slot. */
	__u64 cgroups;
	/* Parts of waits whose pair found no room. */
	__u64 pairs;
};

#endif
