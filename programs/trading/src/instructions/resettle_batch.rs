//! `resettle_batch`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof ‖ n × (minted_and_burned u32 ‖ refund u32 ‖ taken_back u32 ‖
//! returned u32 ‖ billed u32). Accounts: governance, market, epoch w, attestation, prior_epoch, n × trader w.
//!
//! `prior_epoch` is the account of epoch − 1, known by its number: only this program makes such accounts, one a number.

use common::{
    accounts::Accounts,
    args::Args,
    batch::Batch,
    require,
    state::{
        trading::{Epoch, RunSums, Trader},
        Kind,
    },
    Error, ProgramResult,
};

use super::Run;
use crate::settlement::{
    add_to_run,
    resettlement::{resettle, Entry, Rates, Terms},
};

const ENTRY: usize = 20;

fn rates(epoch: &Epoch) -> Rates {
    Rates {
        tariff: epoch.tariff,
        feed_in: epoch.feed_in,
    }
}

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let run = Run::load(&mut accounts, Kind::Resettlement)?;
    let prior = accounts.state::<Epoch>()?;
    require!(prior.epoch + 1 == run.epoch.epoch, Error::WrongEpoch);
    let mut traders = accounts.rest();
    let batch = Batch::parse(args.tail(), ENTRY)?;
    let mut epoch = run.claim(&batch, &traders, Kind::Resettlement)?;
    let epoch: &mut Epoch = &mut epoch;
    let terms = Terms {
        seq: epoch.seq,
        epoch: rates(epoch),
        prior: rates(&prior),
    };
    let mut sums = RunSums::default();
    let (entries, _) = batch.entries.as_chunks::<ENTRY>();
    for (entry, account) in entries.iter().zip(traders.each()) {
        let mut fields = Args::new(entry);
        let entry = Entry {
            minted_and_burned_wh: fields.u32()?,
            refund_wh: fields.u32()?,
            taken_back_wh: fields.u32()?,
            returned_wh: fields.u32()?,
            billed_wh: fields.u32()?,
        };
        let mut trader = account.load_mut::<Trader>()?;
        resettle(&mut trader, &entry, &terms, &mut sums)?;
    }
    add_to_run(&mut epoch.sums, &sums)?;
    Ok(())
}
