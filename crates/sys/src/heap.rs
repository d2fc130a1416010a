//! The C library's allocator, for a process that lives long and holds little.

/// Has large blocks mapped by themselves (so that freeing gives them back) and keeps little spare memory.
///
/// `large_bytes`: from which size on a block counts as large.
pub fn keep_small(large_bytes: i32) {
    // SAFETY: mallopt takes two integers and only sets the allocator's parameters.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, large_bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, large_bytes);
        libc::mallopt(libc::M_TOP_PAD, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory back to the kernel.
pub fn trim() {
    // SAFETY: malloc_trim releases only pages that the allocator knows to be free.
    unsafe { libc::malloc_trim(0) };
}
