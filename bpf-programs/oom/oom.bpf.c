// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Records each victim of the OOM killer, at the moment it is marked. It runs in the context of the task that ran out of
 * memory (the trigger), while the victim still has its memory, so its counters are those that led to the choice.
 *
 * The tracepoint passes (task, uid) on newer kernels, a bare pid on older ones; the loader tries `kill_task`, whose
 * second argument an older kernel rejects, then `kill_pid`, then the classic tracepoint.
 */
#include "../include/kernel.h"
#include "oom.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PAGE_KB 4

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} kills SEC(".maps");

/* Kills that found the ring full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Order of the kernel's MM_*PAGES. */
enum { FILE_PAGES, ANON_PAGES, SWAP_ENTRIES, SHMEM_PAGES };

static __always_inline __u64 pages_kb(struct mm_struct *mm, int kind)
{
	__s64 pages;

	if (bpf_core_field_exists(((struct mm_struct___before_6_2 *)0)->rss_stat.count)) {
		struct mm_rss_stat *stat = __builtin_preserve_access_index(&((struct mm_struct___before_6_2 *)mm)->rss_stat);

		pages = 0;
		bpf_probe_read_kernel(&pages, sizeof(pages), (void *)stat + kind * sizeof(pages));
	} else {
		struct percpu_counter *stat = (void *)__builtin_preserve_access_index(&mm->rss_stat[0]);
		__u32 size = bpf_core_type_size(struct percpu_counter);

		stat = (void *)stat + kind * size;
		pages = BPF_CORE_READ(stat, count);
	}
	return pages > 0 ? (__u64)pages * PAGE_KB : 0;
}

static __always_inline __u64 memcg_of(struct task_struct *task, __u32 *flags)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup *memcg;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return 0;
	memcg = cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
	if (BPF_CORE_READ(memcg, root) == BPF_CORE_READ(set, dfl_cgrp, root))
		*flags |= OOM_UNIFIED;
	return BPF_CORE_READ(memcg, kn, id);
}

static __always_inline void victim_from(struct oom_kill *kill, struct task_struct *victim)
{
	struct mm_struct *mm = BPF_CORE_READ(victim, mm);

	kill->flags |= OOM_VICTIM_KNOWN;
	kill->tgid = BPF_CORE_READ(victim, tgid);
	kill->tid = BPF_CORE_READ(victim, pid);
	kill->oom_score_adj = BPF_CORE_READ(victim, signal, oom_score_adj);
	BPF_CORE_READ_STR_INTO(&kill->comm, victim, comm);
	kill->victim_memcg = memcg_of(victim, &kill->flags);
	if (!mm)
		return;
	kill->flags |= OOM_MEMORY_KNOWN;
	kill->anon_kb = pages_kb(mm, ANON_PAGES);
	kill->file_kb = pages_kb(mm, FILE_PAGES);
	kill->shmem_kb = pages_kb(mm, SHMEM_PAGES);
	kill->swap_kb = pages_kb(mm, SWAP_ENTRIES);
	kill->page_tables_kb = (__u64)BPF_CORE_READ(mm, pgtables_bytes.counter) >> 10;
	kill->virtual_kb = (__u64)BPF_CORE_READ(mm, total_vm) * PAGE_KB;
}

static __always_inline int record(struct task_struct *victim, __u32 pid, __u32 uid)
{
	__u64 ids = bpf_get_current_pid_tgid();
	struct task_struct *trigger = (struct task_struct *)bpf_get_current_task();
	struct oom_kill *kill = bpf_ringbuf_reserve(&kills, sizeof(*kill), 0);

	if (!kill) {
		__u32 zero = 0;
		__u64 *counted = bpf_map_lookup_elem(&lost, &zero);

		if (counted)
			__sync_fetch_and_add(counted, 1);
		return 0;
	}
	__builtin_memset(kill, 0, sizeof(*kill));
	kill->time = bpf_ktime_get_boot_ns();
	kill->uid = uid;
	kill->trigger_tgid = ids >> 32;
	kill->trigger_tid = ids;
	bpf_get_current_comm(kill->trigger_comm, sizeof(kill->trigger_comm));
	kill->trigger_memcg = memcg_of(trigger, &kill->flags);
	/* A task that runs out of memory while it is dying is its own victim. */
	if (!victim && (pid == (__u32)ids || pid == ids >> 32)) {
		victim = trigger;
		kill->uid = bpf_get_current_uid_gid();
	}
	if (victim)
		victim_from(kill, victim);
	else
		kill->tgid = pid;
	bpf_ringbuf_submit(kill, BPF_RB_FORCE_WAKEUP);
	return 0;
}

SEC("tp_btf/mark_victim")
int BPF_PROG(kill_task, struct task_struct *victim, __u32 uid)
{
	return record(victim, 0, uid);
}

SEC("tp_btf/mark_victim")
int BPF_PROG(kill_pid, int pid)
{
	return record(NULL, pid, 0);
}

/* The part of the event that every kernel has: 8 common bytes, then the pid. */
struct mark_victim {
	__u64 common;
	__s32 pid;
};

SEC("tracepoint/oom/mark_victim")
int kill_classic(struct mark_victim *event)
{
	return record(NULL, event->pid, 0);
}
