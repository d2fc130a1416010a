//! Fuzzes `wharf_cgroup::untrusted::mounts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_cgroup::untrusted::mounts(bytes));
