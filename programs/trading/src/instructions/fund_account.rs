//! `fund_account`: discriminator ‖ account u8 ‖ amount u64. Accounts: funder s, market w, source w, thbc_vault w, thbc_mint,
//! token_program, governance. 0 supplier, 1 platform, 2 grid operator.

use common::{
    accounts::{Accounts, External, Pinned, Signed},
    args::Args,
    ids,
    quantities::MicroThb,
    require,
    state::{
        trading::{Market, BALANCE_LIMIT},
        Governance,
    },
    Error, ProgramResult,
};
use pinocchio_token_2022::instructions::TransferChecked;

use crate::events::{next_of, AccountFunded};

pub(super) const THBC_DECIMALS: u8 = 6;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let (account, amount) = (args.u8()?, MicroThb(args.u64()?));
    args.end()?;
    let funder = accounts.signer()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let source = accounts.external()?;
    let vault = accounts.pinned_mut(&market.thbc_vault)?;
    let mint = accounts.pinned(&market.thbc_mint)?;
    accounts.pinned(&ids::TOKEN_2022)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    require!(!amount.is_zero(), Error::ZeroAmount);
    // Checked before it is added, as for a deposit.
    require!(amount.0 < BALANCE_LIMIT, Error::BalanceOverflow);

    match account {
        0 => market.supplier_thbc_uthb += amount,
        1 => market.platform_thbc_uthb += amount,
        2 => market.grid_operator_thbc_uthb += amount,
        _ => return Err(Error::InvalidData.into()),
    }
    market.funded_uthb += amount;
    let seq = next_of(&mut market);
    AccountFunded {
        account,
        amount_uthb: amount,
    }
    .emit(&ids::MARKET.address, seq);
    transfer_in(&source, &mint, &vault, &funder, amount)
}

/// Moves THBC into the vault; Token-2022 checks the source's mint, owner and balance.
pub(super) fn transfer_in(
    source: &External,
    mint: &Pinned,
    vault: &Pinned,
    owner: &Signed,
    amount: MicroThb,
) -> ProgramResult {
    TransferChecked::new(
        source.view(),
        mint.view(),
        vault.view(),
        owner.view(),
        amount.0,
        THBC_DECIMALS,
    )
    .invoke()
}
