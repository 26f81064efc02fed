//! `["validators"]`, `["proposal", id]`, `["vote", proposal, validator]`: who may change a parameter by vote, and how far it got.
//!
//! Not here: what a parameter is and how votes are counted (governance's `voting`).

use pinocchio::Address;

use crate::{account, ids, layout};

/// Most validators, as votes are 32-bit maps.
pub const MAX_VALIDATORS: usize = 32;

layout! {
    /// A place in the validator set; the zero key: free. Places never move, so that votes can be counted by place.
    pub struct Seat {
        pub key: Address,
        /// Version of the set that the key joined with.
        pub since: u32,
        pub _pad: u32,
    }

    /// The proof-of-authority set that the authority admits.
    pub struct Validators {
        /// Counts every admission and removal.
        pub version: u32,
        pub count: u8,
        pub bump: u8,
        pub _pad: [u8; 2],
        /// Proposals ever made; the next one's id.
        pub proposals: u64,
        pub event_seq: u64,
        pub seats: [Seat; 32],
    }

    /// One parameter and the value proposed for it.
    pub struct Proposal {
        pub proposer: Address,
        pub payer: Address,
        pub id: u64,
        pub value: u64,
        pub created_at: i64,
        /// Unix seconds; votes count before it.
        pub voting_ends_at: i64,
        /// Unix seconds; end of the time-lock.
        pub executable_at: i64,
        /// Unix seconds; not executed by then, it lapses.
        pub expires_at: i64,
        /// Version of the validator set when it was made: who joined later has no vote.
        pub set_version: u32,
        /// Bit per seat.
        pub yes: u32,
        pub no: u32,
        /// Epoch that the value acts from, once executed.
        pub effective_epoch: u32,
        pub parameter: u8,
        /// 1: executed.
        pub executed: u8,
        /// Validators when it was made: quorum counts against them.
        pub eligible: u8,
        pub bump: u8,
        pub _pad: [u8; 4],
        pub event_seq: u64,
    }

    /// Its existence says that the validator has voted.
    pub struct Vote {
        pub proposal: Address,
        pub validator: Address,
        pub payer: Address,
        pub cast_at: i64,
        /// 1: yes.
        pub approve: u8,
        pub bump: u8,
        pub _pad: [u8; 6],
    }
}
account!(Validators, ids::GOVERNANCE_ID);
account!(Proposal, ids::GOVERNANCE_ID);
account!(Vote, ids::GOVERNANCE_ID);

impl Validators {
    /// The seat of a key; the zero key has none.
    #[inline(always)]
    pub fn seat_of(&self, key: &Address) -> Option<usize> {
        if key.as_array() == &[0; 32] {
            return None;
        }
        self.seats.iter().position(|seat| &seat.key == key)
    }

    /// The lowest free seat.
    #[inline(always)]
    pub fn free_seat(&self) -> Option<usize> {
        self.seats.iter().position(|seat| seat.key.as_array() == &[0; 32])
    }
}
