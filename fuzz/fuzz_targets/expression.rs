#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    kafkeep_fuzz::expression(bytes);
});
