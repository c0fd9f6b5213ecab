/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The run queues that a group has, one on each CPU. */
#ifndef GALEN_QUEUES_H
#define GALEN_QUEUES_H

#include "kernel.h"

/* Set before loading: where the kernel has the offsets of its CPUs' own data; 0 if that is not needed or not known. */
const volatile __u64 per_cpu_offsets = 0;

/* NULL if it cannot be found. */
static __always_inline struct cfs_rq *queue_on(struct task_group *group, __u32 cpu)
{
	struct cfs_rq **all = BPF_CORE_READ(group, cfs_rq), *one = NULL;
	__u64 offset = 0;

	/* While a group had an array of entities, it had one of queues as well; then both became data of each CPU. */
	if (bpf_core_field_exists(group->se)) {
		bpf_probe_read_kernel(&one, sizeof(one), all + cpu);
		return one;
	}
	if (!per_cpu_offsets ||
	    bpf_probe_read_kernel(&offset, sizeof(offset), (void *)(per_cpu_offsets + cpu * sizeof(offset))))
		return NULL;
	return (void *)all + offset;
}

#endif
