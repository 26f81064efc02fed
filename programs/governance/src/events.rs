//! Events of governance. The source is the account that counts: the singleton, the validator set, a proposal, a certificate.

use common::{quantities::Wh, Address};

common::events! {
    /// The singleton exists.
    pub struct GovernanceInitialized { pub authority: Address, pub guardian: Address, pub network: u64, }
    /// Parameters are set for an epoch and later ones; their values are in the account and in the instruction.
    pub struct ParamsSet { pub effective_epoch: u32, pub schedule_version: u16, }
    /// A new oracle set is in force from a time on.
    pub struct OraclesSet { pub version: u32, pub threshold: u8, pub count: u8, pub from: i64, }
    /// A program is paused until a time, or an earlier pause ends then.
    pub struct PauseSet { pub program: u8, pub until: i64, pub by: Address, }
    /// Another guardian is announced; it acts from a time on.
    pub struct GuardianSet { pub new: Address, pub from: i64, }
    /// A handover is proposed.
    pub struct AuthorityProposed { pub new: Address, }
    /// A handover is done.
    pub struct AuthorityChanged { pub former: Address, pub new: Address, }
    /// A validator took a seat; source: the validator set.
    pub struct ValidatorAdmitted { pub validator: Address, pub version: u32, pub seat: u8, }
    /// A validator's seat is free; source: the validator set.
    pub struct ValidatorRemoved { pub validator: Address, pub version: u32, pub seat: u8, }
    /// A proposal is open for votes; source: the proposal, as for the two after it.
    pub struct ProposalCreated { pub id: u64, pub proposer: Address, pub parameter: u8, pub value: u64, pub voting_ends_at: i64, }
    /// A validator voted.
    pub struct VoteCast { pub id: u64, pub validator: Address, pub approve: u8, }
    /// The value is among the next parameters; their `ParamsSet` follows.
    pub struct ProposalExecuted {
        pub id: u64, pub parameter: u8, pub value: u64, pub effective_epoch: u32, pub yes: u8, pub no: u8,
    }
    /// A certificate exists and claims production; source: the certificate, as for the others of certificates.
    pub struct ErcIssued {
        pub certificate_id: [u8; 32], pub meter: Address, pub holder: Address, pub energy_wh: Wh, pub expires_at: i64,
    }
    /// A certificate may be traded.
    pub struct ErcValidated { pub certificate_id: [u8; 32], }
    /// A certificate has another holder.
    pub struct ErcTransferred { pub certificate_id: [u8; 32], pub from: Address, pub to: Address, }
    /// A certificate is used up for a beneficiary.
    pub struct ErcRetired { pub certificate_id: [u8; 32], pub holder: Address, pub beneficiary: Address, pub energy_wh: Wh, }
    /// A certificate is void and its claim given back.
    pub struct ErcRevoked { pub certificate_id: [u8; 32], pub meter: Address, pub holder: Address, pub energy_wh: Wh, }
}
