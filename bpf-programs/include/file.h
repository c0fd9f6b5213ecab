/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The kernel types of files that the programs read, in the manner of kernel.h, and the names of inodes. */
#ifndef GALEN_FILE_H
#define GALEN_FILE_H

#include "kernel.h"
#include "inode_name.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct inode {
	unsigned short i_mode;
	__u32 i_rdev;
	unsigned long i_ino;
	struct super_block *i_sb;
	struct hlist_head i_dentry;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
	union {
		struct hlist_node d_alias;
	} d_u;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct inode *f_inode;
	struct path f_path;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

#pragma clang attribute pop

#define KIND_MASK 0170000
#define KIND_REGULAR 0100000
#define KIND_DISK 0060000

/* Inodes whose name was told. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct inode_id);
	__type(value, __u8);
} named SEC(".maps");

/* Read at the reader's own tick. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} names SEC(".maps");

/* Names that found the ring full. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} names_lost SEC(".maps");

struct name_scratch {
	struct inode_name name;
	/* What a last part of full length may write behind the end. */
	char room[INODE_NAME_PART];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name_scratch);
} name_scratches SEC(".maps");

/* Tells the name of an inode, once. */
static __always_inline void tell_name(struct inode_id *inode, struct dentry *dentry)
{
	struct name_scratch *scratch;
	struct inode_name *name;
	__u32 zero = 0, at = 0;
	__u64 *counted;
	__u8 one = 1;

	if (bpf_map_lookup_elem(&named, inode))
		return;
	scratch = bpf_map_lookup_elem(&name_scratches, &zero);
	if (!scratch)
		return;
	name = &scratch->name;
	name->inode = *inode;
	name->flags = 0;
	for (int depth = 0; depth < INODE_NAME_DEPTH; depth++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		long bytes;

		/* The root of the file system. */
		if (!parent || parent == dentry)
			break;
		if (depth == INODE_NAME_DEPTH - 1 || at > INODE_NAME_BYTES - INODE_NAME_PART) {
			name->flags = INODE_NAME_CUT;
			break;
		}
		bytes = bpf_probe_read_kernel_str(&name->parts[at], INODE_NAME_PART, BPF_CORE_READ(dentry, d_name.name));
		if (bytes <= 0 || bytes > INODE_NAME_PART)
			break;
		at += bytes;
		dentry = parent;
	}
	name->bytes = at;
	if (at > INODE_NAME_BYTES ||
	    bpf_ringbuf_output(&names, name, __builtin_offsetof(struct inode_name, parts) + at,
				BPF_RB_NO_WAKEUP)) {
		counted = bpf_map_lookup_elem(&names_lost, &zero);
		if (counted)
			__sync_fetch_and_add(counted, 1);
		return;
	}
	bpf_map_update_elem(&named, inode, &one, BPF_ANY);
}

#endif
