//! `open_epoch`: discriminator ‖ epoch u32. Accounts: payer sw, authority s, market w, epoch w, governance, system_program.
//!
//! Copies the rates in force into `["epoch", number]`; settlement reads only these. Where time is simulated, and for the very first
//! epoch, the authority signs; else anyone may, once the epoch has begun by the chain's clock.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::PriceUthb,
    require,
    state::{
        trading::{clock_epoch, Epoch, Market, STATUS_OPEN, TIME_SIMULATED},
        Governance, Kind,
    },
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::{
    calendar::is_on_peak,
    events::{next_of, EpochOpened},
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let number = args.u32()?;
    args.end()?;
    let payer = accounts.payer()?;
    let authority = accounts.signer()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let account = accounts.vacant()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    governance.require_running(ids::PROGRAM_TRADING)?;

    let first = market.last_opened == 0;
    if first || market.time_mode == TIME_SIMULATED {
        authority.require_is(&governance.authority)?;
    }
    if market.time_mode != TIME_SIMULATED {
        require!(number <= clock_epoch(&Clock::get()?), Error::EpochNotBegun);
    }
    // The last number is kept free, so that `epoch + 1` and an end epoch of u32::MAX always work.
    require!(number > 0 && number < u32::MAX, Error::WrongEpoch);
    require!(first || number == market.last_opened + 1, Error::EpochOutOfOrder);

    let (mut epoch, bump) = account.create::<Epoch>(&payer, &[b"epoch", &number.to_le_bytes()])?;
    let params = governance.params_at(number);
    epoch.payer = *payer.address();
    epoch.epoch = number;
    epoch.kind = Kind::Clearing as u8;
    epoch.status = STATUS_OPEN;
    epoch.bump = bump;
    epoch.fee_bp = params.fee_bp;
    epoch.vat_bp = params.vat_bp;
    epoch.halt_bound_bp = params.halt_bound_bp;
    epoch.schedule_version = params.schedule_version;
    epoch.tariff_on_peak = PriceUthb(params.tariff_on_peak);
    epoch.tariff_off_peak = PriceUthb(params.tariff_off_peak);
    epoch.tariff = if is_on_peak(number) {
        epoch.tariff_on_peak
    } else {
        epoch.tariff_off_peak
    };
    epoch.feed_in = PriceUthb(params.feed_in);
    epoch.price_min = PriceUthb(params.price_min);
    epoch.price_max = PriceUthb(params.price_max);
    epoch.wheeling_cap = PriceUthb(params.wheeling_cap);

    market.last_opened = number;
    if first {
        market.settled_through = number - 1;
        market.closed_through = number - 1;
    }
    let seq = next_of(&mut market);
    EpochOpened {
        epoch: number,
        schedule_version: epoch.schedule_version,
        tariff: epoch.tariff,
        tariff_on_peak: epoch.tariff_on_peak,
        tariff_off_peak: epoch.tariff_off_peak,
        feed_in: epoch.feed_in,
        fee_bp: epoch.fee_bp,
    }
    .emit(&ids::MARKET.address, seq);
    Ok(())
}
