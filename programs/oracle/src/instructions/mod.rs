//! One file an instruction.

pub mod attest;
