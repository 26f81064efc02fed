//! `["erc", certificate_id]`: a renewable certificate over whole kWh of a meter's production.
//!
//! Not here: how much of a meter's production is claimed (the registry's `Meter`).

use pinocchio::Address;

use crate::{account, ids, layout, quantities::Wh};

/// Life of a certificate: issued → validated → retired; issued or validated → revoked.
pub const ERC_ISSUED: u8 = 0;
pub const ERC_VALIDATED: u8 = 1;
pub const ERC_RETIRED: u8 = 2;
pub const ERC_REVOKED: u8 = 3;

layout! {
    /// A renewable energy certificate.
    pub struct Certificate {
        pub certificate_id: [u8; 32],
        pub meter: Address,
        /// Owner of the meter when it was issued.
        pub producer: Address,
        /// Who may transfer or retire it.
        pub holder: Address,
        /// For whom it was retired; zeros before.
        pub beneficiary: Address,
        pub energy_wh: Wh,
        /// Unix seconds.
        pub issued_at: i64,
        /// Unix seconds; from then on it can't be validated, transferred, retired or revoked.
        pub expires_at: i64,
        /// Unix seconds; 0 before.
        pub retired_at: i64,
        pub event_seq: u64,
        pub zone: u16,
        /// 0 Solar, 2 Hybrid.
        pub meter_type: u8,
        /// 0 issued, 1 validated, 2 retired, 3 revoked.
        pub status: u8,
        pub bump: u8,
        pub _pad: [u8; 3],
    }
}
account!(Certificate, ids::GOVERNANCE_ID);
