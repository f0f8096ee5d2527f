//! The shell around the Switch: TAPs, tunnel sockets, poll loop, shards.
