/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The few kernel types that the programs read, each with only the fields that are read. Offsets come from the running
 * kernel's BTF when a program is loaded (`preserve_access_index`), so neither order nor size matters here.
 * A name with three underscores and a suffix is the shape of another kernel version.
 */
#ifndef GALEN_KERNEL_H
#define GALEN_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup_root;

struct cgroup {
	struct cgroup_subsys_state self;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

typedef struct {
	__s64 counter;
} atomic_long_t;

struct percpu_counter {
	__s64 count;
};

/* From 6.2: counters per CPU, of which `count` is the part that was folded. */
struct mm_struct {
	struct percpu_counter rss_stat[4];
	unsigned long total_vm;
	atomic_long_t pgtables_bytes;
};

struct mm_rss_stat {
	atomic_long_t count[4];
};

/* Up to 6.1. */
struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct files_struct;

struct signal_struct {
	short oom_score_adj;
};

struct rq {
	/* Nanoseconds, brought up to date by the scheduler before it decides anything. */
	__u64 clock;
	int cpu;
	unsigned int nr_uninterruptible;
};

/* From 6.16. */
struct rq___6_16 {
	unsigned long nr_uninterruptible;
};

/* The part of a run queue that one group has on one CPU. */
struct cfs_rq {
	struct rq *rq;
	__u64 throttled_clock_self_time;
};

/* Up to 6.5. */
struct cfs_rq___before_6_6 {
	__u64 throttled_clock_pelt_time;
};

/* Up to 5.18. */
struct cfs_rq___before_5_19 {
	__u64 throttled_clock_task_time;
};

struct sched_entity {
	struct cfs_rq *cfs_rq;
	__u64 sum_exec_runtime;
	__u64 prev_sum_exec_runtime;
};

struct sched_info {
	unsigned long long last_arrival;
	unsigned long long last_queued;
};

struct task_group {
	struct cgroup_subsys_state css;
	/* One for each CPU, see queues.h. */
	struct cfs_rq **cfs_rq;
	/* Not in 7.2 any more. */
	struct sched_entity **se;
};

struct task_struct {
	int pid;
	int tgid;
	char comm[16];
	unsigned int flags;
	struct task_struct *group_leader;
	unsigned int __state;
	/* A byte in 7.2: what is narrowed when a program is loaded has to be unsigned. */
	unsigned int on_cpu;
	int prio;
	unsigned int in_iowait : 1;
	struct sched_entity se;
	struct sched_info sched_info;
	struct task_group *sched_task_group;
	struct mm_struct *mm;
	struct css_set *cgroups;
	struct files_struct *files;
	struct signal_struct *signal;
};

/* Up to 5.13. */
struct task_struct___before_5_14 {
	long state;
};

/* A timer, of which only what it calls tells its kind. */
struct hrtimer {
	void *function;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

/* In `flags` of a task, on every kernel: it has no program. */
#define TASK_KERNEL_THREAD 0x00200000

/* The values differ from kernel to kernel: read them by bpf_core_enum_value. */
enum cgroup_subsys_id {
	cpu_cgrp_id,
	cpuacct_cgrp_id,
	io_cgrp_id,
	memory_cgrp_id,
};

/* The cgroup of a css_set in the hierarchy of one controller. */
static __always_inline struct cgroup *cgroup_of(struct css_set *set, __u64 subsys)
{
	struct cgroup_subsys_state **slot = (void *)__builtin_preserve_access_index(&set->subsys[0]);
	struct cgroup_subsys_state *css = NULL;

	bpf_probe_read_kernel(&css, sizeof(css), slot + (subsys & 31));
	return css ? BPF_CORE_READ(css, cgroup) : NULL;
}

#endif
