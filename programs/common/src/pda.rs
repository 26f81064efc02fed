//! Creating accounts at derived addresses. Not here: deciding whether they may be created.

use pinocchio::{
    cpi::{Seed, Signer},
    error::ProgramError,
    sysvars::{rent::Rent, Sysvar},
    AccountView, Address, ProgramResult,
};
use pinocchio_system::instructions::{Allocate, Assign, CreateAccount, Transfer};

/// Most seeds beside the bump.
const MAX_SEEDS: usize = 4;

/// The PDA of `seeds` with its bump. Only on chain: it needs the curve syscall.
#[inline(always)]
pub fn find(seeds: &[&[u8]], program: &Address) -> Option<(Address, u8)> {
    #[cfg(any(target_os = "solana", target_arch = "bpf"))]
    {
        Address::try_find_program_address(seeds, program)
    }
    #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
    {
        let _ = (seeds, program);
        None
    }
}

/// Creates a rent-exempt account at the PDA of `seeds` and `bump`; `payer` signs the transaction.
#[inline(always)]
pub fn create_pda(
    payer: &AccountView,
    account: &mut AccountView,
    space: usize,
    owner: &Address,
    seeds: &[&[u8]],
    bump: u8,
) -> ProgramResult {
    create_funded(payer, account, space, space, owner, seeds, bump)
}

/// The same, rent-exempt for `lamports_for` bytes (an account that its owner will grow).
///
/// Anyone can send lamports to an address that does not exist yet, and `CreateAccount` then fails; so the difference is
/// transferred, and space and owner are set by instructions that don't mind a balance.
#[inline(never)]
pub fn create_funded(
    payer: &AccountView,
    account: &mut AccountView,
    space: usize,
    lamports_for: usize,
    owner: &Address,
    seeds: &[&[u8]],
    bump: u8,
) -> ProgramResult {
    if seeds.len() > MAX_SEEDS {
        return Err(ProgramError::MaxSeedLengthExceeded);
    }
    let bump = [bump];
    let mut all: [Seed; MAX_SEEDS + 1] = core::array::from_fn(|_| Seed::from(&bump));
    for (slot, seed) in all.iter_mut().zip(seeds) {
        *slot = Seed::from(*seed);
    }
    let signer = Signer::from(&all[..seeds.len() + 1]);
    let signers = core::slice::from_ref(&signer);

    let lamports = Rent::get()?.try_minimum_balance(lamports_for)?;
    if account.lamports() == 0 {
        return CreateAccount {
            from: payer,
            to: account,
            lamports,
            space: space as u64,
            owner,
        }
        .invoke_signed(signers);
    }
    let missing = lamports.saturating_sub(account.lamports());
    if missing > 0 {
        Transfer {
            from: payer,
            to: account,
            lamports: missing,
        }
        .invoke()?;
    }
    Allocate {
        account,
        space: space as u64,
    }
    .invoke_signed(signers)?;
    Assign { account, owner }.invoke_signed(signers)
}
