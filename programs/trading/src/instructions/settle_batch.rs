//! `settle_batch`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof ‖ n × (net_wh i32 ‖ traded_wh i32).
//! Accounts: governance, market, epoch w, attestation, n × trader w.
//!
//! A trader account is not derived again: only this program makes such accounts, one a wallet, and the leaf binds its address.

use common::{
    accounts::{Accounts, Rest},
    args::Args,
    batch::Batch,
    require,
    state::{
        trading::{Epoch, RunSums, Trader, FLAG_BUY_BACK, FLAG_PAY_AS_BID},
        Kind,
    },
    Error, ProgramError, ProgramResult,
};

use super::Run;
use crate::settlement::{
    add_to_run,
    initial::{settle, Terms},
};

const ENTRY: usize = 8;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let run = Run::load(&mut accounts, Kind::Clearing)?;
    // The same bytes under the same leaf would mean something else there.
    require!(run.epoch.flags & FLAG_PAY_AS_BID == 0, Error::WrongKind);
    let mut traders = accounts.rest();
    let batch = Batch::parse(args.tail(), ENTRY)?;
    let mut epoch = run.claim(&batch, &traders, Kind::Clearing)?;
    let sums = settle_all(batch.entries.as_chunks().0, &mut traders, &epoch)?;
    add_to_run(&mut epoch.sums, &sums)?;
    Ok(())
}

/// The loop over the entries, in a frame of its own: what came before would crowd its registers.
#[inline(never)]
fn settle_all(entries: &[[u8; ENTRY]], traders: &mut Rest, epoch: &Epoch) -> Result<RunSums, ProgramError> {
    let terms = Terms {
        epoch: epoch.epoch,
        seq: epoch.seq,
        fee_bp: epoch.fee_bp,
        tariff: epoch.tariff,
        feed_in: epoch.feed_in,
        buy_back: epoch.flags & FLAG_BUY_BACK != 0,
        zones: &epoch.zones,
    };
    let mut sums = RunSums::default();
    for (entry, account) in entries.iter().zip(traders.each()) {
        // One load for both halves: net in the lower, traded in the upper.
        let entry = i64::from_le_bytes(*entry);
        let mut trader = account.load_mut::<Trader>()?;
        settle(&mut trader, entry as i32 as i64, entry >> 32, &terms, &mut sums)?;
    }
    Ok(sums)
}
