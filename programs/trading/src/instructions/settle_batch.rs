//! `settle_batch`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof ‖ n × (net_wh i32 ‖ traded_wh i32).
//! Accounts: governance, market, epoch w, attestation, n × trader w.
//!
//! A trader account is not derived again: only this program makes such accounts, one a wallet, and the leaf binds its address.

use common::{
    accounts::Accounts,
    args::Args,
    batch::Batch,
    state::{
        trading::{Epoch, Trader, FLAG_BUY_BACK},
        Kind,
    },
    ProgramResult,
};

use super::Run;
use crate::settlement::initial::{settle, Terms};

const ENTRY: usize = 8;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let run = Run::load(&mut accounts, Kind::Clearing)?;
    let mut traders = accounts.rest();
    let batch = Batch::parse(args.tail(), ENTRY)?;
    let mut epoch = run.claim(&batch, &traders, Kind::Clearing)?;
    let epoch: &mut Epoch = &mut epoch;
    let terms = Terms {
        epoch: epoch.epoch,
        seq: epoch.seq,
        fee_bp: epoch.fee_bp,
        tariff: epoch.tariff,
        feed_in: epoch.feed_in,
        buy_back: epoch.flags & FLAG_BUY_BACK != 0,
        zones: &epoch.zones,
    };
    let (entries, _) = batch.entries.as_chunks::<ENTRY>();
    for (entry, account) in entries.iter().zip(traders.each()) {
        let [a, b, c, d, e, f, g, h] = *entry;
        let net = i32::from_le_bytes([a, b, c, d]);
        let traded = i32::from_le_bytes([e, f, g, h]);
        let mut trader = account.load_mut::<Trader>()?;
        settle(&mut trader, net, traded, &terms, &mut epoch.sums)?;
    }
    Ok(())
}
