//! The calls into the allocator: free memory goes back to the kernel.
#![allow(unsafe_code, reason = "mallopt and malloc_trim have no safe wrappers")]

/// Has the heap give back what is freed, now and from now on. To be called once, before threads are started.
///
/// glibc's own choices are for programs that need their largest heap again: it keeps an arena for each thread, of which
/// [`release_free_memory`] cannot give back the end, and after a large block was freed it holds on to as much.
pub fn keep_heap_small() {
    /// glibc's default, which it would raise by itself.
    #[cfg(target_env = "gnu")]
    const THRESHOLD: libc::c_int = 128 * 1024;
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes its own locks, and these settings are allowed at any time.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
        libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
    }
}

/// Gives free memory of the heap back to the kernel. Parsed BTF and symbol tables are tens of megabytes that would stay
/// in the resident set for good.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes its own locks and only touches memory that nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
}
