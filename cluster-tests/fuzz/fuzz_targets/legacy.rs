#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dos_cluster_fuzz::legacy::check(data));
