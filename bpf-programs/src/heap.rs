//! The one call into the allocator: free memory goes back to the kernel.
#![allow(unsafe_code, reason = "malloc_trim has no safe wrapper")]

/// Gives free memory of the heap back to the kernel. Parsed BTF and symbol tables are tens of megabytes that would stay
/// in the resident set for good.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes its own locks and only touches memory that nobody owns.
    unsafe {
        libc::malloc_trim(0);
    }
}
