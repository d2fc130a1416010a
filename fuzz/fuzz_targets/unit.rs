//! Fuzzes `wharf_cgroup::untrusted::unit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_cgroup::untrusted::unit(bytes));
