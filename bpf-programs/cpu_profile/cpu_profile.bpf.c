// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Samples what runs on a CPU: at each tick of a perf event, if the task is in a cgroup that a capture wants or in one
 * below it, its kernel and user stacks go to the ring.
 *
 * The reader sleeps until its own tick, and is woken early in two cases only: at the 1st, 2nd, 4th, 8th, … sample of a
 * program image, whose mappings must be read while it lives (and change most while it is young), or when the ring is
 * half full.
 */
#include "cpu_profile.h"

#define WALK_KERNEL_FRAMES CPU_PROFILE_MAX_FRAMES
#define WALK_USER_FRAMES CPU_PROFILE_MAX_FRAMES
#define WALK_RUNS 32
#include "../include/walk.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading: the process that drains the ring, never sampled. */
const volatile __u32 own_tgid = 0;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} samples SEC(".maps");

/* All of it in memory from the start: up to 6.0 a perf event may use no other. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CPU_PROFILE_TARGETS);
	__type(key, struct cpu_profile_target);
	__type(value, __u64);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CPU_PROFILE_SLOTS);
	__type(key, __u32);
	__type(value, struct cpu_profile_counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_profile_control);
} control SEC(".maps");

struct image {
	__u64 address_space;
	__u64 series;
	__u64 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct image);
	/* Samples so far. */
	__type(value, __u64);
} images SEC(".maps");

static __always_inline __u64 wanted_by(struct cgroup *cgroup, __u64 hierarchy)
{
	__u64 slots = 0;

	for (int depth = 0; depth < CPU_PROFILE_MAX_DEPTH && cgroup; depth++) {
		struct cpu_profile_target key = {
			.cgroup = BPF_CORE_READ(cgroup, kn, id),
			.hierarchy = hierarchy,
		};
		__u64 *found = bpf_map_lookup_elem(&targets, &key);

		if (found)
			slots |= *found;
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	return slots;
}

static __always_inline void count(__u64 slots, int delivered)
{
	for (__u32 slot = 0; slot < CPU_PROFILE_SLOTS; slot++) {
		__u32 key = slot;
		struct cpu_profile_counts *counted;

		if (!(slots & (1ull << slot)))
			continue;
		counted = bpf_map_lookup_elem(&counts, &key);
		if (!counted)
			continue;
		counted->taken++;
		if (!delivered)
			counted->ring_full++;
	}
}

static __always_inline __u64 wake_up(const struct cpu_profile_sample *sample)
{
	__u32 zero = 0;
	__u64 first = 1, *seen;
	struct cpu_profile_control *now = bpf_map_lookup_elem(&control, &zero);
	struct image image = {
		.address_space = sample->address_space,
		.series = now ? now->series : 0,
		.tgid = sample->tgid,
	};

	if (sample->address_space) {
		seen = bpf_map_lookup_elem(&images, &image);
		if (seen) {
			/* Threads of the image race here; what they miss the next tick finds. */
			(*seen)++;
			if (!(*seen & (*seen - 1)))
				return BPF_RB_FORCE_WAKEUP;
		} else {
			bpf_map_update_elem(&images, &image, &first, BPF_ANY);
			return BPF_RB_FORCE_WAKEUP;
		}
	}
	if (bpf_ringbuf_query(&samples, BPF_RB_AVAIL_DATA) > bpf_ringbuf_query(&samples, BPF_RB_RING_SIZE) / 2)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

SEC("perf_event")
int sample_cpu(void *ctx)
{
	__u64 ids = bpf_get_current_pid_tgid();
	struct cpu_profile_control *now;
	struct task_struct *task;
	struct walk *walk;
	__u32 zero = 0, bytes;
	__u64 slots;

	/* The event ticks on idle CPUs too. */
	if ((__u32)ids == 0 || ids >> 32 == own_tgid)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	walk = bpf_map_lookup_elem(&walks, &zero);
	now = bpf_map_lookup_elem(&control, &zero);
	if (!walk || !now)
		return 0;
	slots = now->host_slots;
	__builtin_memset(walk->record.sample.cgroups, 0, sizeof(walk->record.sample.cgroups));
#define VISIT(cgroup, hierarchy)                                                                                      \
	do {                                                                                                          \
		walk->record.sample.cgroups[hierarchy] = BPF_CORE_READ(cgroup, kn, id);                               \
		slots |= wanted_by(cgroup, hierarchy);                                                                \
	} while (0)
	FOR_EACH_HIERARCHY(task, VISIT);
	if (!slots)
		return 0;
	walk->record.sample.slots = slots;
	bytes = walk_current(ctx, walk, task);
	if (bytes < sizeof(walk->record.sample) || bytes > sizeof(walk->record))
		return 0;
	count(slots, !bpf_ringbuf_output(&samples, &walk->record, bytes, wake_up(&walk->record.sample)));
	return 0;
}
