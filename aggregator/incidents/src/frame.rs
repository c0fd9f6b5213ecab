//! Names of frames, without what differs between builds, kernels and processors for one and the same cause.
//!
//! | Left out | Why |
//! |---|---|
//! | offsets and addresses | they change with each build and each start |
//! | `.isra.0`, `.constprop.0`, `.cold`, `.part.1`, `.llvm.…`, `.lto_priv.0`, `[clone …]`, Rust's `::h…` | a compiler made a copy |
//! | `__x64_`, `__arm64_`, `__se_`, `__do_` before `sys_…` | how a processor enters a system call |
//! | version and directory of a module, and the whole module of a kernel function | a library is updated, a driver is built in |
//! | how threads begin, how the kernel is entered, how a task is put to sleep | all stacks have them |

/// A function as a profile, or the kernel, names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Empty if it is not known.
    pub(crate) symbol: &'a str,
    /// Path of the file; empty for the kernel, or if it is not known.
    pub(crate) module: &'a str,
}

/// Longest name that goes into a print.
const MAX_NAME: usize = 200;
/// What a compiler puts behind the name of a copy.
const COPIES: [&str; 7] = ["isra", "constprop", "cold", "part", "llvm", "lto_priv", "clone"];
const SYSCALLS: [&str; 8] = [
    "__x64_sys_",
    "__ia32_sys_",
    "__ia32_compat_sys_",
    "__arm64_sys_",
    "__arm64_compat_sys_",
    "__riscv_sys_",
    "__se_sys_",
    "__do_sys_",
];
/// Frames that say nothing of a cause, sorted.
const GENERIC: &[&str] = &[
    "__GI___clone",
    "__clone",
    "__clone3",
    "__cond_resched",
    "__handle_irq_event_percpu",
    "__invoke_syscall",
    "__libc_start_call_main",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__rust_begin_short_backtrace",
    "__schedule",
    "__switch_to",
    "__sysvec_apic_timer_interrupt",
    "_start",
    "asm_sysvec_apic_timer_interrupt",
    "clone",
    "clone3",
    "do_el0_svc",
    "do_syscall_64",
    "do_syscall_x64",
    "el0_svc",
    "el0_svc_common",
    "el0t_64_sync",
    "el0t_64_sync_handler",
    "entry_SYSCALL_64",
    "entry_SYSCALL_64_after_hwframe",
    "entry_SYSCALL_64_safe_stack",
    "finish_task_switch",
    "invoke_syscall",
    "io_schedule",
    "io_schedule_prepare",
    "io_schedule_timeout",
    "kthread",
    "main",
    "preempt_schedule",
    "preempt_schedule_common",
    "preempt_schedule_irq",
    "process_one_work",
    "process_scheduled_works",
    "ret_from_fork",
    "ret_from_fork_asm",
    "runtime.goexit",
    "runtime.main",
    "runtime.mcall",
    "runtime.systemstack",
    "schedule",
    "schedule_hrtimeout",
    "schedule_hrtimeout_range",
    "schedule_preempt_disabled",
    "schedule_timeout",
    "start_thread",
    "std::rt::lang_start",
    "std::rt::lang_start::{{closure}}",
    "std::rt::lang_start_internal",
    "std::sys::backtrace::__rust_begin_short_backtrace",
    "std::sys::pal::unix::thread::Thread::new::thread_start",
    "sysvec_apic_timer_interrupt",
    "thread_start",
    "worker_thread",
    "x64_sys_call",
];

/// The name that goes into a print: `module!function`, `function` in the kernel, `module!?` where the function has no
/// name. None for what says nothing.
pub(crate) fn normalise(frame: Frame<'_>) -> Option<String> {
    let module = module(frame.module);
    let name = match symbol(frame.symbol) {
        Some(symbol) if GENERIC.binary_search(&&*symbol).is_ok() => return None,
        Some(symbol) if module.is_empty() => symbol,
        Some(symbol) => format!("{module}!{symbol}"),
        None if module.is_empty() => return None,
        None => format!("{module}!?"),
    };
    Some(name.chars().take(MAX_NAME).collect())
}

fn symbol(name: &str) -> Option<String> {
    let name = name.trim();
    let name = name.split_once("+0x").map_or(name, |(name, _)| name);
    let name = name.split_once(" [clone ").map_or(name, |(name, _)| name);
    if name.is_empty() || name == "?" || name.starts_with("0x") || name.starts_with('[') {
        return None;
    }
    let name = without_copies(without_hash(name));
    let syscall = SYSCALLS.iter().find_map(|prefix| name.strip_prefix(prefix));
    Some(syscall.map_or_else(|| name.to_owned(), |call| format!("sys_{call}")))
}

