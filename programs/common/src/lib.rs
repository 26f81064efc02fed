//! What all GridTokenX programs share. Here: loading accounts by construction, typed quantities, the Merkle tree and batches,
//! errors, events, layouts, and the IDL made from them. Not here: what any instruction does.
//!
//! On chain the crate is `no_std` without allocation; on a host it also prints the IDL (`idl`).
#![no_std]

#[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
extern crate std;

pub mod accounts;
pub mod args;
pub mod batch;
pub mod errors;
pub mod events;
#[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
pub mod idl;
pub mod ids;
pub mod instructions;
pub mod layout;
pub mod merkle;
pub mod pda;
pub mod quantities;
pub mod state;

pub use errors::Error;
pub use pinocchio::{error::ProgramError, AccountView, Address, ProgramResult};
