//! `settle_pay_as_bid_batch`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof ‖ n entries, each
//! net_wh i32 ‖ fills u8 ‖ fills × (slot u32 ‖ Wh u32 ‖ value u64).
//! Accounts: governance, market, epoch w, attestation, n × trader w (bound by the leaf, as in `settle_batch`).

use common::{
    accounts::{Accounts, Rest},
    args::Args,
    batch::Batch,
    quantities::{MicroThb, Wh},
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
    initial::Terms,
    pay_as_bid::{settle, Fill},
};

const FILL: usize = 16;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let run = Run::load(&mut accounts, Kind::Clearing)?;
    // The same bytes under the same leaf would mean something else there.
    require!(run.epoch.flags & FLAG_PAY_AS_BID != 0, Error::WrongKind);
    let mut traders = accounts.rest();
    let batch = Batch::parse_uneven(args.tail())?;
    let mut epoch = run.claim(&batch, &traders, Kind::Clearing)?;
    let sums = settle_all(Args::new(batch.entries), &mut traders, &epoch)?;
    add_to_run(&mut epoch.sums, &sums)?;
    Ok(())
}

#[inline(never)]
fn settle_all(mut entries: Args, traders: &mut Rest, epoch: &Epoch) -> Result<RunSums, ProgramError> {
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
    for account in traders.each() {
        let (net, n) = (entries.i32()?, entries.u8()?);
        let (fills, _) = entries.bytes(n as usize * FILL)?.as_chunks::<FILL>();
        let mut trader = account.load_mut::<Trader>()?;
        settle(&mut trader, net as i64, fills.iter().map(decoded), &terms, &mut sums)?;
    }
    entries.end()?;
    Ok(sums)
}

fn decoded(fill: &[u8; FILL]) -> Fill {
    let [a, b, c, d, e, f, g, h, value @ ..] = *fill;
    Fill {
        slot: u32::from_le_bytes([a, b, c, d]),
        energy: Wh(u32::from_le_bytes([e, f, g, h]) as u64),
        value: MicroThb(u64::from_le_bytes(value)),
    }
}
