//! Accounts by construction: an instruction takes its accounts from a cursor, each through a check that returns a typed view.
//!
//! An unchecked account has no accessor. What each type proves:
//! - `Signed`: it signed; from `payer()` also that it is writable; from `signed_by(key)` that it is that key.
//! - `State<T>` / `StateMut<T>`: owner, discriminator and length; `StateMut` also that it is writable.
//! - `Pinned`: its address is the given constant or configured one. `External`: nothing; it only goes into a CPI that checks it.
//! - `Refunded`: that it is writable; closing an account compares it with the payer that the state names.
//! - `Vacant`: writable and not yet created; can only be created at its seeds.
//!
//! Seeds: a singleton's address is compared with its constant. Any other state account is not derived again: only its owner
//! program writes that discriminator, it does so once, in the creating instruction, at the derived address, and the account's
//! fields hold the seeds; so comparing the fields binds the address. The same account given twice: no instruction loads two
//! accounts of one type mutably at a time (but trading's `match_order`, which compares their addresses first), and types differ in
//! their discriminator, so two references never overlap.

use core::{
    marker::PhantomData,
    mem::take,
    ops::{Deref, DerefMut},
};

use pinocchio::{error::ProgramError, AccountView, Address};

use crate::{
    errors::Error,
    ids::{Singleton, SYSTEM_PROGRAM},
    layout::Account,
    pda, require,
};

/// Whether two addresses are the same, word by word: half the price of comparing slices.
#[inline(always)]
fn same(a: &Address, b: &Address) -> bool {
    let word = |address: &Address, i: usize| {
        // SAFETY: i < 4 and an address has 32 bytes; the load needs no alignment.
        unsafe { (address.as_array().as_ptr() as *const u64).add(i).read_unaligned() }
    };
    word(a, 0) == word(b, 0) && word(a, 1) == word(b, 1) && word(a, 2) == word(b, 2) && word(a, 3) == word(b, 3)
}

/// Makes an error where it happens and not before: batches check 50 accounts, and each code put ready costs a compute unit.
#[cold]
#[inline(never)]
fn refused(error: Error) -> ProgramError {
    error.into()
}

/// Checks owner, length and discriminator.
#[inline(always)]
fn check<T: Account>(view: &AccountView) -> Result<(), ProgramError> {
    // SAFETY: nothing assigns another owner while the instruction's accounts are loaded.
    if !same(unsafe { &(*view.account_ptr()).owner }, &T::OWNER) {
        return Err(refused(Error::WrongOwner));
    }
    if view.data_len() != T::LEN {
        return Err(refused(Error::WrongLength));
    }
    // SAFETY: the length covers 8 bytes; account data begins at a multiple of 8.
    let discriminator = unsafe { *(view.data_ptr() as *const u64) };
    if discriminator != T::DISCRIMINATOR {
        return Err(refused(Error::WrongDiscriminator));
    }
    Ok(())
}

/// Read-only state of type T.
pub struct State<'a, T> {
    view: &'a AccountView,
    of: PhantomData<T>,
}

impl<'a, T: Account> State<'a, T> {
    #[inline(always)]
    fn load(view: &'a AccountView) -> Result<Self, ProgramError> {
        check::<T>(view)?;
        Ok(Self { view, of: PhantomData })
    }

    #[inline(always)]
    pub fn address(&self) -> &'a Address {
        self.view.address()
    }

    /// For CPIs only.
    #[inline(always)]
    pub fn view(&self) -> &'a AccountView {
        self.view
    }

    /// State in an account that was taken unchecked, for where it may be absent: checked now.
    #[inline(always)]
    pub fn of(external: &External<'a>) -> Result<Self, ProgramError> {
        Self::load(external.0)
    }
}

impl<T: Account> Deref for State<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `check` saw the length; data + 8 is a multiple of 8 and T is Pod.
        unsafe { &*(self.view.data_ptr().add(8) as *const T) }
    }
}

/// Writable state of type T.
pub struct StateMut<'a, T> {
    view: &'a mut AccountView,
    of: PhantomData<T>,
}

impl<'a, T: Account> StateMut<'a, T> {
    #[inline(always)]
    fn load(view: &'a mut AccountView) -> Result<Self, ProgramError> {
        if !view.is_writable() {
            return Err(refused(Error::NotWritable));
        }
        check::<T>(view)?;
        Ok(Self { view, of: PhantomData })
    }

    #[inline(always)]
    pub fn address(&self) -> &Address {
        self.view.address()
    }

    /// For CPIs only; borrowed from self, so no reference into the state is alive during the CPI.
    #[inline(always)]
    pub fn view(&self) -> &AccountView {
        self.view
    }

    /// Ends the account: its lamports go to whom the state names as payer (`WrongAddress` otherwise), its data to nobody.
    #[inline(never)]
    pub fn close(self, to: Refunded, payer: &Address) -> Result<(), ProgramError> {
        require!(to.0.address() == payer, Error::WrongAddress);
        let lamports = to.0.lamports().checked_add(self.view.lamports());
        to.0.set_lamports(lamports.ok_or(Error::BalanceOverflow)?);
        self.view.set_lamports(0);
        self.view.close()
    }
}

