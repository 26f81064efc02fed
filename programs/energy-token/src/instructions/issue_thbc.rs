//! `issue_thbc`: discriminator ‖ ref_hash 32 ‖ amount u64.
//! Accounts: payer sw, token_config, mint_authority, thbc_mint w, destination w, deposit w, token_program, system_program,
//! governance, then at least k distinct bridge attestors, signers.
//! A reference is spent once: its `Deposit` account is never closed. The attestors sign the transaction, hence amount and
//! destination too. That the destination is a THBC account is Token-2022's check.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{Deposit, Governance, TokenConfig},
    Error, ProgramResult,
};
use pinocchio::cpi::Signer;
use pinocchio_token_2022::instructions::MintTo;

use super::{mint_authority_seeds, require_attestors};
use crate::events::ThbcIssued;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let payer = accounts.payer()?;
    let config = accounts.singleton::<TokenConfig>(&ids::TOKEN_CONFIG)?;
    let authority = accounts.pinned(&ids::MINT_AUTHORITY.address)?;
    let mint = accounts.pinned_mut(&config.thbc_mint)?;
    let destination = accounts.external()?;
    let vacant = accounts.vacant()?;
    accounts.pinned(&ids::TOKEN_2022)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_ENERGY_TOKEN)?;

    let ref_hash = *args.array::<32>()?;
    let amount = args.u64()?;
    args.end()?;
    require!(amount > 0, Error::ZeroAmount);

    require_attestors(&config, accounts.rest())?;

    let (mut deposit, _) = vacant.create::<Deposit>(&payer, &[b"deposit", &ref_hash])?;
    deposit.ref_hash = ref_hash;
    deposit.amount = amount;
    deposit.destination = *destination.address();
    ThbcIssued {
        ref_hash,
        amount,
        destination: *destination.address(),
    }
    .emit(deposit.address(), 0);

    MintTo::new(mint.view(), destination.view(), authority.view(), amount)
        .invoke_signed(&[Signer::from(&mint_authority_seeds())])
}
