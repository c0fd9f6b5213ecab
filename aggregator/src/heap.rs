//! The call into the allocator.
#![allow(unsafe_code, reason = "mallopt has no safe wrapper")]

/// Has the heap give back large blocks as soon as they are freed. To be called once, before threads are started.
///
/// glibc does so by itself until the first large block is freed; then it keeps all up to that size. The index makes and
/// drops megabytes for each commit, which would stay, with holes between what lasts.
pub(crate) fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        /// Larger than a batch, so that what each session needs again and again is not mapped each time.
        const LARGE: libc::c_int = 256 * 1024;
        // SAFETY: mallopt takes its own locks, and this setting is allowed at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