impl<T: Account> Deref for StateMut<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: as for `State`.
        unsafe { &*(self.view.data_ptr().add(8) as *const T) }
    }
}

impl<T: Account> DerefMut for StateMut<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `State`; the view is borrowed mutably for as long as the reference lives.
        unsafe { &mut *(self.view.data_mut_ptr().add(8) as *mut T) }
    }
}

/// An account that signed.
pub struct Signed<'a>(&'a AccountView);

impl<'a> Signed<'a> {
    #[inline(always)]
    pub fn address(&self) -> &'a Address {
        self.0.address()
    }

    /// For CPIs only.
    #[inline(always)]
    pub fn view(&self) -> &'a AccountView {
        self.0
    }

    /// `Unauthorised` unless it is this key.
    #[inline(always)]
    pub fn require_is(&self, key: &Address) -> Result<(), ProgramError> {
        require!(self.address() == key, Error::Unauthorised);
        Ok(())
    }
}

/// An account whose address is known and compared.
pub struct Pinned<'a>(&'a AccountView);

impl<'a> Pinned<'a> {
    /// For CPIs, and for sysvars that check themselves.
    #[inline(always)]
    pub fn view(&self) -> &'a AccountView {
        self.0
    }
    #[inline(always)]
    pub fn address(&self) -> &'a Address {
        self.0.address()
    }
}

/// An account that only a CPI looks into (a token account of a stranger: Token-2022 checks mint and owner).
pub struct External<'a>(&'a AccountView);

impl<'a> External<'a> {
    #[inline(always)]
    pub fn view(&self) -> &'a AccountView {
        self.0
    }
    #[inline(always)]
    pub fn address(&self) -> &'a Address {
        self.0.address()
    }
}

/// A writable account that rent goes back to; closing compares it with the recorded payer.
pub struct Refunded<'a>(&'a mut AccountView);

/// A writable address without an account; lamports that a stranger sent there do not matter.
pub struct Vacant<'a>(&'a mut AccountView);

impl<'a> Vacant<'a> {
    #[inline(always)]
    pub fn address(&self) -> &Address {
        self.0.address()
    }

    /// Creates state of type T at `seeds` of T's owner program; searches the bump, which the caller should store.
    /// Returns the zeroed state, with its discriminator, and the bump. `WrongAddress` if the seeds lead elsewhere.
    #[inline(never)]
    pub fn create<T: Account>(self, payer: &Signed, seeds: &[&[u8]]) -> Result<(StateMut<'a, T>, u8), ProgramError> {
        let (address, bump) = pda::find(seeds, &T::OWNER).ok_or(Error::WrongAddress)?;
        require!(self.0.address() == &address, Error::WrongAddress);
        let state = self.create_with_bump(payer, seeds, bump)?;
        Ok((state, bump))
    }

    /// Creates a singleton; its bump is a constant.
    #[inline(never)]
    pub fn create_singleton<T: Account>(
        self,
        payer: &Signed,
        singleton: &Singleton,
    ) -> Result<StateMut<'a, T>, ProgramError> {
        require!(self.0.address() == &singleton.address, Error::WrongAddress);
        self.create_with_bump(payer, &[singleton.seed], singleton.bump)
    }

    fn create_with_bump<T: Account>(
        self,
        payer: &Signed,
        seeds: &[&[u8]],
        bump: u8,
    ) -> Result<StateMut<'a, T>, ProgramError> {
        pda::create_pda(payer.view(), self.0, T::LEN, &T::OWNER, seeds, bump)?;
        // SAFETY: just created with T::LEN zero bytes, owned by this program; nothing else refers to it.
        unsafe { *(self.0.data_mut_ptr() as *mut u64) = T::DISCRIMINATOR };
        StateMut::load(self.0)
    }

    /// Creates an account of another program (a mint, a token account) at a singleton's address, signed by its seeds.
    /// `lamports_for` may exceed `space` where the owner will grow it.
    #[inline(never)]
    pub fn create_foreign(
        self,
        payer: &Signed,
        singleton: &Singleton,
        space: usize,
        lamports_for: usize,
        owner: &Address,
    ) -> Result<Pinned<'a>, ProgramError> {
        require!(self.0.address() == &singleton.address, Error::WrongAddress);
        pda::create_funded(
            payer.view(),
            self.0,
            space,
            lamports_for,
            owner,
            &[singleton.seed],
            singleton.bump,
        )?;
        Ok(Pinned(self.0))
    }
}

/// Either an existing state or a vacant address.
pub enum MaybeState<'a, T> {
    Existing(StateMut<'a, T>),
    Vacant(Vacant<'a>),
}

/// One of the accounts after the named ones.
pub struct Unchecked<'a>(&'a mut AccountView);

impl<'a> Unchecked<'a> {
    #[inline(always)]
    pub fn load_mut<T: Account>(self) -> Result<StateMut<'a, T>, ProgramError> {
        StateMut::load(self.0)
    }

    /// Its key if it signed.
    #[inline(always)]
    pub fn signed(self) -> Result<Signed<'a>, ProgramError> {
        require!(self.0.is_signer(), Error::MissingSignature);
        Ok(Signed(self.0))
    }
}

