// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Counts for each cgroup how long its tasks wait for a CPU, and who held it meanwhile.
 *
 * Each CPU remembers who held it lately: consecutive slices of one cgroup are one. A wait begins when a task is woken
 * or preempted, and ends when it gets the CPU or is moved to another. Of its length, what the run queue of its group
 * says it was throttled comes first, since a throttled task must queue again afterwards; the rest is laid over what
 * the CPU remembers, the newest first: held by the same cgroup (internal), by another (external), by nobody (latency).
 *
 * These sums grow with the number of tasks that wait at a time. Beside them, `external_cpu` counts the CPU time that was
 * lost: each moment once. It takes the larger of two parts of a wait, neither of which can have been counted before:
 * what lies after the end of the last external wait of the cgroup on this CPU, and, where it is known what had been
 * counted when the wait began, what the wait has more than was added since.
 *
 * All hooks run with interrupts off, on a CPU whose run queue is locked, and a task waits on one CPU at a time, so only
 * `pairs` is written from several. This is the cost of every context switch while attached: what happens mostly takes no
 * call, since each return costs as much as tens of instructions where the processor must not guess it. The maps on the
 * way are arrays, whose look-up is inlined, and the clock is the one that the scheduler has read already.
 */
#include <stdbool.h>

#include "../include/queues.h"
#include "waitrate.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Slices that a CPU remembers; a power of two. */
#define SLICES 64
/* Slots that are tried for a cgroup. */
#define PROBES 16
/* Inode number of a hierarchy's root. */
#define ROOT 1
#define UNKNOWN (~0ull)

/*
 * Changes with each time the programs are attached, so that what an earlier time left behind means nothing. It lies in
 * the upper half, and is never 0.
 */
__u64 generation = 0;

struct wait {
	/* Generation and number of the task; 0 is nobody. */
	__u64 tag;
	__u64 since;
	/* What the clock of throttled time showed. */
	__u64 throttled;
	/* `external_cpu` of its cgroup and CPU at the begin, or UNKNOWN. */
	__u64 external_cpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WAITRATE_TASKS);
	__type(key, __u32);
	__type(value, struct wait);
} waits SEC(".maps");

/* Ends where the slice after it begins. */
struct slice {
	__u64 begin;
	__u64 slot;
};

struct cpu {
	__u64 generation;
	/* The scheduler's own name of the cgroup that holds it; 0 is nobody's. */
	__u64 group;
	/* The last switch. */
	__u64 switched;
	/* Who holds the CPU, and since when. */
	__u64 begin;
	__u32 slot;
	/* Slices before that one, ever. */
	__u32 count;
	struct slice slices[SLICES];
};

/* As many as the machine has CPUs: set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu);
} cpus SEC(".maps");

/* Id of the cgroup that has a slot, or 0: a copy of `claims` that is quick to look up. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, WAITRATE_CGROUPS);
	__type(key, __u32);
	__type(value, __u64);
} ids SEC(".maps");

/* Slot to id of the cgroup. Only one CPU can make an entry, which settles who has a slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WAITRATE_CGROUPS);
	__type(key, __u32);
	__type(value, __u64);
} claims SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAITRATE_SLOTS);
	__type(key, __u32);
	__type(value, struct waitrate_cell);
} cells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WAITRATE_PAIRS);
	__type(key, struct waitrate_pair);
	__type(value, __u64);
} pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct waitrate_lost);
} lost SEC(".maps");

/* What is likely is laid out in a straight line. */
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#define LOSE(what)                                                          \
	({                                                                  \
		__u32 zero = 0;                                             \
		struct waitrate_lost *counted = bpf_map_lookup_elem(&lost, &zero); \
		if (counted)                                                \
			counted->what++;                                    \
	})

/*
 * Programs on BTF tracepoints follow the kernel's pointers directly, which costs next to nothing; raw tracepoints,
 * where these are refused, copy each field. `direct` is constant in each program.
 */
#define READ(direct, from, ...) ((direct) ? FOLLOW(from, __VA_ARGS__) : BPF_CORE_READ(from, __VA_ARGS__))
#define FOLLOW(...) ___apply(FOLLOW, ___narg(__VA_ARGS__))(__VA_ARGS__)
#define FOLLOW2(from, a) ((from)->a)
#define FOLLOW3(from, a, b) ((from)->a->b)
#define FOLLOW4(from, a, b, c) ((from)->a->b->c)
#define FOLLOW5(from, a, b, c, d) ((from)->a->b->c->d)

