/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The kernel types of the block layer that the programs read, in the manner of kernel.h. */
#ifndef GALEN_BLOCK_H
#define GALEN_BLOCK_H

#include "kernel.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct gendisk {
	int major;
	int first_minor;
};

struct request_queue {
	struct gendisk *disk;
};

struct blkcg {
	struct cgroup_subsys_state css;
};

struct blkcg_gq {
	struct blkcg *blkcg;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

struct obj_cgroup {
	struct mem_cgroup *memcg;
};

/* In 7.2; up to 6.18 there was one for all nodes. */
struct mem_cgroup_per_node {
	struct obj_cgroup *objcg;
};

struct page {
	unsigned long compound_head;
};

/* In 7.2. */
struct page___newer {
	unsigned long compound_info;
};

struct folio {
	unsigned long memcg_data;
};

/* Up to 5.15, before there were folios. */
struct page___before_5_16 {
	/* Up to 5.10. */
	struct mem_cgroup *mem_cgroup;
	unsigned long memcg_data;
};

struct bio_vec {
	struct page *bv_page;
};

struct bio {
	struct blkcg_gq *bi_blkg;
	struct bio_vec *bi_io_vec;
	unsigned short bi_vcnt;
};

struct request {
	struct request_queue *q;
	struct bio *bio;
	unsigned int __data_len;
	unsigned int cmd_flags;
	__u64 start_time_ns;
};

/* Up to 5.15. */
struct request___before_5_16 {
	struct gendisk *rq_disk;
};

#pragma clang attribute pop

/* The kernel's number of the disk, as in s_dev: major << 20 | minor. 0 if there is none. */
static __always_inline __u32 disk_of(struct request *rq)
{
	struct gendisk *disk;

	if (bpf_core_field_exists(((struct request___before_5_16 *)0)->rq_disk))
		disk = BPF_CORE_READ((struct request___before_5_16 *)rq, rq_disk);
	else
		disk = BPF_CORE_READ(rq, q, disk);
	if (!disk)
		return 0;
	return (__u32)BPF_CORE_READ(disk, major) << 20 | (__u32)BPF_CORE_READ(disk, first_minor);
}

#endif
