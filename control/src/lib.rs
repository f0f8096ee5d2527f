//! Where intent comes from and how it reaches the node.

#![forbid(unsafe_code)]
