//! Events of governance; their source is the singleton, which counts them.

use common::Address;

common::events! {
    /// The singleton exists.
    pub struct GovernanceInitialized { pub authority: Address, pub guardian: Address, pub network: u64, }
    /// Parameters are set for an epoch and later ones; their values are in the account and in the instruction.
    pub struct ParamsSet { pub effective_epoch: u32, pub schedule_version: u16, }
    /// A new oracle set is in force from a time on.
    pub struct OraclesSet { pub version: u32, pub threshold: u8, pub count: u8, pub from: i64, }
    /// A program is paused until a time, or an earlier pause ends then.
    pub struct PauseSet { pub program: u8, pub until: i64, pub by: Address, }
    /// A handover is proposed.
    pub struct AuthorityProposed { pub new: Address, }
    /// A handover is done.
    pub struct AuthorityChanged { pub former: Address, pub new: Address, }
}