/// The accounts after the named ones.
pub struct Rest<'a>(&'a mut [AccountView]);

impl Rest<'_> {
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Addresses in order, for the leaf.
    #[inline(always)]
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = &Address> {
        self.0.iter().map(|view| view.address())
    }
    /// One after the other; each is released before the next, so an account given twice is never referred to twice at a time.
    #[inline(always)]
    pub fn each(&mut self) -> impl ExactSizeIterator<Item = Unchecked<'_>> {
        self.0.iter_mut().map(Unchecked)
    }
}

/// The accounts of an instruction, taken in order.
pub struct Accounts<'a>(&'a mut [AccountView]);

impl<'a> Accounts<'a> {
    #[inline(always)]
    pub fn new(views: &'a mut [AccountView]) -> Self {
        Self(views)
    }

    #[inline(always)]
    fn next(&mut self) -> Result<&'a mut AccountView, ProgramError> {
        let (first, rest) = take(&mut self.0)
            .split_first_mut()
            .ok_or(ProgramError::NotEnoughAccountKeys)?;
        self.0 = rest;
        Ok(first)
    }

    /// A signer.
    #[inline(always)]
    pub fn signer(&mut self) -> Result<Signed<'a>, ProgramError> {
        let view = self.next()?;
        require!(view.is_signer(), Error::MissingSignature);
        Ok(Signed(view))
    }

    /// A signer who must be this key: `Unauthorised` otherwise.
    #[inline(always)]
    pub fn signed_by(&mut self, key: &Address) -> Result<Signed<'a>, ProgramError> {
        let signer = self.signer()?;
        signer.require_is(key)?;
        Ok(signer)
    }

    /// A signer who pays: writable.
    #[inline(always)]
    pub fn payer(&mut self) -> Result<Signed<'a>, ProgramError> {
        let signer = self.signer()?;
        require!(signer.0.is_writable(), Error::NotWritable);
        Ok(signer)
    }

    #[inline(always)]
    pub fn state<T: Account>(&mut self) -> Result<State<'a, T>, ProgramError> {
        State::load(self.next()?)
    }

    #[inline(always)]
    pub fn state_mut<T: Account>(&mut self) -> Result<StateMut<'a, T>, ProgramError> {
        StateMut::load(self.next()?)
    }

    /// State at a singleton's address.
    #[inline(always)]
    pub fn singleton<T: Account>(&mut self, at: &Singleton) -> Result<State<'a, T>, ProgramError> {
        let view = self.next()?;
        require!(view.address() == &at.address, Error::WrongAddress);
        State::load(view)
    }

    #[inline(always)]
    pub fn singleton_mut<T: Account>(&mut self, at: &Singleton) -> Result<StateMut<'a, T>, ProgramError> {
        let view = self.next()?;
        require!(view.address() == &at.address, Error::WrongAddress);
        StateMut::load(view)
    }

    /// An account whose address must be this one.
    #[inline(always)]
    pub fn pinned(&mut self, address: &Address) -> Result<Pinned<'a>, ProgramError> {
        let view = self.next()?;
        require!(view.address() == address, Error::WrongAddress);
        Ok(Pinned(view))
    }

    /// The same, writable.
    #[inline(always)]
    pub fn pinned_mut(&mut self, address: &Address) -> Result<Pinned<'a>, ProgramError> {
        let pinned = self.pinned(address)?;
        require!(pinned.0.is_writable(), Error::NotWritable);
        Ok(pinned)
    }

    /// An account that only a CPI looks into.
    #[inline(always)]
    pub fn external(&mut self) -> Result<External<'a>, ProgramError> {
        Ok(External(self.next()?))
    }

    /// Whom rent goes back to.
    #[inline(always)]
    pub fn refunded(&mut self) -> Result<Refunded<'a>, ProgramError> {
        let view = self.next()?;
        require!(view.is_writable(), Error::NotWritable);
        Ok(Refunded(view))
    }

    /// An address to create an account at: `AlreadyExists` if there is one.
    #[inline(always)]
    pub fn vacant(&mut self) -> Result<Vacant<'a>, ProgramError> {
        let view = self.next()?;
        require!(view.is_writable(), Error::NotWritable);
        require!(
            view.is_data_empty() && view.owned_by(&SYSTEM_PROGRAM),
            Error::AlreadyExists
        );
        Ok(Vacant(view))
    }

    /// State of type T, or an address to create it at.
    #[inline(always)]
    pub fn maybe_state<T: Account>(&mut self) -> Result<MaybeState<'a, T>, ProgramError> {
        let view = self.next()?;
        if view.owned_by(&SYSTEM_PROGRAM) && view.is_data_empty() {
            require!(view.is_writable(), Error::NotWritable);
            return Ok(MaybeState::Vacant(Vacant(view)));
        }
        Ok(MaybeState::Existing(StateMut::load(view)?))
    }

    /// All that are left.
    #[inline(always)]
    pub fn rest(self) -> Rest<'a> {
        Rest(self.0)
    }
}
