// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Counts how long tasks wait for IO, by process and by the place in the kernel where they wait: from the moment the
 * scheduler takes a task off its CPU that has said that it waits for IO, until it gives it one again. Long waits are told
 * one by one.
 */
#include "../include/charge.h"
#include "io_stall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Set before loading: nanoseconds from which on a wait is told. */
const volatile __u64 long_wait = 100000000;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct___waiting {
	unsigned int in_iowait : 1;
};
#pragma clang attribute pop

/* The innermost frames are this program and what called it: not worth their place. */
#define OWN_FRAMES 3

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, IO_STALL_STACKS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, IO_STALL_FRAMES * sizeof(__u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IO_STALL_WAITERS);
	__type(key, struct io_stall_key);
	__type(value, struct io_stall_waiter);
} waiters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, IO_STALL_WAITING);
	__type(key, __u32);
	__type(value, struct io_stall);
} waiting SEC(".maps");

/* Read at the reader's own tick. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} stalls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, IO_STALL_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counted = bpf_map_lookup_elem(&counts, &what);

	if (counted)
		__sync_fetch_and_add(counted, 1);
}

static __always_inline void begin(void *ctx, struct task_struct *task)
{
	struct io_stall stall = { .begun = bpf_ktime_get_boot_ns() };
	struct owner owner = {};

	stall.tid = BPF_CORE_READ(task, pid);
	stall.key.tgid = BPF_CORE_READ(task, tgid);
	stall.key.stack = bpf_get_stackid(ctx, &stacks, OWN_FRAMES);
	if (stall.key.stack < 0)
		count(IO_STALL_NO_STACK);
	owner_of(&owner, task);
	stall.cgroup = owner.cgroup;
	stall.hierarchy = owner.hierarchy;
	BPF_CORE_READ_STR_INTO(&stall.comm, task, group_leader, comm);
	BPF_CORE_READ_STR_INTO(&stall.thread, task, comm);
	if (bpf_map_update_elem(&waiting, &stall.tid, &stall, BPF_ANY))
		count(IO_STALL_WAITING_FULL);
}

static __always_inline struct io_stall_waiter *waiter_of(struct io_stall *stall)
{
	struct io_stall_waiter *found = bpf_map_lookup_elem(&waiters, &stall->key);
	struct io_stall_waiter fresh = {};

	if (found)
		return found;
	fresh.cgroup = stall->cgroup;
	fresh.hierarchy = stall->hierarchy;
	__builtin_memcpy(fresh.comm, stall->comm, sizeof(fresh.comm));
	bpf_map_update_elem(&waiters, &stall->key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&waiters, &stall->key);
}

static __always_inline void end(__u32 tid)
{
	struct io_stall *stall = bpf_map_lookup_elem(&waiting, &tid);
	struct io_stall_waiter *waiter;
	__u64 now = bpf_ktime_get_boot_ns();

	if (!stall)
		return;
	stall->took = now > stall->begun ? now - stall->begun : 0;
	waiter = waiter_of(stall);
	if (waiter) {
		__sync_fetch_and_add(&waiter->waits, 1);
		__sync_fetch_and_add(&waiter->time, stall->took);
		if (stall->took > waiter->time_max)
			waiter->time_max = stall->took;
	} else {
		count(IO_STALL_WAITERS_FULL);
	}
	if (stall->took >= long_wait && bpf_ringbuf_output(&stalls, stall, sizeof(*stall), BPF_RB_NO_WAKEUP))
		count(IO_STALL_RING_FULL);
	bpf_map_delete_elem(&waiting, &tid);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(switched, _Bool preempted, struct task_struct *prev, struct task_struct *next)
{
	__u32 tid = BPF_CORE_READ(next, pid);

	if (tid)
		end(tid);
	if (!preempted && BPF_CORE_READ_BITFIELD_PROBED((struct task_struct___waiting *)prev, in_iowait))
		begin(ctx, prev);
	return 0;
}
