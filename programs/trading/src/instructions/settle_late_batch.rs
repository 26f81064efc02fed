//! `settle_late_batch`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof ‖ n × (surplus u32 ‖ on-peak deficit u32 ‖ off-peak deficit u32).
//! Accounts: governance, market, epoch w, attestation, n × trader w (bound by the leaf, as in `settle_batch`).

use common::{
    accounts::Accounts,
    args::Args,
    batch::Batch,
    state::{
        trading::{Epoch, RunSums, Trader},
        Kind,
    },
    ProgramResult,
};

use super::Run;
use crate::settlement::{
    add_to_run,
    late::{settle_late, Entry, Terms},
};

const ENTRY: usize = 12;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let run = Run::load(&mut accounts, Kind::Late)?;
    let mut traders = accounts.rest();
    let batch = Batch::parse(args.tail(), ENTRY)?;
    let mut epoch = run.claim(&batch, &traders, Kind::Late)?;
    let epoch: &mut Epoch = &mut epoch;
    let terms = Terms {
        seq: epoch.seq,
        tariff_on_peak: epoch.tariff_on_peak,
        tariff_off_peak: epoch.tariff_off_peak,
    };
    let mut sums = RunSums::default();
    let (entries, _) = batch.entries.as_chunks::<ENTRY>();
    for (entry, account) in entries.iter().zip(traders.each()) {
        let mut fields = Args::new(entry);
        let entry = Entry {
            surplus_wh: fields.u32()?,
            on_peak_wh: fields.u32()?,
            off_peak_wh: fields.u32()?,
        };
        let mut trader = account.load_mut::<Trader>()?;
        settle_late(&mut trader, &entry, &terms, &mut sums)?;
    }
    add_to_run(&mut epoch.sums, &sums)?;
    Ok(())
}
