//! Accounts of the trading program: `Market`, `Trader`, `Epoch`.
//!
//! Here: layouts only (`repr(C)`, every field naturally aligned, padding explicit), as `programs/idl/trading.json` states them;
//! they follow the 8-byte discriminator. Other programs read `Market` and `Epoch` (governance, registry), so the layouts are shared.
//! Not here: what may be done with them (the trading program).

use pinocchio::{
    error::ProgramError,
    sysvars::{clock::Clock, Sysvar},
    Address,
};

use crate::{
    account,
    errors::Error,
    ids, layout,
    quantities::{MicroThb, PriceUthb, Wh},
    require,
};

/// Order slots of a trader.
pub const SLOTS: usize = 8;
/// `Slot::used`.
pub const SLOT_RECORDED: u8 = 1;
pub const SLOT_PLACED: u8 = 2;
/// Seconds kept of the continuous market's prices: a minute and the present second fit.
pub const PRICE_SECONDS: usize = 64;
/// Zones 1 … 63; index 0 is unused.
pub const ZONES: usize = 64;
/// Bytes of the batch bitmap: one bit per leaf index of a run.
pub const BITMAP_BYTES: usize = 128;

/// Status of an epoch's present run.
pub const STATUS_OPEN: u8 = 0;
pub const STATUS_COMMITTED: u8 = 1;
pub const STATUS_FINALISED: u8 = 2;

/// Seconds of an epoch: 15 minutes, aligned to the UTC quarter hour.
pub const EPOCH_SECONDS: u64 = 900;
/// `Market::time_mode`: epochs begin when the authority opens them; 0: by the chain's clock.
pub const TIME_SIMULATED: u8 = 1;

/// Header flags.
pub const FLAG_HALTED: u16 = 1;
pub const FLAG_BUY_BACK: u16 = 2;
/// Each order has a value of its own instead of a price of its zone; batches are `settle_pay_as_bid_batch`.
pub const FLAG_PAY_AS_BID: u16 = 4;

/// Of a voided run; no header has it.
pub const FLAG_VOID: u16 = 1 << 15;

/// Seconds after an epoch's gate from which it may be voided.
const STUCK_SECONDS: u64 = 24 * 3_600;
/// 90 days of epochs: how far ahead anything may be announced that blocks another change until it acts.
const MAX_NOTICE_EPOCHS: u32 = 90 * 96;

/// Side of an order or slot.
pub const SIDE_BUY: u8 = 0;
pub const SIDE_SELL: u8 = 1;

