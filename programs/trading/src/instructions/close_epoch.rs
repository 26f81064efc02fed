//! `close_epoch`: discriminator. Accounts: payer w, market w, epoch w, metered, next_epoch.
//! Once the horizon of resettlement and a day are settled: the rent goes back to whoever paid it. By anyone, in order, and for good.
//!
//! The horizon counts settled epochs, not the clock: runs apply in the order of their seq, so when run 0 of an epoch 15 days on is
//! final, no run of this one that was booked before it can still wait, however long the programs were paused or the oracles down.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Epoch, Market, STATUS_COMMITTED, STATUS_FINALISED},
        Kind, Metered,
    },
    Error, ProgramResult,
};

use crate::events::{next_of, EpochWasClosed};

/// 14 days in which readings may be corrected, and one in which the last correction settles: a resettlement of an epoch reads the
/// epoch before it too.
const HORIZON_EPOCHS: u32 = 15 * 96;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let payer = accounts.refunded()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let epoch = accounts.state_mut::<Epoch>()?;
    let metered = accounts.state::<Metered>()?;
    let next = accounts.state::<Epoch>()?;
    require!(epoch.epoch == market.closed_through + 1, Error::EpochOutOfOrder);
    // A run begun in the registry has minted, and must be finalised.
    let idle = epoch.status == STATUS_FINALISED && metered.epoch == epoch.epoch && metered.run == epoch.run;
    require!(idle && epoch.epoch <= market.settled_through, Error::WrongStatus);
    let over = market.settled_through.saturating_sub(epoch.epoch) >= HORIZON_EPOCHS;
    require!(over, Error::HorizonNotOver);
    // A resettlement under way in the epoch after it reads the rates of this one: without them it could never end.
    require!(next.epoch == epoch.epoch + 1, Error::WrongEpoch);
    let read = next.status == STATUS_COMMITTED && next.kind == Kind::Resettlement as u8;
    require!(!read, Error::WrongStatus);

    market.closed_through = epoch.epoch;
    let seq = next_of(&mut market);
    EpochWasClosed { epoch: epoch.epoch }.emit(&ids::MARKET.address, seq);
    let recorded = epoch.payer;
    epoch.close(payer, &recorded)
}
