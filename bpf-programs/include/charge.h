/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Finds out whom a task's IO is charged to. */
#ifndef GALEN_CHARGE_H
#define GALEN_CHARGE_H

#include "kernel.h"
#include "owner.h"

/* The cgroup, unless it is the root of its hierarchy. */
static __always_inline int own(struct owner *owner, struct cgroup *cgroup, struct cgroup_root *unified, __u32 v1)
{
	if (!cgroup || !BPF_CORE_READ(cgroup, self.parent))
		return 0;
	owner->cgroup = BPF_CORE_READ(cgroup, kn, id);
	owner->hierarchy = BPF_CORE_READ(cgroup, root) == unified ? OWNER_UNIFIED : v1;
	return 1;
}

static __always_inline void owner_of(struct owner *owner, struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup *unified = BPF_CORE_READ(set, dfl_cgrp);
	struct cgroup_root *root = BPF_CORE_READ(unified, root);

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, io_cgrp_id) &&
	    own(owner, cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, io_cgrp_id)), root, OWNER_BLKIO))
		return;
	if (own(owner, unified, root, OWNER_UNIFIED))
		return;
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		own(owner, cgroup_of(set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)), root, OWNER_MEMORY);
}

#endif
