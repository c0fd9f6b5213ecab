//! Names for stacks that have been seen before.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::settings::Invalid;

/// Reasons that recur on any fleet. Functions that compilers like to inline are not relied on.
const KNOWN: [(&str, &str); 13] = [
    (
        "filesystem is frozen",
        r"percpu_(rwsem_wait|down_read).*(mnt_want_write|sb_start|vfs_|iter_file|do_sys_open|do_filp_open|_fault)",
    ),
    ("memory is reclaimed", r"try_to_free_(mem_cgroup_)?pages|throttle_direct_reclaim"),
    ("swap is slow", r"do_swap_page"),
    ("NFS server does not answer", r"rpc_wait_bit_killable|nfs_wait_bit_killable|nfs4_\w*wait"),
    ("FUSE daemon does not answer", r"fuse_simple_request|request_wait_answer"),
    ("journal of ext4 is waited for", r"jbd2_log_wait_commit|wait_transaction_locked|start_this_handle"),
    ("log of XFS is waited for", r"xlog_grant_head_wait|xlog_wait|xfs_log_force"),
    ("writers are throttled by dirty pages", r"balance_dirty_pages"),
    ("block device is saturated", r"blk_mq_get_tag|rq_qos_wait|wbt_wait|blk_throtl"),
    ("memory map of the process is locked", r"rwsem_down_(read|write).*(_fault|mmap|munmap|mprotect|exit_mm)"),
    ("lock of cgroups is waited for", r"(mutex|rwsem|percpu).*(cgroup_kn_lock|cgroup_attach|cgroup_procs_write)"),
    ("RCU grace period is waited for", r"synchronize_rcu|__wait_rcu_gp"),
    // Nothing in the kernel is stuck then. `clone` with CLONE_VFORK, as of posix_spawn, has no function of its own.
    (
        "parent of vfork waits for its child, which is no fault of the kernel",
        r"vfork|wait_for_(common|completion)\w* < kernel_clone",
    ),
];

/// What stacks of a kind mean.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Issue {
    /// What events call it.
    pub name: String,
    /// Regular expression on the stack.
    pub pattern: String,
}

/// The same, ready to be matched.
#[derive(Debug, Clone)]
pub(super) struct Issues(Vec<(String, Regex)>);

impl Issues {
    /// `own` come before those that are known anyway.
    pub(super) fn new(own: &[Issue]) -> Result<Self, Invalid> {
        let own = own.iter().map(|issue| (issue.name.as_str(), issue.pattern.as_str()));
        let compiled = own.chain(KNOWN).map(|(name, pattern)| match Regex::new(pattern) {
            Ok(regex) => Ok((name.to_owned(), regex)),
            Err(source) => Err(Invalid::Pattern { name: name.to_owned(), source }),
        });
        Ok(Self(compiled.collect::<Result<_, _>>()?))
    }

    /// `stack`: function names, the innermost first.
    pub(super) fn of(&self, stack: &[String]) -> Option<&str> {
        let text = stack.join(" < ");
        self.0.iter().find(|(_, pattern)| pattern.is_match(&text)).map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_matches_names_the_stack() {
        let own = Issue { name: "our disk".into(), pattern: "^io_schedule < our_read".into() };
        let issues = Issues::new(&[own]).unwrap();
        let of = |stack: &str| issues.of(&stack.split(' ').map(str::to_owned).collect::<Vec<_>>()).map(str::to_owned);
        assert_eq!(of("percpu_rwsem_wait mnt_want_write path_openat").as_deref(), Some("filesystem is frozen"));
        assert_eq!(of("__percpu_down_read vfs_write ksys_write").as_deref(), Some("filesystem is frozen"));
        let vfork = Some("parent of vfork waits for its child, which is no fault of the kernel");
        assert_eq!(of("kernel_clone __do_sys_vfork").as_deref(), vfork);
        for wait in ["__wait_for_common", "wait_for_completion_state", "wait_for_completion_killable"] {
            assert_eq!(of(&format!("{wait} kernel_clone __do_sys_clone3")).as_deref(), vfork);
        }
        assert_eq!(of("wait_for_completion copy_process kernel_clone"), None);
        assert_eq!(
            of("percpu_rwsem_wait cgroup_attach_lock cgroup_procs_write").as_deref(),
            Some("lock of cgroups is waited for")
        );
        assert_eq!(of("io_schedule our_read do_swap_page").as_deref(), Some("our disk"));
        assert_eq!(of("io_schedule submit_bio_wait"), None);
        assert_eq!(of(""), None);
    }
}
