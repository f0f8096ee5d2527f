//! See `policy::invariants::objects_parse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| policy::invariants::objects_parse(text));
