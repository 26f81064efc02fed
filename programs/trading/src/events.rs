//! Events of trading. Their source and counter: the market, except that a mandate or order is the trader's event and a commitment
//! the epoch's (numbered by its run). Batches log nothing: their instruction data in the ledger's history is the event.

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::Market,
    Address,
};

common::events! {
    /// The market and its vaults exist.
    pub struct MarketInitialized { pub network: u64, pub time_mode: u8, }
    /// A household's account exists.
    pub struct TraderOpened { pub trader: Address, pub owner: Address, pub zone: u16, }
    /// THBC went into a trader's balance; `repaid_uthb` of it paid debt.
    pub struct Deposited { pub trader: Address, pub amount_uthb: MicroThb, pub repaid_uthb: MicroThb, }
    /// GRID that had been withdrawn came back into a trader's balance.
    pub struct GridDeposited { pub trader: Address, pub energy_wh: Wh, }
    /// A trader asked for these amounts; they cover nothing after this epoch.
    pub struct WithdrawalRequested { pub epoch: u32, pub amount_uthb: MicroThb, pub energy_wh: Wh, }
    /// A requested withdrawal was paid: what was asked for, as far as it was still there.
    pub struct Withdrawn { pub trader: Address, pub amount_uthb: MicroThb, pub energy_wh: Wh, }
    /// THBC went into a market account.
    pub struct AccountFunded { pub account: u8, pub amount_uthb: MicroThb, }
    /// An epoch is open with the rates in force.
    pub struct EpochOpened {
        pub epoch: u32,
        pub schedule_version: u16,
        pub tariff: PriceUthb,
        pub tariff_on_peak: PriceUthb,
        pub tariff_off_peak: PriceUthb,
        pub feed_in: PriceUthb,
        pub fee_bp: u16,
    }
    /// A mandate acts from an epoch on.
    pub struct MandateSet { pub effective_epoch: u32, pub end_epoch: u32, pub sell_min: PriceUthb, pub buy_max: PriceUthb, pub max_wh: u32, pub buy_back: u8, }
    /// No mandate acts from this epoch on.
    pub struct MandateRevoked { pub end_epoch: u32, }
    /// A signed order is recorded.
    pub struct OrderRecorded { pub epoch: u32, pub nonce: u64, pub side: u8, pub limit: PriceUthb, pub energy_wh: u32, }
    /// An order was placed on chain; `energy_wh` was added to the slot.
    pub struct OrderPlaced { pub number: u64, pub slot: u8, pub epoch: u32, pub side: u8, pub limit: PriceUthb, pub energy_wh: u32, }
    /// An order on chain was taken back.
    pub struct OrderCancelled { pub number: u64, pub slot: u8, pub energy_wh: u32, }
    /// Two orders on chain traded. The seller got cost − wheeling − fee, of which `repaid_uthb` paid debt.
    pub struct EnergyTraded {
        pub buyer: Address,
        pub seller: Address,
        pub buy_number: u64,
        pub sell_number: u64,
        pub energy_wh: Wh,
        pub price: PriceUthb,
        pub cost_uthb: MicroThb,
        pub fee_uthb: MicroThb,
        pub wheeling_uthb: MicroThb,
        pub repaid_uthb: MicroThb,
    }
    /// Continuous trading halted: this price lies more than 10 % away from one of the minute before.
    pub struct MarketHalted { pub price: PriceUthb, }
    /// Continuous trading goes on.
    pub struct MarketResumed { pub settled_through: u32, }
    /// Epochs from one to before another are without auctions.
    pub struct ContinuousSet { pub from_epoch: u32, pub end_epoch: u32, pub wheeling: PriceUthb, }
    /// A run's header is committed.
    pub struct RunCommitted { pub epoch: u32, pub run: u16, pub kind: u8, pub run_seq: u64, pub flags: u16, pub trading_batches: u16, }
    /// A run is void: final, empty; `run_seq` 0: it used none.
    pub struct RunVoided { pub epoch: u32, pub run: u16, pub kind: u8, pub run_seq: u64, }
    /// An epoch is closed for good, its rent given back.
    pub struct EpochWasClosed { pub epoch: u32, }
    /// A run is final; its sums are in the epoch account until the next run is committed.
    pub struct RunFinalised {
        pub epoch: u32,
        pub run: u16,
        pub kind: u8,
        pub run_seq: u64,
        pub net_wh: i64,
        pub bought_wh: Wh,
        pub sold_wh: Wh,
        pub cost_uthb: MicroThb,
        pub proceeds_uthb: MicroThb,
        pub fee_uthb: MicroThb,
        pub zone_wheeling_uthb: MicroThb,
        pub residual_wh: Wh,
        pub billed_uthb: MicroThb,
        pub paid_uthb: MicroThb,
        pub debt_repaid_uthb: MicroThb,
        pub bought_back_wh: Wh,
        pub buy_back_uthb: MicroThb,
        pub refund_wh: Wh,
        pub refund_uthb: MicroThb,
        pub returned_wh: Wh,
        pub returned_uthb: MicroThb,
        pub burned_tokens_wh: Wh,
    }
}

/// The number of the market's next event.
pub fn next_of(market: &mut Market) -> u64 {
    let seq = market.event_seq;
    market.event_seq = seq + 1;
    seq
}
