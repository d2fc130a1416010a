//! Fuzzes `wharf_cgroup::untrusted::bus_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wharf_cgroup::untrusted::bus_message(bytes));
