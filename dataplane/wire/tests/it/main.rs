//! The crate from outside: laws over generated frames, second opinions, and the replay of the fuzz corpus.

mod corpus;
mod frames;
mod properties;
mod second_opinion;
