//! `update_price`: discriminator ‖ epoch u32 ‖ zone u16 ‖ price u32 ‖ demand_wh u64 ‖ supply_wh u64.
//! Accounts: oracle s, payer sw, governance, market, feed w, system_program.
//! Each oracle of the set has one report a zone; it may not go back to an earlier epoch, nor further ahead than the next one.
//! Outside feeds enter through an oracle, which answers for them.

use common::{
    accounts::{Accounts, MaybeState},
    args::Args,
    ids, require,
    state::{
        price::{PriceFeed, Report},
        trading::Market,
        Governance, MAX_ZONE,
    },
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::{events::PriceReported, prices::acceptable};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let oracle = accounts.signer()?;
    let payer = accounts.payer()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let feed = accounts.maybe_state::<PriceFeed>()?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let epoch = args.u32()?;
    let zone = args.u16()?;
    let price = args.u32()?;
    let demand_wh = args.u64()?;
    let supply_wh = args.u64()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_ORACLE)?;
    require!((1..=MAX_ZONE).contains(&zone), Error::InvalidZone);
    require!(acceptable(price, demand_wh, supply_wh), Error::InvalidObservation);
    let set = governance.oracle_set()?;
    let index = set.index(oracle.address()).ok_or(Error::Unauthorised)?;

    let mut feed = match feed {
        MaybeState::Existing(state) => state,
        MaybeState::Vacant(vacant) => {
            let (mut state, bump) = vacant.create::<PriceFeed>(&payer, &[b"price", &zone.to_le_bytes()])?;
            state.zone = zone;
            state.bump = bump;
            state.payer = *payer.address();
            state
        }
    };
    require!(feed.zone == zone, Error::WrongAddress);
    if feed.set_version != set.version {
        // Places now mean other keys.
        feed.set_version = set.version;
        feed.reports = [Report::NONE; 16];
    }
    let in_order = epoch >= feed.reports[index].epoch && epoch <= market.last_begun()?.saturating_add(1);
    require!(in_order, Error::ObservationOutOfOrder);
    feed.reports[index] = Report {
        updated_at: Clock::get()?.unix_timestamp,
        demand_wh,
        supply_wh,
        price,
        epoch,
    };
    let seq = feed.event_seq;
    feed.event_seq = seq + 1;
    PriceReported {
        zone,
        epoch,
        oracle: *oracle.address(),
        price,
        demand_wh,
        supply_wh,
    }
    .emit(feed.address(), seq);
    Ok(())
}
