/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the flight recorder and its reader say to each other. Native byte order; nothing here has padding. */
#ifndef GALEN_FLIGHT_H
#define GALEN_FLIGHT_H

#include "../cpu_profile/cpu_profile.h"

/* Longest stacks, in frames, and most runs; see struct cpu_profile_run. Of the kernel's, some eight are the tick's. */
#define FLIGHT_KERNEL_FRAMES 64
#define FLIGHT_USER_FRAMES 96
#define FLIGHT_RUNS 12
/* Size of the largest record. */
#define FLIGHT_MAX_RECORD                                                                                             \
	(sizeof(struct cpu_profile_sample) + 8 * (FLIGHT_KERNEL_FRAMES + FLIGHT_USER_FRAMES) +                        \
	 FLIGHT_RUNS * sizeof(struct cpu_profile_run))
/*
 * The segments of a CPU: 704 KiB, enough for 29 s of the largest records at 12.5 a second, less the segment that is
 * being overwritten.
 */
#define FLIGHT_SEGMENT_BYTES 32768
#define FLIGHT_SEGMENTS 22

/*
 * A value of map `segments`; those of CPU c are c * FLIGHT_SEGMENTS and on. Records of a struct cpu_profile_sample
 * each, one after the other from the begin. The oldest segment is emptied when a new one is needed.
 */
struct flight_segment {
	/* Counts the segments of the CPU; the place is this modulo FLIGHT_SEGMENTS. */
	__u64 sequence;
	/* Time of the last record. */
	__u64 last;
	/* Bytes in use. Grows after the record is written. */
	__u64 used;
	__u8 records[FLIGHT_SEGMENT_BYTES];
};

/* A value of map `cpus`, by the number of the CPU. */
struct flight_cpu {
	/* That of the newest segment. A segment FLIGHT_SEGMENTS behind it is being overwritten. */
	__u64 sequence;
	/* Time of the last record that was overwritten; 0: none was. */
	__u64 forgotten;
	/* Ticks that found a task running. */
	__u64 ticks;
	/* Samples that were written. */
	__u64 samples;
};

/* A value of map `ancestries`, by cgroup and hierarchy: the cgroup itself, its parent, and so on; 0 behind the root. */
struct flight_ancestry {
	__u64 ids[CPU_PROFILE_MAX_DEPTH];
};

/* A record of the ring `news`: a program image that was sampled for the first time, or again after a while. */
struct flight_image {
	__u64 address_space;
	__u64 tgid;
};

#endif
