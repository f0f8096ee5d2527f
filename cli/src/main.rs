//! The podplane command.

#![forbid(unsafe_code)]

fn main() {}
