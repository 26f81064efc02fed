//! The way of every batch: attested, once, for exactly these meters; then the totals, the event and the one mint.
//!
//! Not here: what an entry does to its meter (entries).

use common::{
    accounts::{Accounts, External, State, StateMut},
    args::Args,
    batch::{claim, Batch, RunId},
    ids,
    quantities::Wh,
    require,
    state::{trading::Market, Attestation, Governance, Kind, Meter, Metered, Registry},
    Error, ProgramError, ProgramResult,
};
use pinocchio::{
    cpi::{invoke_signed, Seed, Signer},
    instruction::{InstructionAccount, InstructionView},
    AccountView,
};

use crate::{entries::Sums, events::BatchBooked};

/// Discriminator of energy-token's `mint_from_production`.
const MINT_FROM_PRODUCTION: u64 = common::layout::discriminator("global:", "mint_from_production");

/// Books a batch of `kind`: data `index u16 ‖ n u8 ‖ depth u8 ‖ proof ‖ entries`.
/// Accounts: governance, attestation, metered w, registry w, energy_token_program, token_config, mint_authority, grid_mint w,
/// grid_vault w, token_program, of metering also market, metered_before, then n meters w.
///
/// Meters are not derived again: the leaf binds their addresses, and owner and discriminator say that this program made them.
#[inline(always)]
pub fn settle<const ENTRY: usize>(
    mut accounts: Accounts,
    args: Args,
    kind: Kind,
    apply: impl Fn(&mut Meter, &[u8; ENTRY], &RunId, &mut Sums) -> Result<(), ProgramError>,
) -> ProgramResult {
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let attestation = accounts.state::<Attestation>()?;
    let mut metered = accounts.state_mut::<Metered>()?;
    let mut registry = accounts.singleton_mut::<Registry>(&ids::REGISTRY)?;
    accounts.pinned(&ids::ENERGY_TOKEN_ID)?;
    let token_config = accounts.pinned(&ids::TOKEN_CONFIG.address)?;
    let mint_authority = accounts.pinned(&ids::MINT_AUTHORITY.address)?;
    let grid_mint = accounts.pinned_mut(&ids::GRID_MINT.address)?;
    let grid_vault = accounts.pinned_mut(&ids::GRID_VAULT.address)?;
    let token_program = accounts.pinned(&ids::TOKEN_2022)?;
    let before = match kind {
        Kind::Metering => Some((accounts.singleton::<Market>(&ids::MARKET)?, accounts.external()?)),
        _ => None,
    };
    let mut meters = accounts.rest();
    let batch = Batch::parse(args.tail(), ENTRY)?;

    governance.require_running(ids::PROGRAM_REGISTRY)?;
    governance.require_running(ids::PROGRAM_ENERGY_TOKEN)?;
    let run = run_of(&governance, &metered, kind)?;
    let root = attestation.final_root(kind, run.epoch, run.run)?;
    claim(&mut metered.bitmap, batch.index)?;
    if let Some((market, before)) = &before {
        require_its_turn(market, before, run.epoch)?;
    }
    batch.prove(&run, &ids::REGISTRY_ID, &meters, root)?;

    let mut sums = Sums::default();
    // `prove` saw as many meters as `parse` saw entries.
    for (meter, entry) in meters.each().zip(batch.entries.as_chunks::<ENTRY>().0) {
        let mut meter = meter.load_mut::<Meter>()?;
        apply(&mut meter, entry, &run, &mut sums)?;
    }
    book(&mut metered, &mut registry, &run, &batch, &sums)?;
    if sums.minted_wh > 0 {
        // All state is written by now.
        let views = [
            registry.view(),
            token_config.view(),
            mint_authority.view(),
            grid_mint.view(),
            grid_vault.view(),
            token_program.view(),
        ];
        mint(&views, sums.minted_wh)?;
    }
    Ok(())
}

