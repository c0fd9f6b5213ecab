/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Makes the record of a sample of the task that runs on this CPU. Whoever includes it defines WALK_KERNEL_FRAMES,
 * WALK_USER_FRAMES and WALK_RUNS, the most that a record holds; what is beyond is cut from the outer end.
 *
 * User frames come from the kernel with the build id of their file, so that they can be named when the process is gone.
 * Frames of one file follow each other, so the id is kept once for a run of them: 8 bytes a frame in place of 32.
 */
#ifndef GALEN_WALK_H
#define GALEN_WALK_H

#include "kernel.h"
#include "../cpu_profile/cpu_profile.h"

#define WALK_KERNEL_BYTES (WALK_KERNEL_FRAMES * sizeof(__u64))
#define WALK_USER_BYTES (WALK_USER_FRAMES * sizeof(__u64))
#define WALK_RUN_BYTES (WALK_RUNS * sizeof(struct cpu_profile_run))

struct walked {
	struct cpu_profile_sample sample;
	__u8 stacks[WALK_KERNEL_BYTES + WALK_USER_BYTES + WALK_RUN_BYTES];
};

struct walk {
	struct walked record;
	struct bpf_stack_build_id found[WALK_USER_FRAMES];
	__u64 frames[WALK_USER_FRAMES];
	struct cpu_profile_run runs[WALK_RUNS];
	__u32 kept;
	__u32 run_count;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

/* Calls visit(cgroup, enum cpu_profile_hierarchy) for each hierarchy that tells CPU time apart. */
#define FOR_EACH_HIERARCHY(task, visit)                                                                               \
	do {                                                                                                          \
		struct css_set *set = BPF_CORE_READ(task, cgroups);                                                   \
		struct cgroup *unified = BPF_CORE_READ(set, dfl_cgrp), *other;                                        \
		struct cgroup_root *unified_root = BPF_CORE_READ(unified, root), *cpu_root = NULL, *other_root;       \
                                                                                                                      \
		visit(unified, CPU_PROFILE_UNIFIED);                                                                  \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, cpu_cgrp_id)) {                                 \
			other = cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id));              \
			cpu_root = BPF_CORE_READ(other, root);                                                        \
			if (cpu_root != unified_root)                                                                 \
				visit(other, CPU_PROFILE_CPU);                                                        \
		}                                                                                                     \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, cpuacct_cgrp_id)) {                             \
			other = cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, cpuacct_cgrp_id));          \
			other_root = BPF_CORE_READ(other, root);                                                      \
			if (other_root != unified_root && other_root != cpu_root)                                     \
				visit(other, CPU_PROFILE_CPUACCT);                                                    \
		}                                                                                                     \
	} while (0)

/* What tells two ids apart, without a branch for each word. */
static __always_inline __u32 differ(const void *one, const void *other)
{
	const __u32 *a = one, *b = other;

	return (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]);
}

/*
 * Takes one of `found` into `frames` and `runs`; 0 if there is no room for it. A global function: the verifier looks at
 * it once, in place of once for each call and each way through the calls before, which is twenty times the work.
 */
__noinline int keep_frame(__u32 frame)
{
	struct bpf_stack_build_id *found;
	__u32 zero = 0, run;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);

	if (!walk || frame >= WALK_USER_FRAMES)
		return 0;
	/* The id of one without a file, or whose file has none, is all zeros. */
	found = &walk->found[frame];
	/* If there is none yet, this is over the bound. Compared after the subtraction, as 5.10 forgets what it knew before. */
	run = walk->run_count - 1;
	if (run >= WALK_RUNS || differ(walk->runs[run].build_id, found->build_id)) {
		run = walk->run_count;
		if (run >= WALK_RUNS)
			return 0;
		__builtin_memcpy(walk->runs[run].build_id, found->build_id, CPU_PROFILE_BUILD_ID);
		walk->runs[run].frames = 0;
		walk->run_count = run + 1;
	}
	walk->runs[run].frames++;
	/* `ip` is in the same place. */
	walk->frames[frame] = found->offset;
	walk->kept = frame + 1;
	return 1;
}

/* From `found` to `frames` and `runs`. */
static __always_inline void run_lengths(struct walk *walk, __u32 count)
{
	walk->kept = 0;
	walk->run_count = 0;
#pragma clang loop unroll(disable)
	for (__u32 frame = 0; frame < WALK_USER_FRAMES && frame < count; frame++)
		if (!keep_frame(frame))
			break;
}

/*
 * Fills `walk->record` with all but `slots` and `cgroups`; how many bytes of it are in use. `ctx` is that of the
 * program.
 */
static __always_inline __u32 walk_current(void *ctx, struct walk *walk, struct task_struct *task)
{
	struct cpu_profile_sample *sample = &walk->record.sample;
	__u64 ids = bpf_get_current_pid_tgid();
	__u64 kernel_bytes = 0, user_bytes = 0, run_bytes = 0;
	long length;

	sample->time = bpf_ktime_get_boot_ns();
	sample->address_space = (__u64)BPF_CORE_READ(task, mm);
	sample->tgid = ids >> 32;
	sample->tid = ids;
	sample->kernel_error = 0;
	sample->user_error = 0;
	bpf_get_current_comm(sample->comm, sizeof(sample->comm));

	length = bpf_get_stack(ctx, walk->record.stacks, WALK_KERNEL_BYTES, 0);
	if (length < 0)
		sample->kernel_error = length;
	else if (length <= WALK_KERNEL_BYTES)
		kernel_bytes = length;
	if (sample->address_space) {
		length = bpf_get_stack(ctx, walk->found, sizeof(walk->found), BPF_F_USER_STACK | BPF_F_USER_BUILD_ID);
		if (length < 0) {
			sample->user_error = length;
		} else {
			run_lengths(walk, length / sizeof(walk->found[0]));
			run_bytes = (__u64)walk->run_count * sizeof(struct cpu_profile_run);
			user_bytes = (__u64)walk->kept * sizeof(__u64);
		}
	}
	sample->kernel_bytes = kernel_bytes;
	sample->user_bytes = user_bytes;
	sample->run_bytes = run_bytes;
	if (kernel_bytes > WALK_KERNEL_BYTES || user_bytes > WALK_USER_BYTES || run_bytes > WALK_RUN_BYTES)
		return 0;
	bpf_probe_read_kernel(walk->record.stacks + kernel_bytes, user_bytes, walk->frames);
	bpf_probe_read_kernel(walk->record.stacks + kernel_bytes + user_bytes, run_bytes, walk->runs);
	return sizeof(*sample) + kernel_bytes + user_bytes + run_bytes;
}

#endif