layout! {
    /// Configuration, market accounts, and totals of every term of the laws; runs enter at finalize_epoch, deposits at once.
    pub struct Market {
        pub network: u64,
        pub grid_mint: Address,
        pub thbc_mint: Address,
        pub grid_vault: Address,
        pub thbc_vault: Address,
        pub bump: u8,
        pub time_mode: u8,
        pub _pad0: [u8; 2],
        /// Highest epoch that has been opened; 0 before the first.
        pub last_opened: u32,
        /// Everything at or below it is refused for ever.
        pub closed_through: u32,
        /// Highest epoch whose run 0 is finalised; run 0 goes in epoch order.
        pub settled_through: u32,
        pub finalized_seq: u64,
        pub event_seq: u64,
        pub supplier_grid_wh: Wh,
        pub supplier_thbc_uthb: MicroThb,
        pub platform_thbc_uthb: MicroThb,
        pub grid_operator_thbc_uthb: MicroThb,
        pub traders: u64,
        /// Σ GRID of traders as of the last finalised run.
        pub traders_grid_wh: Wh,
        /// Σ THBC of traders: last finalised run plus deposits since.
        pub traders_thbc_uthb: MicroThb,
        /// Σ debt; signed, since a deposit may repay a debt whose run is not finalised yet.
        pub traders_debt_uthb: i64,
        /// Net of reversals, as law (4) counts: deficit − residual + lost. Signed: a correction may reverse more than was ever burned,
        /// where GRID that it would have taken back has left.
        pub burned_wh: i64,
        /// Net of reversals, Σ of the meters' `minted_wh`.
        pub minted_wh: Wh,
        pub residual_wh: Wh,
        pub lost_wh: Wh,
        /// Σ of the meters' `deficit_wh`.
        pub deficit_wh: Wh,
        /// Σ net of law (2), and Σ traded (bought − sold) of law (3).
        pub net_wh: i64,
        pub traded_wh: i64,
        /// Tokens burned by CPI, gross.
        pub tokens_burned_wh: Wh,
        /// Mints and burns that a resettlement set against each other.
        pub reversed_wh: Wh,
        pub cost_uthb: MicroThb,
        pub proceeds_uthb: MicroThb,
        pub fee_uthb: MicroThb,
        pub zone_wheeling_uthb: MicroThb,
        pub link_wheeling_uthb: MicroThb,
        pub rent_uthb: i64,
        /// Law (6): billed + returned = paid + repaid + debt; a refund is on both sides.
        pub billed_uthb: MicroThb,
        pub paid_uthb: MicroThb,
        /// Out of credits of runs and out of deposits.
        pub debt_repaid_uthb: MicroThb,
        pub refund_wh: Wh,
        pub refund_uthb: MicroThb,
        pub bought_back_wh: Wh,
        pub buy_back_uthb: MicroThb,
        pub returned_wh: Wh,
        pub returned_uthb: MicroThb,
        /// Deposits of traders, and funds put into the market accounts.
        pub deposited_uthb: MicroThb,
        pub funded_uthb: MicroThb,
        /// Left the vaults by withdrawals, gross; GRID deposited again comes back out of it.
        pub withdrawn_uthb: MicroThb,
        pub withdrawn_grid_wh: Wh,
        pub deposited_grid_wh: Wh,
        /// Orders ever placed on chain: the number of an order is its place in arrival order.
        pub order_seq: u64,
        /// Traded by matching, bought and sold alike.
        pub matched_wh: Wh,
        /// Epochs `from ≤ e < end` have no auction; in them orders on chain are matched continuously, at this wheeling.
        pub continuous_from: u32,
        pub continuous_end: u32,
        pub continuous_wheeling: PriceUthb,
        /// Epochs at or below it may be voided at once: they were over when an epoch before them was voided.
        pub void_through: u32,
        /// Continuous trading is halted until the authority resumes it.
        pub halted: u8,
        pub _pad1: [u8; 7],
        /// Lowest and highest price matched in each second of the last minute, at index second mod 64.
        pub prices: [PriceSecond; PRICE_SECONDS],
        /// The last seq that a run was committed with: each is committed once, in order, so that no second run can share one.
        pub committed_seq: u64,
    }

    /// Prices matched in one second of the chain's clock; `at` in Unix seconds, 0: none yet.
    pub struct PriceSecond {
        pub at: u32,
        pub low: PriceUthb,
        pub high: PriceUthb,
    }

    /// A standing instruction; acts in epochs `effective_epoch ≤ e < end_epoch`. Not set: effective u32::MAX, end 0.
    pub struct Mandate {
        /// Unix seconds of the chain's clock when it was set: its priority.
        pub set_at: i64,
        pub effective_epoch: u32,
        pub end_epoch: u32,
        /// Lowest price it sells for; 0: does not sell.
        pub sell_min: PriceUthb,
        /// Highest price it buys at, all-in; 0: does not buy.
        pub buy_max: PriceUthb,
        pub max_wh: u32,
        pub buy_back: u8,
        pub is_set: u8,
        pub _pad: u16,
    }

    /// A recorded order's allowance.
    pub struct Slot {
        pub epoch: u32,
        pub limit: PriceUthb,
        pub energy_wh: u32,
        pub side: u8,
        /// 0 free, 1 recorded (signed and filled), 2 placed on chain.
        pub used: u8,
        pub _pad: u16,
    }

    /// A household's account.
    pub struct Trader {
        pub owner: Address,
        pub zone: u16,
        pub bump: u8,
        pub _pad0: u8,
        /// Epoch that `nonce_bits` is about.
        pub nonce_epoch: u32,
        pub nonce_bits: u64,
        pub grid_wh: Wh,
        pub thbc_uthb: MicroThb,
        /// Owed to the supplier; every credit pays it first.
        pub debt_uthb: MicroThb,
        /// Seq of the last run with an entry of this trader: at most one entry a run.
        pub last_seq: u64,
        pub current: Mandate,
        pub next: Mandate,
        pub slots: [Slot; SLOTS],
        pub event_seq: u64,
        /// A requested withdrawal: it covers no order of an epoch after `pending_epoch`, the last one that had begun.
        pub pending_uthb: MicroThb,
        pub pending_grid_wh: Wh,
        pub pending_epoch: u32,
        pub pending: u8,
        pub _pad1: [u8; 3],
        /// Numbers of the orders in the slots that were placed on chain; adding to one gives it a new number.
        pub placed: [u64; SLOTS],
    }

    /// Price and wheeling of a zone, µTHB/kWh; price 0: no price, no trades.
    pub struct ZonePrice {
        pub price: PriceUthb,
        pub wheeling: PriceUthb,
    }

    /// Sums over the entries of the present run; checked against the laws and booked at its finalisation.
    pub struct RunSums {
        /// Σ credited − Σ drawn, made from them at the end of a batch.
        pub net_wh: i64,
        /// Σ max(net, 0) over the wallets: never above what metering minted in the run.
        pub credited_wh: Wh,
        /// Σ max(−net, 0).
        pub drawn_wh: Wh,
        pub bought_wh: Wh,
        pub sold_wh: Wh,
        pub cost_uthb: MicroThb,
        pub zone_wheeling_uthb: MicroThb,
        pub proceeds_uthb: MicroThb,
        pub fee_uthb: MicroThb,
        pub residual_wh: Wh,
        pub billed_uthb: MicroThb,
        /// Cash paid at once for bills and returned energy.
        pub paid_uthb: MicroThb,
        /// Debt repaid out of proceeds, buy-back and refunds.
        pub debt_repaid_uthb: MicroThb,
        pub bought_back_wh: Wh,
        pub buy_back_uthb: MicroThb,
        pub minted_and_burned_wh: Wh,
        pub refund_wh: Wh,
        pub refund_uthb: MicroThb,
        pub taken_back_wh: Wh,
        pub returned_wh: Wh,
        pub returned_uthb: MicroThb,
        /// What THBC lacked of charges.
        pub debt_incurred_uthb: MicroThb,
    }

    /// A settlement period: rates copied when it was opened, and the present run.
    pub struct Epoch {
        pub payer: Address,
        pub epoch: u32,
        pub run: u16,
        pub kind: u8,
        pub status: u8,
        pub seq: u64,
        pub fee_bp: u16,
        pub vat_bp: u16,
        pub halt_bound_bp: u16,
        pub schedule_version: u16,
        /// Retail tariff of this epoch, one of the two after it.
        pub tariff: PriceUthb,
        pub tariff_on_peak: PriceUthb,
        pub tariff_off_peak: PriceUthb,
        pub feed_in: PriceUthb,
        pub price_min: PriceUthb,
        pub price_max: PriceUthb,
        pub wheeling_cap: PriceUthb,
        pub bump: u8,
        pub _pad0: [u8; 3],
        /// The header of the present run, from here to `rent_uthb`.
        pub registry_batches: u16,
        pub trading_batches: u16,
        pub orders: u16,
        pub flags: u16,
        pub lost_wh: Wh,
        pub link_wheeling_uthb: MicroThb,
        pub rent_uthb: i64,
        /// Trading batches applied.
        pub applied: u16,
        pub _pad1: [u8; 6],
        pub zones: [ZonePrice; ZONES],
        pub bitmap: [u8; BITMAP_BYTES],
        pub sums: RunSums,
    }
}
account!(Market, ids::TRADING_ID);
account!(Trader, ids::TRADING_ID);
account!(Epoch, ids::TRADING_ID);

