// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Samples what runs on each CPU, always, into segments that it overwrites: whoever wants the last seconds reads them.
 *
 * It hangs on the timer tick, every `ticks` of them that find a task running. A CPU that is idle has no tick, so this
 * wakes nobody; a busy one has it anyway. Each CPU writes its own segments, with interrupts off, so there is no lock.
 *
 * A new program image is announced in the ring `news`, which wakes nobody either.
 */
#include "flight.h"

#define WALK_KERNEL_FRAMES FLIGHT_KERNEL_FRAMES
#define WALK_USER_FRAMES FLIGHT_USER_FRAMES
#define WALK_RUNS FLIGHT_RUNS
#include "../include/walk.h"

/* How often an image that goes on is announced, in nanoseconds: libraries may have come to it. */
#define ANNOUNCE_AGAIN 20000000000ull

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading: the process that reads, never sampled. */
const volatile __u32 own_tgid = 0;
/* Set before loading: what the timer of the tick calls. */
const volatile __u64 tick_function = 0;
/* Set before loading: ticks to a sample. */
const volatile __u32 ticks = 1;

/* Set before loading: FLIGHT_SEGMENTS for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FLIGHT_SEGMENTS);
	__type(key, __u32);
	__type(value, struct flight_segment);
} segments SEC(".maps");

/* Set before loading: one for each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flight_cpu);
} cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct cpu_profile_target);
	__type(value, struct flight_ancestry);
} ancestries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct flight_image);
	/* When it was announced. */
	__type(value, __u64);
} images SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} news SEC(".maps");

static __always_inline __u64 remember(struct cgroup *cgroup, __u64 hierarchy)
{
	struct cpu_profile_target key = { .cgroup = BPF_CORE_READ(cgroup, kn, id), .hierarchy = hierarchy };
	struct flight_ancestry ancestry = {};

	if (!key.cgroup || bpf_map_lookup_elem(&ancestries, &key))
		return key.cgroup;
	for (int depth = 0; depth < CPU_PROFILE_MAX_DEPTH && cgroup; depth++) {
		ancestry.ids[depth] = BPF_CORE_READ(cgroup, kn, id);
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	bpf_map_update_elem(&ancestries, &key, &ancestry, BPF_ANY);
	return key.cgroup;
}

static __always_inline void announce(const struct cpu_profile_sample *sample)
{
	struct flight_image image = { .address_space = sample->address_space, .tgid = sample->tgid };
	__u64 now = sample->time, *announced;

	if (!image.address_space)
		return;
	announced = bpf_map_lookup_elem(&images, &image);
	if (announced && now - *announced < ANNOUNCE_AGAIN)
		return;
	/* One that finds no room comes again with the next sample. */
	if (!bpf_ringbuf_output(&news, &image, sizeof(image), BPF_RB_NO_WAKEUP))
		bpf_map_update_elem(&images, &image, &now, BPF_ANY);
}

/* The segment for another record, empty if need be. */
static __always_inline struct flight_segment *segment_of(struct flight_cpu *cpu, __u32 number)
{
	__u32 key = number * FLIGHT_SEGMENTS + cpu->sequence % FLIGHT_SEGMENTS;
	struct flight_segment *segment = bpf_map_lookup_elem(&segments, &key);

	if (!segment || segment->used <= FLIGHT_SEGMENT_BYTES - FLIGHT_MAX_RECORD)
		return segment;
	/* First of all: by this the reader knows that what it read of the segment is not whole. */
	cpu->sequence++;
	key = number * FLIGHT_SEGMENTS + cpu->sequence % FLIGHT_SEGMENTS;
	segment = bpf_map_lookup_elem(&segments, &key);
	if (!segment)
		return NULL;
	cpu->forgotten = segment->last;
	segment->used = 0;
	segment->sequence = cpu->sequence;
	return segment;
}

SEC("tp_btf/hrtimer_expire_entry")
int BPF_PROG(record_tick, struct hrtimer *timer)
{
	__u64 ids, used;
	__u32 number, bytes, zero = 0;
	struct flight_segment *segment;
	struct task_struct *task;
	struct flight_cpu *cpu;
	struct walk *walk;

	if ((__u64)timer->function != tick_function)
		return 0;
	ids = bpf_get_current_pid_tgid();
	if ((__u32)ids == 0)
		return 0;
	number = bpf_get_smp_processor_id();
	cpu = bpf_map_lookup_elem(&cpus, &number);
	walk = bpf_map_lookup_elem(&walks, &zero);
	if (!cpu || !walk)
		return 0;
	if (++cpu->ticks % ticks || ids >> 32 == own_tgid)
		return 0;

	task = (struct task_struct *)bpf_get_current_task();
	__builtin_memset(walk->record.sample.cgroups, 0, sizeof(walk->record.sample.cgroups));
	walk->record.sample.slots = 0;
#define VISIT(cgroup, hierarchy) walk->record.sample.cgroups[hierarchy] = remember(cgroup, hierarchy)
	FOR_EACH_HIERARCHY(task, VISIT);
	bytes = walk_current(ctx, walk, task);
	segment = segment_of(cpu, number);
	if (!segment)
		return 0;
	used = segment->used;
	if (bytes > FLIGHT_MAX_RECORD || used > FLIGHT_SEGMENT_BYTES - FLIGHT_MAX_RECORD)
		return 0;
	bpf_probe_read_kernel(segment->records + used, bytes, &walk->record);
	segment->last = walk->record.sample.time;
	barrier();
	segment->used = used + bytes;
	cpu->samples++;
	announce(&walk->record.sample);
	return 0;
}
