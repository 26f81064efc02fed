//! `void_epoch`: discriminator ‖ depth u8 ‖ rest (proof ‖ header, or nothing). Accounts: authority s, market w, epoch w, metered w,
//! attestation, governance, registry_program.
//!
//! A stuck epoch, from 24 h after its gate, metering and clearing together, if no batch of either was applied; then at once those
//! after it that were over by then. Where the clearing root is final, its header says which seq the epoch uses; without one none.

use common::{
    accounts::{Accounts, External, Pinned, State, StateMut},
    args::Args,
    ids,
    layout::discriminator,
    require,
    state::{
        trading::{Epoch, Market, STATUS_FINALISED, STATUS_OPEN},
        Attestation, Governance, Kind, Metered,
    },
    Error, ProgramError, ProgramResult,
};
use pinocchio::{
    cpi::{invoke_signed, Seed, Signer},
    instruction::{InstructionAccount, InstructionView},
};

use super::commit_header;
use crate::{
    events::{next_of, RunVoided},
    voiding::void,
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let mut stuck = Stuck::load(&mut accounts)?;
    let (market, epoch) = (&mut stuck.market, &mut stuck.epoch);
    require!(epoch.run == 0 && epoch.status != STATUS_FINALISED, Error::WrongStatus);
    require!(epoch.epoch == market.settled_through + 1, Error::EpochOutOfOrder);
    let begun = market.last_begun()?;
    if epoch.epoch > market.void_through {
        require!(market.is_stuck(epoch.epoch)?, Error::NotVoidable);
        // What was booked after it was booked on what it would have done.
        market.void_through = begun - 1;
    }
    if epoch.status == STATUS_OPEN {
        stuck.commit(Kind::Clearing, args)?;
    }
    stuck.market.settled_through = stuck.epoch.epoch;
    stuck.end()
}

/// For so long after a pause nothing is voided: else the authority could make an epoch stuck by a pause of its own and undo trades
/// whose roots are final, where paused epochs settle in order afterwards (chain.md §4).
const VOID_AFTER_PAUSE_SECONDS: i64 = 86_400;

/// What both ways of voiding begin with: the authority signs, and nothing that settles was paused lately.
pub(super) struct Stuck<'a> {
    pub market: StateMut<'a, Market>,
    pub epoch: StateMut<'a, Epoch>,
    metered: StateMut<'a, Metered>,
    attestation: External<'a>,
    registry_program: Pinned<'a>,
}

impl<'a> Stuck<'a> {
    pub fn load(accounts: &mut Accounts<'a>) -> Result<Self, ProgramError> {
        let authority = accounts.signer()?;
        let market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
        let epoch = accounts.state_mut::<Epoch>()?;
        let metered = accounts.state_mut::<Metered>()?;
        let attestation = accounts.external()?;
        let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
        let registry_program = accounts.pinned(&ids::REGISTRY_ID)?;
        authority.require_is(&governance.authority)?;
        governance.require_settling_since(VOID_AFTER_PAUSE_SECONDS)?;
        require!(metered.epoch == epoch.epoch, Error::WrongEpoch);
        Ok(Self {
            market,
            epoch,
            metered,
            attestation,
            registry_program,
        })
    }

    /// The final attestation of the run.
    pub fn attestation(&self, kind: Kind, run: u16) -> Result<State<'a, Attestation>, ProgramError> {
        let attestation = State::<Attestation>::of(&self.attestation)?;
        attestation.final_root(kind, self.epoch.epoch, run)?;
        Ok(attestation)
    }

    /// Applies the run's header if one is given, so that the run uses the seq it was booked with.
    pub fn commit(&mut self, kind: Kind, args: Args) -> ProgramResult {
        let data = args.tail();
        if data.len() <= 1 {
            return Ok(());
        }
        let attestation = self.attestation(kind, self.epoch.run)?;
        commit_header(&mut self.market, &mut self.epoch, &attestation, kind, Args::new(data))
    }

    /// Voids the run here and, by CPI, in the registry, which refuses if a batch of metering was applied.
    pub fn end(mut self) -> ProgramResult {
        let run = self.epoch.run;
        let run_seq = void(&mut self.market, &mut self.epoch)?;
        let seq = next_of(&mut self.market);
        RunVoided {
            epoch: self.epoch.epoch,
            run,
            kind: self.epoch.kind,
            run_seq,
        }
        .emit(&ids::MARKET.address, seq);
        let mut data = [0; 10];
        data[..8].copy_from_slice(&discriminator("global:", "void_metered").to_le_bytes());
        data[8..].copy_from_slice(&run.to_le_bytes());
        let instruction = InstructionView {
            program_id: self.registry_program.address(),
            accounts: &[
                InstructionAccount::readonly_signer(self.market.address()),
                InstructionAccount::writable(self.metered.address()),
            ],
            data: &data,
        };
        let bump = [ids::MARKET.bump];
        let seeds = [Seed::from(ids::MARKET.seed), Seed::from(&bump)];
        let views = [self.market.view(), self.metered.view()];
        invoke_signed(&instruction, &views, &[Signer::from(&seeds)])
    }
}