fn without_copies(mut name: &str) -> &str {
    loop {
        let Some((head, tail)) = name.rsplit_once('.') else { return name };
        if head.is_empty() {
            return name;
        }
        let numbered = !tail.is_empty() && tail.bytes().all(|byte| byte.is_ascii_digit());
        name = match head.rsplit_once('.') {
            Some((shorter, kind)) if numbered && COPIES.contains(&kind) && !shorter.is_empty() => shorter,
            _ if COPIES.contains(&tail) => head,
            _ => return name,
        };
    }
}

/// Rust's hash of a function, where it was not left out when it was demangled.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((head, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => head,
        _ => name,
    }
}

/// `libc` of `/usr/lib/x86_64-linux-gnu/libc-2.31.so` and of `libc.so.6`; nothing of the kernel.
fn module(path: &str) -> &str {
    let path = path.trim().strip_suffix(" (deleted)").unwrap_or(path.trim());
    let file = path.rsplit('/').next().unwrap_or_default();
    if file == "[kernel.kallsyms]" {
        return "";
    }
    let name = file.find(".so").map_or(file, |at| &file[..at]);
    let name = match name.rsplit_once('-') {
        Some((head, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => head,
        _ => name,
    };
    let short = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
    if short.is_empty() { name } else { short }
}

/// A name of a process or a workload's part without what counts it: `kworker` of `kworker/3:1`, `worker` of `worker-17`.
pub(crate) fn uncounted(name: &str) -> String {
    let name = name.trim();
    let name = match name.strip_prefix("kworker") {
        Some(_) => "kworker",
        None => name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '#' | ':')),
    };
    name.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(symbol: &str) -> Option<String> {
        normalise(Frame { symbol, module: "[kernel.kallsyms]" })
    }

    fn user(symbol: &str, module: &str) -> Option<String> {
        normalise(Frame { symbol, module })
    }

    #[test]
    fn the_generic_frames_are_sorted() {
        assert!(GENERIC.is_sorted());
    }

    #[test]
    fn what_a_compiler_or_a_processor_adds_is_left_out() {
        for (symbol, expected) in [
            ("vfs_read", Some("vfs_read")),
            ("shrink_node.isra.0", Some("shrink_node")),
            ("shrink_node.constprop.0.isra.0", Some("shrink_node")),
            ("do_fault.part.12", Some("do_fault")),
            ("tcp_ack.cold", Some("tcp_ack")),
            ("tcp_ack.isra.0.cold.17", Some("tcp_ack")),
            ("blk_mq_run.llvm.4711", Some("blk_mq_run")),
            ("__x64_sys_getdents64", Some("sys_getdents64")),
            ("__arm64_sys_getdents64", Some("sys_getdents64")),
            ("iterate_dir+0x9f/0x1c0", Some("iterate_dir")),
            ("entry_SYSCALL_64_after_hwframe", None),
            ("x64_sys_call", None),
            ("finish_task_switch.isra.0", None),
            ("0xffffffff81234567", None),
            ("", None),
        ] {
            assert_eq!(kernel(symbol).as_deref(), expected, "{symbol}");
        }
    }

    #[test]
    fn names_of_other_languages_stay() {
        assert_eq!(user("main.(*Server).serve", "/app/server"), Some("server!main.(*Server).serve".into()));
        assert_eq!(user("shop::cart::total::h0123456789abcdef", "/app/shop"), Some("shop!shop::cart::total".into()));
        assert_eq!(user("shop::hash", "/app/shop"), Some("shop!shop::hash".into()));
        assert_eq!(user("Cart::add(int) [clone .isra.0]", "/app/shop"), Some("shop!Cart::add(int)".into()));
    }

    #[test]
    fn a_module_has_neither_directory_nor_version() {
        for path in ["/usr/lib/libc-2.31.so", "/lib64/libc.so.6", "libc.so"] {
            assert_eq!(user("memcpy", path), Some("libc!memcpy".into()), "{path}");
        }
        assert_eq!(user("eval", "/usr/bin/python3.11"), Some("python!eval".into()));
        assert_eq!(user("eval", "/usr/lib/libpython3.11.so.1.0 (deleted)"), Some("libpython!eval".into()));
        assert_eq!(user("", "/opt/app-1.2.3"), Some("app!?".into()));
        assert_eq!(user("", ""), None);
        assert_eq!(user("f", "/opt/7"), Some("7!f".into()));
    }

    #[test]
    fn processes_of_one_kind_have_one_name() {
        for (name, expected) in [("kworker/u8:3", "kworker"), ("worker-17", "worker"), ("nginx", "nginx"), ("7", "")] {
            assert_eq!(uncounted(name), expected);
        }
    }
}
