// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Counts what processes read, write and sync of the files of some file systems, and of disks themselves, by the system
 * calls that do it. Works on every file system, as it looks at none: the file is found by its descriptor.
 *
 * Reads and writes through memory maps and io_uring are no such calls. Every system call of the machine pays for this
 * while it is attached.
 */
#include "../include/charge.h"
#include "../include/file.h"
#include "file_io.h"

#include <asm/unistd.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* By the number of the file system, or of the disk. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILE_IO_VOLUMES);
	__type(key, __u32);
	__type(value, __u32);
} volumes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILE_IO_FILES);
	__type(key, struct file_io_key);
	__type(value, struct file_io_usage);
} usage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILE_IO_CALLS);
	__type(key, __u32);
	__type(value, struct file_io_call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FILE_IO_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __always_inline void count(__u32 what)
{
	__u64 *counted = bpf_map_lookup_elem(&counts, &what);

	if (counted)
		__sync_fetch_and_add(counted, 1);
}

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#ifdef __TARGET_ARCH_x86
struct pt_regs {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
};

/* Only of kernels that run programs of 32 bits. */
struct thread_info {
	__u32 status;
};

struct task_struct___x86 {
	struct thread_info thread_info;
};
#else
struct pt_regs {
	__u64 regs[31];
};
#endif
#pragma clang attribute pop

/* These are read directly, as the hook vouches for them: a helper call for each is what the hot path would cost most. */
static __always_inline __u64 argument(struct pt_regs *registers, int which)
{
#ifdef __TARGET_ARCH_x86
	switch (which) {
	case 0:
		return registers->di;
	case 1:
		return registers->si;
	default:
		return registers->dx;
	}
#else
	return registers->regs[which];
#endif
}

/* The place of a descriptor in the table of the current task; NULL if it has none. */
static __always_inline struct file **place_of(__u32 fd)
{
	struct fdtable *table;

	/* From 5.11. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)) {
		struct task_struct *task = bpf_get_current_task_btf();

		table = task->files->fdt;
		return fd < table->max_fds ? table->fd + fd : NULL;
	}
	table = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), files, fdt);
	return fd < BPF_CORE_READ(table, max_fds) ? BPF_CORE_READ(table, fd) + fd : NULL;
}

/* Programs of 32 bits have other numbers for their calls. */
static __always_inline int has_other_calls(void)
{
#ifdef __TARGET_ARCH_x86
	struct task_struct___x86 *task = (void *)bpf_get_current_task();
	const __u32 compat = 2;

	if (bpf_core_field_exists(((struct task_struct___x86 *)0)->thread_info.status))
		return BPF_CORE_READ(task, thread_info.status) & compat;
#endif
	return 0;
}

/* The file of a descriptor, if it is watched. */
static __always_inline int watched(struct inode_id *id, __u32 fd)
{
	struct file **place = place_of(fd), *file = NULL;
	struct inode *inode;
	__u32 kind, device;

	if (!place)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), place);
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	kind = BPF_CORE_READ(inode, i_mode) & KIND_MASK;
	if (kind == KIND_DISK)
		device = BPF_CORE_READ(inode, i_rdev);
	else if (kind == KIND_REGULAR)
		device = BPF_CORE_READ(inode, i_sb, s_dev);
	else
		return 0;
	if (!bpf_map_lookup_elem(&volumes, &device))
		return 0;
	id->inode = BPF_CORE_READ(inode, i_ino);
	id->device = device;
	id->raw = kind == KIND_DISK;
	tell_name(id, BPF_CORE_READ(file, f_path.dentry));
	return 1;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(entered, struct pt_regs *registers, long number)
{
	__u64 ids = bpf_get_current_pid_tgid();
	struct file_io_call call = {};
	int reads = -1, writes = -1, syncs = -1, found = 0;
	__u32 tid = ids;

	switch (number) {
	case __NR_read:
	case __NR_pread64:
	case __NR_readv:
	case __NR_preadv:
	case __NR_preadv2:
		reads = 0;
		break;
	case __NR_write:
	case __NR_pwrite64:
	case __NR_writev:
	case __NR_pwritev:
	case __NR_pwritev2:
		writes = 0;
		break;
	case __NR_fsync:
	case __NR_fdatasync:
	case __NR_sync_file_range:
		syncs = 0;
		break;
	case __NR_sendfile:
		writes = 0;
		reads = 1;
		break;
	case __NR_copy_file_range:
	case __NR_splice:
		reads = 0;
		writes = 2;
		break;
	default:
		return 0;
	}
	if (reads >= 0)
		found |= watched(&call.files[FILE_IO_READ], argument(registers, reads));
	if (writes >= 0)
		found |= watched(&call.files[FILE_IO_WRITE], argument(registers, writes));
	if (syncs >= 0)
		found |= watched(&call.files[FILE_IO_SYNC], argument(registers, syncs));
	if (!found || has_other_calls())
		return 0;
	call.tgid = ids >> 32;
	call.begun = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&calls, &tid, &call, BPF_ANY))
		count(FILE_IO_CALLS_FULL);
	return 0;
}

static __always_inline struct file_io_usage *usage_of(struct file_io_key *key)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file_io_usage *found = bpf_map_lookup_elem(&usage, key);
	struct file_io_usage fresh = {};
	struct owner owner = {};

	if (found)
		return found;
	owner_of(&owner, task);
	fresh.cgroup = owner.cgroup;
	fresh.hierarchy = owner.hierarchy;
	BPF_CORE_READ_STR_INTO(&fresh.comm, task, group_leader, comm);
	bpf_map_update_elem(&usage, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&usage, key);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(exited, struct pt_regs *registers, long result)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct file_io_call *call = bpf_map_lookup_elem(&calls, &tid);
	__u64 now, took;

	if (!call)
		return 0;
	now = bpf_ktime_get_ns();
	took = now > call->begun ? now - call->begun : 0;
	for (int kind = 0; kind < FILE_IO_KINDS && result >= 0; kind++) {
		struct file_io_key key = { .file = call->files[kind], .tgid = call->tgid };
		struct file_io_usage *used;

		if (!key.file.device)
			continue;
		used = usage_of(&key);
		if (!used) {
			count(FILE_IO_USAGE_FULL);
			continue;
		}
		if (kind != FILE_IO_SYNC)
			__sync_fetch_and_add(&used->bytes[kind], result);
		__sync_fetch_and_add(&used->calls[kind], 1);
		__sync_fetch_and_add(&used->time[kind], took);
		/* Two threads of a process may race for the largest. */
		if (took > used->time_max[kind])
			used->time_max[kind] = took;
	}
	bpf_map_delete_elem(&calls, &tid);
	return 0;
}
