//! Fuzzes `wharf_runtime::untrusted::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_runtime::untrusted::config(bytes));