/// Metering can't be taken back, and a meter's epochs follow one another: once the epoch before this one were voided, neither its
/// meters nor its seq would fit any more, and this epoch could then neither settle nor be voided. So the epoch before must be out of
/// that danger: settled or voided already, or metered in part. And this one must not be settled. `EpochOutOfOrder` otherwise.
#[inline(never)]
fn require_its_turn(market: &Market, before: &External, epoch: u32) -> ProgramResult {
    // A batch beyond those that the header counts would mint what is in nobody's balance.
    require!(epoch > market.settled_through, Error::EpochOutOfOrder);
    if epoch <= market.settled_through.saturating_add(1) {
        return Ok(());
    }
    let before = State::<Metered>::of(before)?;
    let applied = before.run == 0 && before.kind == Kind::Metering as u8 && before.applied > 0;
    require!(
        before.epoch.checked_add(1) == Some(epoch) && applied,
        Error::EpochOutOfOrder
    );
    Ok(())
}

fn run_of(governance: &State<Governance>, metered: &Metered, kind: Kind) -> Result<RunId, ProgramError> {
    require!(metered.kind == kind as u8, Error::WrongKind);
    Ok(RunId {
        network: governance.network,
        kind,
        epoch: metered.epoch,
        run: metered.run,
    })
}

/// Adds the batch to the epoch's run and to the registry's totals, and tells it.
#[inline(never)]
fn book(
    metered: &mut StateMut<Metered>,
    registry: &mut StateMut<Registry>,
    run: &RunId,
    batch: &Batch,
    sums: &Sums,
) -> ProgramResult {
    metered.applied += 1;
    metered.minted_wh += Wh(sums.minted_wh);
    metered.deficit_wh += Wh(sums.deficit_wh);
    metered.minted_tokens_wh += Wh(sums.minted_wh);
    metered.x_negative_wh += Wh(sums.x_negative_wh);
    metered.shift_bound_wh += Wh(sums.shift_bound_wh);

    registry.production_wh += Wh(sums.production_wh);
    registry.consumption_wh += Wh(sums.consumption_wh);
    registry.minted_wh = registry.minted_wh + Wh(sums.minted_wh) - Wh(sums.x_negative_wh);
    registry.deficit_wh = registry.deficit_wh + Wh(sums.deficit_wh) - Wh(sums.x_negative_wh);
    require!(registry.invariant_holds(), Error::InvariantBroken);
    let seq = registry.event_seq;
    registry.event_seq = seq + 1;
    BatchBooked {
        epoch: run.epoch,
        run: run.run,
        kind: run.kind as u8,
        index: batch.index,
        n: batch.n as u8,
        production_wh: Wh(sums.production_wh),
        consumption_wh: Wh(sums.consumption_wh),
        minted_wh: Wh(sums.minted_wh),
        deficit_wh: Wh(sums.deficit_wh),
        x_negative_wh: Wh(sums.x_negative_wh),
    }
    .emit(&ids::REGISTRY.address, seq);
    Ok(())
}

/// The one CPI of a batch: energy-token's `mint_from_production`, signed by the registry's PDA.
#[inline(never)]
fn mint(views: &[&AccountView; 6], amount: u64) -> ProgramResult {
    let [registry, token_config, mint_authority, grid_mint, grid_vault, token_program] = views;
    let metas = [
        InstructionAccount::readonly_signer(registry.address()),
        InstructionAccount::readonly(token_config.address()),
        InstructionAccount::readonly(mint_authority.address()),
        InstructionAccount::writable(grid_mint.address()),
        InstructionAccount::writable(grid_vault.address()),
        InstructionAccount::readonly(token_program.address()),
    ];
    let mut data = [0; 16];
    data[..8].copy_from_slice(&MINT_FROM_PRODUCTION.to_le_bytes());
    data[8..].copy_from_slice(&amount.to_le_bytes());
    const BUMP: [u8; 1] = [ids::REGISTRY.bump];
    let seeds = [Seed::from(ids::REGISTRY.seed), Seed::from(&BUMP)];
    invoke_signed(
        &InstructionView {
            program_id: &ids::ENERGY_TOKEN_ID,
            accounts: &metas,
            data: &data,
        },
        views,
        &[Signer::from(&seeds)],
    )
}
