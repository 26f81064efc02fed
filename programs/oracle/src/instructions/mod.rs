//! One file an instruction.

pub mod attest;
pub mod close_attestation;
pub mod get_price;
pub mod update_price;
