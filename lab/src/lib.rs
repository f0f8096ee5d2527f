//! Multi-node labs.

#![forbid(unsafe_code)]
