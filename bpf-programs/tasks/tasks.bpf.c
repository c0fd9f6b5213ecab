// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Goes through the tasks of the machine: `blocked` tells those in uninterruptible sleep, with their kernel stacks, and
 * `everyone` tells what each task is doing.
 *
 * Both begin with a head that has the kernel's own count of tasks in uninterruptible sleep. It is written at the first
 * task, and the iteration goes on only as far as its reader reads: one that reads the head alone stops it there. So the
 * question whether anybody waits at all costs the same on a machine with ten tasks and with a hundred thousand.
 */
#include "../include/queues.h"
#include "tasks.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading: one more than the highest number of a CPU that there may ever be. */
const volatile __u32 cpus = 1;

#define MAX_CPUS 4096

/* The kernel's TASK_* and PF_* are macros, and thus not in its BTF. */
#define SLEEP_INTERRUPTIBLE 0x1
#define SLEEP_UNINTERRUPTIBLE 0x2
#define STOPPED 0x4
#define TRACED 0x8
#define NOT_LOAD 0x400
/* Up to 6.0, of tasks that the freezer keeps in uninterruptible sleep; later of one kernel thread. */
#define FROZEN 0x00010000
/* Lowest priority number of the fair class. */
#define FAIR_PRIO 100

#define STACK_BYTES (TASKS_MAX_FRAMES * sizeof(__u64))

struct scratch {
	struct tasks_task task;
	__u64 frames[TASKS_MAX_FRAMES];
};

/* An iteration stays on its CPU while it looks at a task, and there is one at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct rq *queue_of(struct task_struct *task, __u32 cpu)
{
	struct cfs_rq *queue = queue_on(BPF_CORE_READ(task, sched_task_group), cpu);

	return queue ? BPF_CORE_READ(queue, rq) : NULL;
}

/*
 * The sum over the run queues of all CPUs, any of which may be negative: a task is added where it fell asleep and taken
 * off where it wakes up. The counters are 32 bits or, from 6.16, 64; the sum is right modulo 2^32 either way.
 */
static __always_inline void count(struct task_struct *task, struct tasks_head *head)
{
	__u32 sum = 0;

	if (!bpf_core_field_exists(task->sched_task_group) || cpus > MAX_CPUS)
		return;
	for (__u32 cpu = 0; cpu < MAX_CPUS && cpu < cpus; cpu++) {
		struct rq *queue = queue_of(task, cpu);

		if (!queue)
			return;
		if (bpf_core_field_size(queue->nr_uninterruptible) == sizeof(__u64)) {
			struct rq___6_16 *wide = (void *)queue;

			sum += (__u32)BPF_CORE_READ(wide, nr_uninterruptible);
		} else {
			sum += BPF_CORE_READ(queue, nr_uninterruptible);
		}
	}
	head->uninterruptible = (__s32)sum;
	head->flags = TASKS_COUNTED;
}

static __always_inline __u32 state_of(struct task_struct *task)
{
	__u32 state;

	if (bpf_core_field_exists(task->__state))
		state = task->__state;
	else
		state = (__u32)((struct task_struct___before_5_14 *)task)->state;
	if (!state)
		return TASKS_RUNNING;
	if (state & SLEEP_UNINTERRUPTIBLE) {
		__u32 flags = BPF_CORE_READ(task, flags);

		if (state & NOT_LOAD || (flags & (FROZEN | TASK_KERNEL_THREAD)) == FROZEN)
			return TASKS_OTHER;
		return TASKS_UNINTERRUPTIBLE;
	}
	if (state & SLEEP_INTERRUPTIBLE)
		return TASKS_SLEEPING;
	return state & (STOPPED | TRACED) ? TASKS_STOPPED : TASKS_OTHER;
}

/*
 * The scheduler notes by its own clock when a task was last put on a CPU; how long it then ran is known for the fair
 * class. Only the clock of a run queue can be compared with that; this CPU's is no older than a tick.
 */
static __always_inline void waited(struct task_struct *task, struct tasks_task *told)
{
	__u64 arrived, now, ran = 0;

	if (!bpf_core_field_exists(task->sched_info.last_arrival) || !bpf_core_field_exists(task->sched_task_group))
		return;
	arrived = BPF_CORE_READ(task, sched_info.last_arrival);
	now = BPF_CORE_READ(queue_of(task, bpf_get_smp_processor_id()), clock);
	if (!arrived || !now)
		return;
	if (BPF_CORE_READ(task, prio) >= FAIR_PRIO)
		ran = BPF_CORE_READ(task, se.sum_exec_runtime) - BPF_CORE_READ(task, se.prev_sum_exec_runtime);
	told->waiting = now > arrived + ran ? now - arrived - ran : 0;
	told->flags |= TASKS_WAITING_KNOWN;
}

static __always_inline void cgroups_of(struct task_struct *task, struct tasks_task *told)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup *unified = BPF_CORE_READ(set, dfl_cgrp), *cpu;

	told->unified = BPF_CORE_READ(unified, kn, id);
	told->cpu = 0;
	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, cpu_cgrp_id))
		return;
	cpu = cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id));
	if (BPF_CORE_READ(cpu, root) != BPF_CORE_READ(unified, root))
		told->cpu = BPF_CORE_READ(cpu, kn, id);
}

static __always_inline int tell(struct bpf_iter__task *context, int everyone)
{
	struct seq_file *out = context->meta->seq;
	struct task_struct *task = context->task;
	struct scratch *scratch;
	__u32 zero = 0, state;
	long bytes = 0;

	if (!task)
		return 0;
	if (context->meta->seq_num == 0) {
		struct tasks_head head = {};

		count(task, &head);
		bpf_seq_write(out, &head, sizeof(head));
	}
	state = state_of(task);
	if (!everyone && state != TASKS_UNINTERRUPTIBLE)
		return 0;
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!scratch)
		return 0;

	scratch->task.waiting = 0;
	scratch->task.pid = BPF_CORE_READ(task, tgid);
	scratch->task.tid = BPF_CORE_READ(task, pid);
	scratch->task.state = state;
	scratch->task.flags = BPF_CORE_READ_BITFIELD_PROBED(task, in_iowait) ? TASKS_IOWAIT : 0;
	scratch->task.stack_error = 0;
	BPF_CORE_READ_STR_INTO(&scratch->task.comm, task, comm);
	cgroups_of(task, &scratch->task);
	if (!everyone) {
		waited(task, &scratch->task);
		bytes = bpf_get_task_stack(task, scratch->frames, STACK_BYTES, 0);
		if (bytes < 0) {
			scratch->task.stack_error = bytes;
			bytes = 0;
		} else if (bytes > STACK_BYTES) {
			bytes = 0;
		}
	}
	scratch->task.stack_bytes = bytes;
	bpf_seq_write(out, scratch, sizeof(scratch->task) + bytes);
	return 0;
}

SEC("iter/task")
int blocked(struct bpf_iter__task *context)
{
	return tell(context, 0);
}

SEC("iter/task")
int everyone(struct bpf_iter__task *context)
{
	return tell(context, 1);
}
