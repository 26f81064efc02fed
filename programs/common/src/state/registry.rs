//! Accounts of the registry: `["registry"]`, `["user", wallet]`, `["meter", meter_id]`, `["metered", epoch]`.

use pinocchio::{error::ProgramError, Address};

use crate::{account, errors::Error, ids, layout, quantities::Wh};

/// Status of a user or a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    Pending = 0,
    Active = 1,
    Suspended = 2,
    Retired = 3,
}

impl Status {
    /// The status of a number, `InvalidData` above 3.
    pub fn from_u8(number: u8) -> Result<Self, ProgramError> {
        Ok(match number {
            0 => Self::Pending,
            1 => Self::Active,
            2 => Self::Suspended,
            3 => Self::Retired,
            _ => return Err(Error::InvalidData.into()),
        })
    }

    /// pending → active ⇄ suspended; anything may retire; retired is the end.
    pub fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending | Self::Suspended, Self::Active)
                | (Self::Active, Self::Suspended)
                | (Self::Pending | Self::Active | Self::Suspended, Self::Retired)
        )
    }
}

/// `Metered::kind` of a voided run: no batch is of this kind.
pub const KIND_VOID: u8 = 4;

layout! {
    /// Totals over all meters since their baselines: minted − deficit = production − consumption, always.
    pub struct Registry {
        pub network: u64,
        /// Users ever approved.
        pub users: u64,
        /// Meters ever approved.
        pub meters: u64,
        pub minted_wh: Wh,
        pub deficit_wh: Wh,
        pub production_wh: Wh,
        pub consumption_wh: Wh,
        pub event_seq: u64,
    }

    /// A participant.
    pub struct User {
        pub wallet: Address,
        pub zone: u16,
        /// 0 consumer, 1 prosumer.
        pub user_type: u8,
        pub status: u8,
        pub bump: u8,
        pub _pad: [u8; 3],
        pub event_seq: u64,
    }

    /// A meter; its energies count from the baseline registers on.
    pub struct Meter {
        pub owner: Address,
        pub device_key: Address,
        pub meter_id: [u8; 32],
        pub id_len: u8,
        /// 0 Solar, 1 Grid, 2 Hybrid.
        pub meter_type: u8,
        pub status: u8,
        pub bump: u8,
        pub zone: u16,
        /// Times it was registered again, after a registration that was never admitted had been retired.
        pub registrations: u16,
        pub rating_w: u32,
        pub first_epoch: u32,
        /// Last settled epoch; 0: never settled. Readmission sets it to the epoch before the first one that counts again.
        pub last_epoch: u32,
        /// First epoch that is not settled any more (suspension, retirement); u32::MAX: none, 0: never admitted.
        pub inactive_from: u32,
        /// Last resettlement run with an entry of this meter: at most one entry a run.
        pub corrected_epoch: u32,
        pub corrected_run: u16,
        pub _pad: u16,
        pub baseline_production_wh: Wh,
        pub baseline_consumption_wh: Wh,
        pub production_wh: Wh,
        pub consumption_wh: Wh,
        pub minted_wh: Wh,
        pub deficit_wh: Wh,
        pub claimed_erc_wh: Wh,
        /// The key that signs readings from the start of `key_from_epoch` on; zeros: none was ever named.
        pub next_device_key: Address,
        pub key_from_epoch: u32,
        pub _pad1: u32,
    }

    /// What the registry has booked for an epoch, in its present run.
    pub struct Metered {
        pub payer: Address,
        pub epoch: u32,
        pub run: u16,
        pub kind: u8,
        pub bump: u8,
        /// Batches applied in this run.
        pub applied: u16,
        pub _pad: [u8; 6],
        /// Added to the meters' minted in this run; of a resettlement the sum of positive x.
        pub minted_wh: Wh,
        /// Added to the meters' deficit in this run; of a resettlement the sum of positive x.
        pub deficit_wh: Wh,
        /// Minted by CPI into the trading vault in this run.
        pub minted_tokens_wh: Wh,
        /// Σ|x| of negative x of a resettlement: taken off minted and off deficit.
        pub x_negative_wh: Wh,
        /// Σ 1.1 × rating × 15 min over the meters of a resettlement: the most it may move.
        pub shift_bound_wh: Wh,
        pub bitmap: [u8; 128],
    }
}
account!(Registry, ids::REGISTRY_ID);
account!(User, ids::REGISTRY_ID);
account!(Meter, ids::REGISTRY_ID);
account!(Metered, ids::REGISTRY_ID);

impl Meter {
    /// The key that signs the readings of an epoch.
    #[inline(always)]
    pub fn device_key_at(&self, epoch: u32) -> &Address {
        if self.key_from_epoch != 0 && self.key_from_epoch <= epoch {
            &self.next_device_key
        } else {
            &self.device_key
        }
    }

    /// The epoch that the next entry must begin with.
    #[inline(always)]
    pub fn next_epoch(&self) -> u32 {
        if self.last_epoch == 0 {
            self.first_epoch
        } else {
            self.last_epoch + 1
        }
    }

    /// Whether that many epochs can hold the energy at 1.1 × rating. A boundary's reading is up to 60 s old, so the readings
    /// of n epochs span up to 15 n + 1 minutes; a register counts whole Wh, so the bound is rounded up: a meter that keeps
    /// its rating can't stop the batch it is in. wh × 600 < rating × 11 × (15 n + 1) + 600; all terms stay below 2⁵⁶.
    #[inline(always)]
    pub fn within_rating(&self, energy_wh: u32, epochs: u16) -> bool {
        (energy_wh as u64) * 600 < self.rating_w as u64 * 11 * (15 * epochs as u64 + 1) + 600
    }

    /// The most that a corrected boundary moves: 1.1 × rating × 15 min, rounded down.
    #[inline(always)]
    pub fn shift_bound(&self) -> u64 {
        self.rating_w as u64 * 11 / 40
    }

    /// minted − deficit = production − consumption, in sums so that nothing goes negative.
    #[inline(always)]
    pub fn invariant_holds(&self) -> bool {
        self.minted_wh + self.consumption_wh == self.deficit_wh + self.production_wh
    }
}

impl Registry {
    /// The same over all meters.
    #[inline(always)]
    pub fn invariant_holds(&self) -> bool {
        self.minted_wh + self.consumption_wh == self.deficit_wh + self.production_wh
    }
}