static __always_inline __u64 throttled_time(bool direct, struct cfs_rq *queue)
{
	struct cfs_rq___before_6_6 *older = (void *)queue;
	struct cfs_rq___before_5_19 *oldest = (void *)queue;

	if (bpf_core_field_exists(queue->throttled_clock_self_time))
		return READ(direct, queue, throttled_clock_self_time);
	if (bpf_core_field_exists(older->throttled_clock_pelt_time))
		return READ(direct, older, throttled_clock_pelt_time);
	if (bpf_core_field_exists(oldest->throttled_clock_task_time))
		return READ(direct, oldest, throttled_clock_task_time);
	return 0;
}

static __always_inline bool runnable(bool direct, struct task_struct *task)
{
	struct task_struct___before_5_14 *older = (void *)task;

	if (bpf_core_field_exists(task->__state))
		return !READ(direct, task, __state);
	return !READ(direct, older, state);
}

static __noinline __u32 claim(__u64 id, __u32 start)
{
	for (__u32 probe = 0; probe < PROBES; probe++) {
		__u32 slot = (start + probe) & (WAITRATE_CGROUPS - 1);
		__u64 *owner = bpf_map_lookup_elem(&ids, &slot);

		if (!owner)
			break;
		if (*owner == id)
			return slot;
		if (*owner)
			continue;
		if (!bpf_map_update_elem(&claims, &slot, &id, BPF_NOEXIST)) {
			*owner = id;
			return slot;
		}
		/* Another CPU was quicker. */
		owner = bpf_map_lookup_elem(&claims, &slot);
		if (owner && *owner == id)
			return slot;
	}
	LOSE(cgroups);
	return WAITRATE_OTHERS;
}

static __always_inline __u32 slot_of(bool direct, struct task_struct *task)
{
	__u64 id = READ(direct, task, sched_task_group, css.cgroup, kn, id);
	__u32 slot;
	__u64 *owner;

	/* Automatic groups have no cgroup: they lie in the root. */
	if (!id)
		id = ROOT;
	slot = (id * 0x9e3779b97f4a7c15ull) >> 53;
	_Static_assert(1 << (64 - 53) == WAITRATE_CGROUPS, "the hash gives a slot");
	owner = bpf_map_lookup_elem(&ids, &slot);
	if (owner && *owner == id)
		return slot;
	return claim(id, slot);
}

static __always_inline struct wait *place_of(__u32 pid)
{
	__u32 place = pid & (WAITRATE_TASKS - 1);

	return bpf_map_lookup_elem(&waits, &place);
}

static __always_inline __u64 tag_of(__u32 pid)
{
	return generation | pid;
}

static __noinline void lose_task(void)
{
	LOSE(tasks);
}

static __always_inline void begin(struct wait *wait, __u64 tag, __u64 since, __u64 throttled, __u64 external_cpu)
{
	__u64 other = wait->tag ^ tag;

	/* Another number of the same generation. */
	if (UNLIKELY(other && !(other >> 32))) {
		lose_task();
		return;
	}
	wait->since = since;
	wait->throttled = throttled;
	wait->external_cpu = external_cpu;
	wait->tag = tag;
}

static __noinline void blame(__u32 victim, __u32 holder, __u64 time)
{
	struct waitrate_pair pair = { .victim = victim, .holder = holder };
	__u64 *sum = bpf_map_lookup_elem(&pairs, &pair);

	if (!sum) {
		__u64 nothing = 0;

		bpf_map_update_elem(&pairs, &pair, &nothing, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&pairs, &pair);
		if (!sum) {
			LOSE(pairs);
			return;
		}
	}
	__sync_fetch_and_add(sum, time);
}

/* Lays the last `left` nanoseconds over what the CPU remembers. */
static __always_inline void lay(struct cpu *cpu, struct waitrate_cell *cell, __u64 now, __u64 left, __u32 victim)
{
	__u64 internal = 0, external = 0, latency = 0, fresh = 0;
	__u64 end = now, begin = cpu->begin, holder = cpu->slot, until = cell->external_until;

	for (__u32 back = 1; back <= SLICES && left; back++) {
		struct slice *before = &cpu->slices[(cpu->count - back) & (SLICES - 1)];
		__u64 part = end > begin ? end - begin : 0;

		if (part > left)
			part = left;
		if (holder == victim)
			internal += part;
		else if (holder == WAITRATE_IDLE)
			latency += part;
		else if (part) {
			external += part;
			if (end > until)
				fresh += part < end - until ? part : end - until;
			blame(victim, holder, part);
		}
		left -= part;
		end = begin;
		begin = before->begin;
		holder = before->slot;
	}
	cell->internal += internal;
	cell->external += external;
	cell->latency += latency;
	cell->beyond += left;
	if (external) {
		cell->external_cpu += fresh;
		cell->external_until = now;
	}
}

