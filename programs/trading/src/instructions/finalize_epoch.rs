//! `finalize_epoch`: discriminator. Accounts: market w, epoch w, metered, governance, energy_token_program, token_config, grid_mint w,
//! grid_vault w, token_program.
//!
//! Ends the present run: all batches of both programs applied, every law closed, the sums in the market's totals; then burns from
//! the vault. Anyone may call it. State is written before the CPI.

use common::{
    accounts::{Accounts, Pinned, StateMut},
    args::Args,
    ids,
    layout::discriminator,
    quantities::Wh,
    require,
    state::{
        trading::{Epoch, Market, STATUS_FINALISED},
        Governance, Kind, Metered,
    },
    Error, ProgramResult,
};
use pinocchio::{
    cpi::{invoke_signed, Seed, Signer},
    instruction::{InstructionAccount, InstructionView},
};

use super::require_turn;
use crate::{
    closing::close,
    events::{next_of, RunFinalised},
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let mut epoch = accounts.state_mut::<Epoch>()?;
    let metered = accounts.state::<Metered>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::ENERGY_TOKEN_ID)?;
    let token_config = accounts.pinned(&ids::TOKEN_CONFIG.address)?;
    let grid_mint = accounts.pinned_mut(&market.grid_mint)?;
    let grid_vault = accounts.pinned_mut(&market.grid_vault)?;
    let token_program = accounts.pinned(&ids::TOKEN_2022)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    governance.require_running(ids::PROGRAM_ENERGY_TOKEN)?;
    require_turn(&market, &epoch)?;

    let clearing = epoch.kind == Kind::Clearing as u8;
    let kind = if clearing { Kind::Metering as u8 } else { epoch.kind };
    let same_run = metered.epoch == epoch.epoch && metered.run == epoch.run && metered.kind == kind;
    require!(
        same_run && metered.applied == epoch.registry_batches,
        Error::MeteringIncomplete
    );
    require!(epoch.applied == epoch.trading_batches, Error::RunIncomplete);

    let to_burn = close(&mut market, &epoch, &metered, epoch.kind == Kind::Resettlement as u8)?;
    market.finalized_seq = epoch.seq;
    if clearing {
        market.settled_through = epoch.epoch;
    }
    epoch.status = STATUS_FINALISED;
    report(&mut market, &epoch, to_burn);
    if to_burn == 0 {
        return Ok(());
    }
    burn(&market, &token_config, &grid_mint, &grid_vault, &token_program, to_burn)
}

#[inline(never)]
fn report(market: &mut Market, epoch: &Epoch, to_burn: u64) {
    let sums = &epoch.sums;
    RunFinalised {
        epoch: epoch.epoch,
        run: epoch.run,
        kind: epoch.kind,
        run_seq: epoch.seq,
        net_wh: sums.net_wh,
        bought_wh: sums.bought_wh,
        sold_wh: sums.sold_wh,
        cost_uthb: sums.cost_uthb,
        proceeds_uthb: sums.proceeds_uthb,
        fee_uthb: sums.fee_uthb,
        zone_wheeling_uthb: sums.zone_wheeling_uthb,
        residual_wh: sums.residual_wh,
        billed_uthb: sums.billed_uthb,
        paid_uthb: sums.paid_uthb,
        debt_repaid_uthb: sums.debt_repaid_uthb,
        bought_back_wh: sums.bought_back_wh,
        buy_back_uthb: sums.buy_back_uthb,
        refund_wh: sums.refund_wh,
        refund_uthb: sums.refund_uthb,
        returned_wh: sums.returned_wh,
        returned_uthb: sums.returned_uthb,
        burned_tokens_wh: Wh(to_burn),
    }
    .emit(&ids::MARKET.address, next_of(market));
}

/// energy-token's `burn(amount)`, signed by the market.
#[inline(never)]
fn burn(
    market: &StateMut<Market>,
    token_config: &Pinned,
    grid_mint: &Pinned,
    grid_vault: &Pinned,
    token: &Pinned,
    amount: u64,
) -> ProgramResult {
    let mut data = [0; 16];
    data[..8].copy_from_slice(&discriminator("global:", "burn").to_le_bytes());
    data[8..].copy_from_slice(&amount.to_le_bytes());
    let instruction = InstructionView {
        program_id: &ids::ENERGY_TOKEN_ID,
        accounts: &[
            InstructionAccount::readonly_signer(market.address()),
            InstructionAccount::readonly(token_config.address()),
            InstructionAccount::writable(grid_mint.address()),
            InstructionAccount::writable(grid_vault.address()),
            InstructionAccount::readonly(token.address()),
        ],
        data: &data,
    };
    let bump = [ids::MARKET.bump];
    let seeds = [Seed::from(ids::MARKET.seed), Seed::from(&bump)];
    let views = [
        market.view(),
        token_config.view(),
        grid_mint.view(),
        grid_vault.view(),
        token.view(),
    ];
    invoke_signed(&instruction, &views, &[Signer::from(&seeds)])
}
