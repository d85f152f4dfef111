#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| waterfill_fuzz::model("fuzz.pth", data));