macro_rules! zero_default {
    ($($name:ident),*) => {$(impl Default for $name {
        fn default() -> Self {
            // SAFETY: every bit pattern of a Pod is valid.
            unsafe { core::mem::zeroed() }
        }
    })*};
}
zero_default!(Market, PriceSecond, Slot, Trader, ZonePrice, RunSums, Epoch);

/// Balances stay below it, so that adding an entry's amounts (below 2⁵⁵) can't wrap and one look at the sign suffices.
pub const BALANCE_LIMIT: u64 = 1 << 63;

/// The epoch that the chain's clock is in.
pub fn clock_epoch(clock: &Clock) -> u32 {
    (clock.unix_timestamp.max(0) as u64 / EPOCH_SECONDS) as u32
}

impl Market {
    /// The last epoch that has begun, for whatever may act from the next one on only: by the clock, opened or not, or by
    /// `open_epoch` where time is simulated.
    pub fn last_begun(&self) -> Result<u32, ProgramError> {
        if self.time_mode == TIME_SIMULATED {
            return Ok(self.last_opened);
        }
        Ok(clock_epoch(&Clock::get()?).max(self.last_opened))
    }

    /// `EndedEpochUnsettled` while an epoch that has ended waits to be settled. Its runs, and those after it, are booked on the balances of
    /// then: GRID or THBC that moved in between would make a run burn, bill or pay otherwise than it was booked, and leave the next
    /// one uncovered.
    pub fn require_caught_up(&self) -> Result<(), ProgramError> {
        if self.settled_through.saturating_add(1) < self.last_begun()? {
            return Err(Error::EndedEpochUnsettled.into());
        }
        Ok(())
    }

