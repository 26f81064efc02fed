//! `attest`: discriminator ‖ kind u8 ‖ epoch u32 ‖ run u16 ‖ root 32.
//! Accounts: oracle s, payer sw, governance, attestation w, system_program, market.
//! One oracle can't block a root: it has one vote, others may differ from it, and it may replace its own until k are equal.
//! Two final roots are impossible: 2k > n, one vote each, and nothing changes after the first.
//! Of an epoch that trading has closed nothing is attested again: its attestations may be gone, and with a second root for the
//! same run batches beyond the first one's could be booked in the registry.
//! A change of the oracle set drops the votes of the former one, since their positions no longer mean the same keys.

use common::{
    accounts::{Accounts, MaybeState, Signed, StateMut},
    args::Args,
    ids, require,
    state::{trading::Market, Attestation, Governance, Kind},
    Error, ProgramResult,
};

use crate::{events::RootAttested, tally};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let oracle = accounts.signer()?;
    let payer = accounts.payer()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let attestation = accounts.maybe_state::<Attestation>()?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;

    let kind = Kind::from_u8(args.u8()?)?;
    let epoch = args.u32()?;
    let run = args.u16()?;
    let root = *args.array::<32>()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_ORACLE)?;
    require!(kind.allows_run(run), Error::InvalidRun);
    require!(epoch > market.closed_through, Error::EpochClosed);
    let set = governance.oracle_set()?;
    let index = set.index(oracle.address()).ok_or(Error::Unauthorised)?;

    let mut attestation = match attestation {
        MaybeState::Existing(state) => state,
        MaybeState::Vacant(vacant) => {
            // Only an oracle gets here, so strangers can't fill the chain with empty attestations.
            let seeds = [
                b"attestation".as_slice(),
                &[kind as u8],
                &epoch.to_le_bytes(),
                &run.to_le_bytes(),
            ];
            let (state, bump) = vacant.create::<Attestation>(&payer, &seeds)?;
            opened(state, kind, epoch, run, bump, &payer)
        }
    };
    require!(
        attestation.kind == kind as u8 && attestation.epoch == epoch && attestation.run == run,
        Error::WrongAttestation
    );
    require!(attestation.is_final == 0, Error::AlreadyFinal);

    if attestation.set_version != set.version {
        attestation.set_version = set.version;
        attestation.voted = 0;
    }
    let bit = 1u16 << index;
    let replaced = attestation.voted & bit != 0 && attestation.roots[index] != root;
    attestation.voted |= bit;
    attestation.roots[index] = root;
    let count = set.keys.len() as u8;
    if tally::reaches(&attestation.roots, attestation.voted, count, &root, set.threshold) {
        attestation.root = root;
        attestation.is_final = 1;
    }
    let seq = attestation.event_seq;
    attestation.event_seq = seq + 1;
    RootAttested {
        kind: kind as u8,
        epoch,
        run,
        oracle: *oracle.address(),
        root,
        replaced: replaced as u8,
        is_final: attestation.is_final,
    }
    .emit(attestation.address(), seq);
    Ok(())
}

fn opened<'a>(
    mut state: StateMut<'a, Attestation>,
    kind: Kind,
    epoch: u32,
    run: u16,
    bump: u8,
    payer: &Signed,
) -> StateMut<'a, Attestation> {
    state.kind = kind as u8;
    state.epoch = epoch;
    state.run = run;
    state.bump = bump;
    state.payer = *payer.address();
    state
}
