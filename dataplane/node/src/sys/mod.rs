//! System calls that no safe library offers in the form that the fast path or the TAP needs: one safe function each, with
//! the reason why it is sound and why it is needed. The only `unsafe` code of the workspace.

pub(crate) mod clock;
pub(crate) mod limits;
pub(crate) mod netns;
pub(crate) mod packet;
pub(crate) mod tap;
pub(crate) mod udp;