/* Counts a wait for `cpu` that ends now. `here`: it is the one that this runs on, whose cell is given. */
static __always_inline void settle(bool here, struct wait *wait, struct cpu *cpu, struct waitrate_cell *cell, __u64 now,
				   __u64 throttled_now, __u32 victim)
{
	__u64 left = now > wait->since ? now - wait->since : 0;
	__u64 throttled = throttled_now > wait->throttled ? throttled_now - wait->throttled : 0;
	__u64 fresh = throttled, external, counted;

	cell->waits++;
	if (throttled) {
		/* The clock is brought up to date at the end of a throttling, of which the task may have missed a part. */
		if (throttled > left)
			throttled = left;
		cell->throttled += throttled;
		left -= throttled;
		/* Each CPU has a clock of its own. */
		if (here) {
			if (cell->throttled_until > wait->throttled)
				fresh = throttled_now > cell->throttled_until ? throttled_now - cell->throttled_until : 0;
			cell->throttled_cpu += fresh < throttled ? fresh : throttled;
			cell->throttled_until = throttled_now;
		}
	}
	external = cell->external;
	counted = cell->external_cpu;
	lay(cpu, cell, now, left, victim);
	/* Others of its cgroup may have waited, and had their turn, within the wait of one that was preempted. */
	if (counted >= wait->external_cpu) {
		external += counted - wait->external_cpu;
		if (cell->external > external && cell->external - external > cell->external_cpu - counted)
			cell->external_cpu = counted + cell->external - external;
	}
}

/* Who ran before is only known from now on: it is taken to have always run. */
static __noinline void restart(struct cpu *cpu, struct task_struct *running)
{
	cpu->generation = generation;
	cpu->group = 0;
	cpu->switched = UNKNOWN;
	cpu->begin = 0;
	cpu->slot = BPF_CORE_READ(running, pid) ? slot_of(false, running) : WAITRATE_IDLE;
}

/* Ends the wait of `next` and makes its cgroup, or nobody, the holder of the CPU. */
static __always_inline void hand_on(bool direct, struct cpu *cpu, struct task_struct *next, __u64 now)
{
	__u32 pid = READ(direct, next, pid), slot = WAITRATE_IDLE;
	__u64 group = 0;

	if (pid) {
		struct wait *wait = place_of(pid);

		group = (__u64)READ(direct, next, sched_task_group);
		slot = slot_of(direct, next);
		if (wait && wait->tag == (cpu->generation | pid)) {
			__u32 key = slot;
			struct waitrate_cell *cell = bpf_map_lookup_elem(&cells, &key);

			wait->tag = 0;
			if (cell)
				settle(true, wait, cpu, cell, now, throttled_time(direct, READ(direct, next, se.cfs_rq)), slot);
		}
	}
	if (slot != cpu->slot) {
		struct slice *over = &cpu->slices[cpu->count++ & (SLICES - 1)];

		over->begin = cpu->begin;
		over->slot = cpu->slot;
		cpu->begin = now;
		cpu->slot = slot;
	}
	cpu->group = group;
}

static __noinline void btf_hand_on(struct cpu *cpu, struct task_struct *next, __u64 now)
{
	hand_on(true, cpu, next, now);
}

static __noinline void raw_hand_on(struct cpu *cpu, struct task_struct *next, __u64 now)
{
	hand_on(false, cpu, next, now);
}

/* Begins the wait of a task that would have run on. */
static __always_inline void put_off(bool direct, struct cpu *cpu, struct task_struct *task, __u64 external_cpu)
{
	__u32 pid = READ(direct, task, pid);
	struct wait *wait = place_of(pid);

	if (pid && wait)
		begin(wait, cpu->generation | pid, cpu->switched, throttled_time(direct, READ(direct, task, se.cfs_rq)),
		      external_cpu);
}

/*
 * Mostly a task follows another of its cgroup, which has held the CPU for longer than it waited: that is done here. The
 * arguments are read where they are needed, which leaves registers to the rest.
 */
