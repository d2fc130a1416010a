//! Fuzzes `wharf_runtime::untrusted::mount_options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_runtime::untrusted::mount_options(bytes));
