// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Counts the requests of some disks by the process that made them and the cgroup that they are charged to, and how long
 * they waited for the driver and for the device.
 *
 * `made` runs where the request is made, so the current task is its cause, unless that is a thread of the kernel; the
 * container is then named by what the request carries: the cgroup of its group of block IO, which write-back and loop
 * devices pass on, else the memory cgroup of its first page. Kernels before 6.5 do not have the tracepoint of `made`:
 * requests are then first seen in `issued`, and no process is known.
 */
#include "../include/block.h"
#include "../include/charge.h"
#include "block_io.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Filled once all programs are attached. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BLOCK_IO_DISKS);
	__type(key, __u32);
	/* enum block_io_beginning. */
	__type(value, __u32);
} disks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BLOCK_IO_USERS);
	__type(key, struct block_io_user);
	__type(value, struct block_io_usage);
} users SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BLOCK_IO_REQUESTS);
	__type(key, __u64);
	__type(value, struct block_io_flight);
} flights SEC(".maps");

/* By (direction * phases + phase) * slots + slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BLOCK_IO_DIRECTIONS * BLOCK_IO_PHASES * BLOCK_IO_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} histograms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BLOCK_IO_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counted = bpf_map_lookup_elem(&counts, &what);

	if (counted)
		__sync_fetch_and_add(counted, 1);
}

/* Values of the kernel's enum req_op, which is the low byte of cmd_flags. */
enum { OP_READ = 0, OP_DISCARD = 3, OP_SECURE_ERASE = 5, OP_DRV_IN = 34 };

static __always_inline __u32 direction_of(struct request *rq)
{
	__u32 op = BPF_CORE_READ(rq, cmd_flags) & 0xff;

	if (op == OP_READ)
		return BLOCK_IO_READ;
	if (!(op & 1) || op == OP_DISCARD || op == OP_SECURE_ERASE || op >= OP_DRV_IN)
		return BLOCK_IO_OTHER;
	return BLOCK_IO_WRITE;
}

/* The first page of the folio that a page is of. */
static __always_inline struct folio *folio_of(struct page *page)
{
	struct page___newer *newer = (void *)page;
	unsigned long info;

	if (bpf_core_field_exists(page->compound_head))
		info = BPF_CORE_READ(page, compound_head);
	else if (bpf_core_field_exists(newer->compound_info))
		info = BPF_CORE_READ(newer, compound_info);
	else
		return NULL;
	if (!(info & 1))
		return (struct folio *)page;
	/* Either the address or a mask that gives it; no page is described in the topmost 4 GB, where the masks are. */
	return (struct folio *)(info < -(1ul << 32) ? info - 1 : info & (unsigned long)page);
}

/* What a page is charged to, as an address whose low bits say that it is something else than a memory cgroup. */
static __always_inline unsigned long charge_of(struct folio *folio)
{
	struct page___before_5_16 *older = (void *)folio;

	if (bpf_core_field_exists(folio->memcg_data))
		return BPF_CORE_READ(folio, memcg_data);
	if (bpf_core_field_exists(older->memcg_data))
		return BPF_CORE_READ(older, memcg_data);
	if (bpf_core_field_exists(older->mem_cgroup))
		return (unsigned long)BPF_CORE_READ(older, mem_cgroup);
	return 0;
}

/* The memory cgroup that the first page of a request is charged to. */
static __always_inline struct cgroup *page_owner(struct bio *bio)
{
	struct page *page = BPF_CORE_READ(bio, bi_io_vec, bv_page);
	struct mem_cgroup *memory;
	struct folio *folio;
	unsigned long data;

	if (!page)
		return NULL;
	folio = folio_of(page);
	if (!folio)
		return NULL;
	data = charge_of(folio);
	if (!data || data & 3)
		return NULL;
	memory = (struct mem_cgroup *)data;
	if (bpf_core_field_exists(((struct mem_cgroup_per_node *)0)->objcg))
		memory = BPF_CORE_READ((struct obj_cgroup *)data, memcg);
	return BPF_CORE_READ(memory, css.cgroup);
}

static __always_inline void find_owner(struct owner *owner, struct request *rq, struct task_struct *task)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct cgroup_root *unified = BPF_CORE_READ(current, cgroups, dfl_cgrp, root);
	struct bio *bio = BPF_CORE_READ(rq, bio);

	if (bio && own(owner, BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup), unified, OWNER_BLKIO))
		return;
	if (task && own(owner, BPF_CORE_READ(task, cgroups, dfl_cgrp), unified, OWNER_UNIFIED))
		return;
	if (bio)
		own(owner, page_owner(bio), unified, OWNER_MEMORY);
}

