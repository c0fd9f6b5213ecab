/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How programs tell the names of files. Native byte order; nothing here has padding. */
#ifndef GALEN_INODE_NAME_H
#define GALEN_INODE_NAME_H

#include <linux/types.h>

/* Longest part of a path, with its zero. */
#define INODE_NAME_PART 256
#define INODE_NAME_BYTES 1024
#define INODE_NAME_DEPTH 24

enum inode_name_flags {
	/* The path goes on above what is told. */
	INODE_NAME_CUT = 1,
};

struct inode_id {
	__u64 inode;
	/* Of the file system, as the kernel packs it; of the disk itself for a device file, whose `raw` is 1. */
	__u32 device;
	__u32 raw;
};

/* A record of the ring `names`: the header, then as many bytes of parts, the innermost first, each ended by a zero. */
struct inode_name {
	struct inode_id inode;
	__u32 bytes;
	__u32 flags;
	char parts[INODE_NAME_BYTES];
};

#endif