static __always_inline int switched(bool direct, __u64 *arguments)
{
	__u32 key = bpf_get_smp_processor_id();
	struct cpu *cpu = bpf_map_lookup_elem(&cpus, &key);
	struct task_struct *next;
	struct waitrate_cell *cell;
	struct cfs_rq *queue;
	struct wait *wait;
	__u64 now, external_cpu;
	__u32 pid;

	if (UNLIKELY(!cpu))
		return 0;
	if (UNLIKELY(cpu->generation != generation))
		restart(cpu, (void *)arguments[1]);
	cell = bpf_map_lookup_elem(&cells, &cpu->slot);
	if (UNLIKELY(!cell))
		return 0;
	pid = READ(direct, (struct task_struct *)arguments[2], pid);
	wait = place_of(pid);
	if (UNLIKELY(!wait))
		return 0;

	next = (void *)arguments[2];
	queue = READ(direct, next, se.cfs_rq);
	now = READ(direct, queue, rq, clock);
	if (LIKELY(now > cpu->switched))
		cell->run += now - cpu->switched;
	cpu->switched = now;
	external_cpu = cell->external_cpu;

	if (LIKELY((__u64)READ(direct, next, sched_task_group) == cpu->group && wait->tag == (cpu->generation | pid) &&
		   throttled_time(direct, queue) <= wait->throttled && now - wait->since <= now - cpu->begin)) {
		wait->tag = 0;
		cell->waits++;
		cell->internal += now - wait->since;
	} else if (direct) {
		btf_hand_on(cpu, next, now);
	} else {
		raw_hand_on(cpu, next, now);
	}
	if (UNLIKELY(arguments[0] || runnable(direct, (void *)arguments[1])))
		put_off(direct, cpu, (void *)arguments[1], external_cpu);
	return 0;
}

/* When a task was queued: the scheduler notes it with the task, which saves the way to the clock. */
static __always_inline __u64 queued(bool direct, struct task_struct *task, struct cfs_rq *queue)
{
	if (bpf_core_field_exists(task->sched_info.last_queued)) {
		__u64 since = READ(direct, task, sched_info.last_queued);

		if (LIKELY(since))
			return since;
	}
	return READ(direct, queue, rq, clock);
}

static __always_inline int woken(bool direct, struct task_struct *task)
{
	__u32 pid = READ(direct, task, pid);
	struct cfs_rq *queue = READ(direct, task, se.cfs_rq);
	struct wait *wait = place_of(pid);
	__u64 tag = tag_of(pid);

	/* It was about to sleep, and never left the CPU. */
	if (UNLIKELY(READ(direct, task, on_cpu)))
		return 0;
	/* One that was preempted on its way to sleep waits already. */
	if (LIKELY(wait && wait->tag != tag))
		begin(wait, tag, queued(direct, task, queue), throttled_time(direct, queue), UNKNOWN);
	return 0;
}

static __always_inline int migrated(bool direct, struct task_struct *task, __u32 to)
{
	__u32 pid = READ(direct, task, pid);
	struct wait *wait = place_of(pid);
	struct cfs_rq *queue;
	struct waitrate_cell *cell;
	struct cpu *cpu;
	__u32 from, slot;
	__u64 now;

	if (!wait || wait->tag != tag_of(pid))
		return 0;
	queue = READ(direct, task, se.cfs_rq);
	now = READ(direct, queue, rq, clock);
	from = READ(direct, queue, rq, cpu);
	cpu = bpf_map_lookup_elem(&cpus, &from);
	slot = slot_of(direct, task);
	cell = bpf_map_lookup_elem(&cells, &slot);
	if (!cpu || !cell)
		return 0;
	settle(false, wait, cpu, cell, now, throttled_time(direct, queue), slot);
	queue = queue_on(BPF_CORE_READ(task, sched_task_group), to);
	if (!queue) {
		wait->tag = 0;
		return 0;
	}
	wait->since = now;
	wait->throttled = throttled_time(false, queue);
	wait->external_cpu = UNKNOWN;
	return 0;
}

SEC("tp_btf/sched_switch")
int btf_switch(__u64 *arguments)
{
	return switched(true, arguments);
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(btf_wakeup, struct task_struct *task)
{
	return woken(true, task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(btf_wakeup_new, struct task_struct *task)
{
	return woken(true, task);
}

SEC("tp_btf/sched_migrate_task")
int BPF_PROG(btf_migrate, struct task_struct *task, int to)
{
	return migrated(true, task, to);
}

SEC("raw_tp/sched_switch")
int raw_switch(__u64 *arguments)
{
	return switched(false, arguments);
}

SEC("raw_tp/sched_wakeup")
int BPF_PROG(raw_wakeup, struct task_struct *task)
{
	return woken(false, task);
}

SEC("raw_tp/sched_wakeup_new")
int BPF_PROG(raw_wakeup_new, struct task_struct *task)
{
	return woken(false, task);
}

SEC("raw_tp/sched_migrate_task")
int BPF_PROG(raw_migrate, struct task_struct *task, int to)
{
	return migrated(false, task, to);
}
