/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Names a cgroup so that a reader finds it. Inode numbers of cgroups are given per hierarchy, so an id means nothing
 * without it.
 */
#ifndef GALEN_OWNER_H
#define GALEN_OWNER_H

#include <linux/types.h>

enum owner_hierarchy {
	/* No cgroup but a root: the machine itself. */
	OWNER_HOST = 0,
	OWNER_UNIFIED = 1,
	/* Of version 1. */
	OWNER_BLKIO = 2,
	OWNER_MEMORY = 3,
};

struct owner {
	__u64 cgroup;
	__u32 hierarchy;
};

#endif
