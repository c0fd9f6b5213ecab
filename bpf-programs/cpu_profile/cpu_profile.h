/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the CPU profiler and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_CPU_PROFILE_H
#define GALEN_CPU_PROFILE_H

#include <linux/types.h>

/* Longest stack of either side, in frames: what perf walks by default. */
#define CPU_PROFILE_MAX_FRAMES 127
/* Captures that can run at one time: each owns a bit of `slots`. */
#define CPU_PROFILE_SLOTS 16
/* Cgroups looked at on the way from a task's own to the root. */
#define CPU_PROFILE_MAX_DEPTH 16
/* Cgroups that captures can name at one time. */
#define CPU_PROFILE_TARGETS 1024
/* Bytes of the build id that the linker puts into a file (SHA-1); a shorter one is filled with zeros. */
#define CPU_PROFILE_BUILD_ID 20

/* Inode numbers of cgroups are given per hierarchy, so an id means nothing without it. */
enum cpu_profile_hierarchy {
	CPU_PROFILE_UNIFIED = 0,
	CPU_PROFILE_CPU = 1,
	CPU_PROFILE_CPUACCT = 2,
	CPU_PROFILE_HIERARCHIES = 3,
};

/* Key of map `targets`; the value is the bits of the slots that want this cgroup with all below it. */
struct cpu_profile_target {
	__u64 cgroup;
	__u64 hierarchy;
};

/*
 * A record of the ring `samples`: this header, then kernel_bytes of kernel frames, user_bytes of user frames, and
 * run_bytes of runs. A frame is a __u64, the innermost first: of the kernel an address, of the program what its run
 * says.
 */
struct cpu_profile_sample {
	/* Nanoseconds since boot, sleep included. */
	__u64 time;
	/* Bits of the slots that the sample belongs to; 0 in the flight recorder. */
	__u64 slots;
	/* Tells one program image from the next in the same process; 0 in a kernel thread. Means nothing else. */
	__u64 address_space;
	/* Ids of the task's own cgroups by enum cpu_profile_hierarchy; 0 where version 1 has no hierarchy of its own. */
	__u64 cgroups[CPU_PROFILE_HIERARCHIES];
	__u32 tgid;
	__u32 tid;
	__u32 kernel_bytes;
	__u32 user_bytes;
	__u32 run_bytes;
	/* 0, or the negative errno of the walk of that side. */
	__s32 kernel_error;
	__s32 user_error;
	__u32 unused;
	char comm[16];
};

/* So many user frames, one after the other, are offsets in the file with this build id; all zeros: they are addresses. */
struct cpu_profile_run {
	__u8 build_id[CPU_PROFILE_BUILD_ID];
	__u32 frames;
};

/* Map `counts`: per slot and CPU, since the slot was zeroed by its owner. */
struct cpu_profile_counts {
	/* Samples that matched. */
	__u64 taken;
	/* Of these, not delivered since the ring was full. */
	__u64 ring_full;
};

/* The value of map `control`. */
struct cpu_profile_control {
	/* Changes with each series of captures, so that processes known to an earlier one are announced anew. */
	__u64 series;
	/* Bits of the slots that want every task of the machine. */
	__u64 host_slots;
};

#endif
