//! One file an instruction. Here: what several of them share.

pub mod cancel_order;
pub mod close_epoch;
pub mod commit_clearing;
pub mod commit_run;
pub mod create_order;
pub mod deposit;
pub mod deposit_grid;
pub mod finalize_epoch;
pub mod fund_account;
pub mod initialize_market;
pub mod match_order;
pub mod open_epoch;
pub mod open_trader;
pub mod record_order;
pub mod request_withdrawal;
pub mod resettle_batch;
pub mod resume_market;
pub mod revoke_mandate;
pub mod set_continuous;
pub mod set_mandate;
pub mod settle_batch;
pub mod settle_late_batch;
pub mod settle_pay_as_bid_batch;
pub mod void_epoch;
pub mod void_run;
pub mod withdraw;

use common::{
    accounts::{Accounts, Rest, State, StateMut},
    args::Args,
    batch::{claim, Batch, RunId},
    ids, merkle, require,
    state::{
        trading::{Epoch, Market, STATUS_COMMITTED},
        Attestation, Governance, Kind,
    },
    Error, ProgramError, ProgramResult,
};

use crate::{
    events::RunCommitted,
    header::{self, first_batch},
};

/// Runs apply in the order of their seq, run 0 also in the order of epochs: `SeqOutOfOrder`, `EpochOutOfOrder`, `EpochClosed`.
#[inline(always)]
fn require_turn(market: &Market, epoch: &Epoch) -> ProgramResult {
    require!(epoch.status == STATUS_COMMITTED, Error::WrongStatus);
    require!(market.finalized_seq + 1 == epoch.seq, Error::SeqOutOfOrder);
    let in_order = epoch.kind != Kind::Clearing as u8 || epoch.epoch == market.settled_through + 1;
    require!(in_order, Error::EpochOutOfOrder);
    require!(epoch.epoch > market.closed_through, Error::EpochClosed);
    Ok(())
}

/// The accounts that all batches begin with, checked against each other.
struct Run<'a> {
    market: State<'a, Market>,
    epoch: StateMut<'a, Epoch>,
    attestation: State<'a, Attestation>,
}

impl<'a> Run<'a> {
    /// `governance, market, epoch w, attestation`: trading is not paused, the epoch's run is of this kind and its turn has come.
    #[inline(always)]
    fn load(accounts: &mut Accounts<'a>, kind: Kind) -> Result<Self, ProgramError> {
        let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
        governance.require_running(ids::PROGRAM_TRADING)?;
        let run = Self {
            market: accounts.singleton(&ids::MARKET)?,
            epoch: accounts.state_mut()?,
            attestation: accounts.state()?,
        };
        require!(run.epoch.kind == kind as u8, Error::WrongKind);
        require_turn(&run.market, &run.epoch)?;
        Ok(run)
    }

    /// Proves the batch for exactly these accounts and marks it as applied; returns the epoch, to settle into.
    #[inline(always)]
    fn claim(mut self, batch: &Batch, traders: &Rest, kind: Kind) -> Result<StateMut<'a, Epoch>, ProgramError> {
        let epoch = &mut *self.epoch;
        let first = first_batch(epoch, kind == Kind::Clearing);
        let offset = (batch.index as u32).wrapping_sub(first);
        require!(offset < epoch.trading_batches as u32, Error::BatchIndexOutOfRange);
        let id = RunId {
            network: self.market.network,
            kind,
            epoch: epoch.epoch,
            run: epoch.run,
        };
        let root = self.attestation.final_root(kind, epoch.epoch, epoch.run)?;
        batch.prove(&id, &ids::TRADING_ID, traders, root)?;
        claim(&mut epoch.bitmap, batch.index)?;
        // At most as many as there are bits, so it can't overflow.
        epoch.applied += 1;
        Ok(self.epoch)
    }
}

/// Applies leaf 0 of a run, in the order of its seq: `proof ‖ header` after the depth. The caller has set the epoch's run and kind.
fn commit_header(
    market: &mut Market,
    epoch: &mut StateMut<Epoch>,
    attestation: &Attestation,
    kind: Kind,
    mut args: Args,
) -> ProgramResult {
    let depth = args.u8()?;
    let (proof, header) = common::batch::split_proof(args.tail(), depth)?;
    let id = RunId {
        network: market.network,
        kind,
        epoch: epoch.epoch,
        run: epoch.run,
    };
    let leaf = id.leaf_id(&ids::TRADING_ID, 0).leaf(header, [].into_iter());
    let root = attestation.final_root(kind, epoch.epoch, epoch.run)?;
    require!(&merkle::fold(leaf, 0, proof) == root, Error::WrongRoot);
    header::commit(epoch, header, kind == Kind::Clearing)?;
    // Balances move with the batches and the laws are looked at when the run ends: of two runs with one seq the other would end in this
    // one's stead, and nobody would ever look at its laws.
    let next = market.committed_seq.max(market.finalized_seq).checked_add(1);
    require!(Some(epoch.seq) == next, Error::SeqOutOfOrder);
    market.committed_seq = epoch.seq;
    RunCommitted {
        epoch: epoch.epoch,
        run: epoch.run,
        kind: epoch.kind,
        run_seq: epoch.seq,
        flags: epoch.flags,
        trading_batches: epoch.trading_batches,
    }
    .emit(epoch.address(), epoch.run as u64);
    Ok(())
}
