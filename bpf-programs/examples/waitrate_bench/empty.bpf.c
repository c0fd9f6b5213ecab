// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* The hooks of waitrate with nothing behind them: what calling a program costs. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EMPTY(tracepoint)                    \
	SEC("tp_btf/" #tracepoint)           \
	int tracepoint(void *ctx)            \
	{                                    \
		return 0;                    \
	}

EMPTY(sched_switch)
EMPTY(sched_migrate_task)
EMPTY(sched_wakeup)
EMPTY(sched_wakeup_new)