    /// That what is announced for an epoch acts from one that hasn't begun, and soon enough that it can't block later changes for
    /// good. Before the first epoch nothing has begun: any first epoch is near.
    ///
    /// Errors: `EffectiveEpochTooEarly`, `EffectiveEpochTooLate`.
    pub fn require_effective(&self, epoch: u32) -> Result<(), ProgramError> {
        let begun = self.last_begun()?;
        require!(epoch > begun, Error::EffectiveEpochTooEarly);
        let near = begun == 0 || epoch - begun <= MAX_NOTICE_EPOCHS;
        require!(near, Error::EffectiveEpochTooLate);
        Ok(())
    }

    /// Whether 24 h have passed since the epoch's gate, its end; where time is simulated, since the last opened epoch began.
    pub fn is_stuck(&self, epoch: u32) -> Result<bool, ProgramError> {
        let now = if self.time_mode == TIME_SIMULATED {
            self.last_opened as u64 * EPOCH_SECONDS
        } else {
            Clock::get()?.unix_timestamp.max(0) as u64
        };
        Ok(now >= (epoch as u64 + 1) * EPOCH_SECONDS + STUCK_SECONDS)
    }

    /// Whether an epoch has no auction.
    #[inline(always)]
    pub fn is_continuous(&self, epoch: u32) -> bool {
        self.continuous_from <= epoch && epoch < self.continuous_end
    }

    /// Whether orders on chain may be matched: every epoch with an auction before is settled, and none has begun after.
    #[inline(always)]
    pub fn trades_continuously(&self, last_begun: u32) -> bool {
        self.continuous_from <= self.settled_through + 1 && last_begun < self.continuous_end
    }
}

impl Trader {
    /// `RunNotFinalised` while a run that has this trader's entry is not finalised: the market's totals don't have it yet.
    #[inline(always)]
    pub fn require_settled(&self, market: &Market) -> Result<(), Error> {
        if self.last_seq > market.finalized_seq {
            return Err(Error::RunNotFinalised);
        }
        Ok(())
    }

    /// GRID and THBC that no withdrawal was requested for.
    #[inline(always)]
    pub fn available(&self) -> (Wh, MicroThb) {
        (
            self.grid_wh.saturating_sub(self.pending_grid_wh),
            self.thbc_uthb.saturating_sub(self.pending_uthb),
        )
    }
}

impl Mandate {
    /// No mandate: it never begins and has ended.
    pub const NONE: Self = Self {
        set_at: 0,
        effective_epoch: u32::MAX,
        end_epoch: 0,
        sell_min: PriceUthb(0),
        buy_max: PriceUthb(0),
        max_wh: 0,
        buy_back: 0,
        is_set: 0,
        _pad: 0,
    };
}