/* Enters a request of a watched disk, if this is where requests of it are seen to begin. */
static __always_inline void enter(struct request *rq, __u32 beginning)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct task_struct *task = NULL;
	struct block_io_flight flight = {};
	struct owner owner = {};
	__u64 key = (__u64)rq;
	__u32 disk = disk_of(rq), *begins = bpf_map_lookup_elem(&disks, &disk);

	if (!begins || *begins != beginning)
		return;
	if (beginning == BLOCK_IO_BEGINS_MADE) {
		flight.made = bpf_ktime_get_ns();
		flight.user.tgid = bpf_get_current_pid_tgid() >> 32;
		BPF_CORE_READ_STR_INTO(&flight.comm, current, group_leader, comm);
		if (BPF_CORE_READ(current, flags) & TASK_KERNEL_THREAD)
			flight.flags = BLOCK_IO_KERNEL_THREAD;
		else
			task = current;
	} else {
		flight.made = BPF_CORE_READ(rq, start_time_ns);
	}
	find_owner(&owner, rq, task);
	flight.user.cgroup = owner.cgroup;
	flight.user.hierarchy = owner.hierarchy;
	flight.direction = direction_of(rq);
	/* An entry that is there already is of a request that was merged into another, so never ended. */
	if (bpf_map_update_elem(&flights, &key, &flight, BPF_ANY))
		count(BLOCK_IO_FLIGHTS_FULL);
}

static __always_inline void issue(struct request *rq)
{
	__u64 key = (__u64)rq;
	struct block_io_flight *flight;

	enter(rq, BLOCK_IO_BEGINS_ISSUED);
	flight = bpf_map_lookup_elem(&flights, &key);
	if (!flight)
		return;
	flight->issued = bpf_ktime_get_ns();
	flight->bytes = BPF_CORE_READ(rq, __data_len);
}

static __always_inline void tally(__u32 direction, __u32 phase, __u64 nanoseconds)
{
	__u64 rest = nanoseconds / 1000, *counted;
	__u32 slot = 0;

	for (int shift = 16; shift; shift >>= 1)
		if (rest >> shift) {
			slot += shift;
			rest >>= shift;
		}
	if (slot >= BLOCK_IO_SLOTS)
		slot = BLOCK_IO_SLOTS - 1;
	slot += (direction * BLOCK_IO_PHASES + phase) * BLOCK_IO_SLOTS;
	counted = bpf_map_lookup_elem(&histograms, &slot);
	if (counted)
		__sync_fetch_and_add(counted, 1);
}

static __always_inline struct block_io_usage *usage_of(struct block_io_flight *flight)
{
	struct block_io_usage *usage = bpf_map_lookup_elem(&users, &flight->user);
	struct block_io_usage fresh = {};

	if (usage)
		return usage;
	fresh.flags = flight->flags;
	__builtin_memcpy(fresh.comm, flight->comm, sizeof(fresh.comm));
	bpf_map_update_elem(&users, &flight->user, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&users, &flight->user);
}

SEC("tp_btf/block_io_start")
int BPF_PROG(made, struct request *rq)
{
	enter(rq, BLOCK_IO_BEGINS_MADE);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(issued, struct request *rq)
{
	issue(rq);
	return 0;
}

/* Up to 5.10. */
SEC("tp_btf/block_rq_issue")
int BPF_PROG(issued_by_queue, struct request_queue *queue, struct request *rq)
{
	issue(rq);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(ended, struct request *rq, int error, unsigned int bytes)
{
	__u64 key = (__u64)rq, now = bpf_ktime_get_ns(), queued, device;
	struct block_io_flight *flight = bpf_map_lookup_elem(&flights, &key);
	struct block_io_usage *usage;
	__u64 direction;

	if (!flight || !flight->issued) {
		__u32 disk = disk_of(rq);

		if (bpf_map_lookup_elem(&disks, &disk))
			count(BLOCK_IO_BEGUN_BEFORE);
		return 0;
	}
	direction = flight->direction;
	/* Older verifiers forget a bound that was checked on a copy: this one stays with the number, also on the stack. */
	asm volatile("%0 &= 3" : "+r"(direction));
	if (direction >= BLOCK_IO_DIRECTIONS)
		return 0;
	usage = usage_of(flight);
	if (usage) {
		__sync_fetch_and_add(&usage->bytes[direction], bytes);
		if (error)
			__sync_fetch_and_add(&usage->errors, 1);
	}
	/* A part of the request: it goes on. */
	if (bytes < BPF_CORE_READ(rq, __data_len))
		return 0;
	queued = flight->made && flight->issued > flight->made ? flight->issued - flight->made : 0;
	device = now > flight->issued ? now - flight->issued : 0;
	if (usage) {
		__sync_fetch_and_add(&usage->requests[direction], 1);
		__sync_fetch_and_add(&usage->queued[direction], queued);
		__sync_fetch_and_add(&usage->device[direction], device);
		/* Two ends at one time may race for the largest; the histograms have both. */
		if (queued > usage->queued_max[direction])
			usage->queued_max[direction] = queued;
		if (device > usage->device_max[direction])
			usage->device_max[direction] = device;
	} else {
		count(BLOCK_IO_USERS_FULL);
	}
	tally(direction, BLOCK_IO_QUEUED, queued);
	tally(direction, BLOCK_IO_DEVICE, device);
	tally(direction, BLOCK_IO_TOTAL, queued + device);
	bpf_map_delete_elem(&flights, &key);
	return 0;
}
