//! `["attestation", kind, epoch, run]`: what k of n oracles agree on.

use pinocchio::{error::ProgramError, Address};

use crate::{account, errors::Error, ids, layout, require};

/// What a root is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Metering = 0,
    Clearing = 1,
    Late = 2,
    Resettlement = 3,
}

impl Kind {
    /// The kind of a number, `InvalidData` above 3.
    pub fn from_u8(number: u8) -> Result<Self, ProgramError> {
        Ok(match number {
            0 => Self::Metering,
            1 => Self::Clearing,
            2 => Self::Late,
            3 => Self::Resettlement,
            _ => return Err(Error::InvalidData.into()),
        })
    }

    /// Metering and clearing have run 0 only, the others never.
    pub fn allows_run(self, run: u16) -> bool {
        matches!(self, Self::Metering | Self::Clearing) == (run == 0)
    }
}

layout! {
    /// Votes on one root; final once k are equal.
    pub struct Attestation {
        pub epoch: u32,
        pub run: u16,
        pub kind: u8,
        pub is_final: u8,
        /// Oracle set that the votes are of; votes of an older set are dropped.
        pub set_version: u32,
        /// Bit per oracle of the set.
        pub voted: u16,
        pub bump: u8,
        pub _pad: u8,
        /// The final root; zeros before.
        pub root: [u8; 32],
        pub payer: Address,
        pub roots: [[u8; 32]; 16],
        pub event_seq: u64,
    }
}
account!(Attestation, ids::ORACLE_ID);

impl Attestation {
    /// The final root for this kind, epoch and run. The fields are the seeds: only the oracle program writes them, once, at
    /// the address that they derive, so no derivation is repeated here.
    #[inline(always)]
    pub fn final_root(&self, kind: Kind, epoch: u32, run: u16) -> Result<&[u8; 32], ProgramError> {
        require!(
            self.kind == kind as u8 && self.epoch == epoch && self.run == run,
            Error::WrongAttestation
        );
        require!(self.is_final == 1, Error::NotFinal);
        Ok(&self.root)
    }
}
