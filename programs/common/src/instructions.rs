//! The table of a program's instructions: from one declaration come the discriminators, the dispatcher and the IDL.
//!
//! ```ignore
//! common::instructions! {
//!     /// Pauses a program.
//!     pause(program: "u8") [guardian_or_authority: "s", governance: "w"];
//! }
//! ```
//! makes `dispatch(accounts, data)`, which calls `crate::instructions::pause::process(Accounts, Args)`, and `INSTRUCTIONS`.
//! Argument types are IDL names: integers, `pubkey`, `string`, `[u8;32]`, `vec<pubkey>`, a struct's name, `tail` (the raw rest).
//! Account flags: `s` signer, `w` writable, `` neither. `remaining: "…"` describes the accounts after the named ones.

/// An instruction as the IDL shows it.
pub struct InstructionInfo {
    pub name: &'static str,
    pub docs: &'static str,
    pub discriminator: u64,
    pub args: &'static [(&'static str, &'static str)],
    pub accounts: &'static [(&'static str, &'static str)],
    pub remaining: &'static str,
}

// `crate::instructions::<name>` is meant to be the program's, not this crate's.
#[allow(clippy::crate_in_macro_def)]
#[macro_export]
macro_rules! instructions {
    ($($(#[doc = $doc:literal])* $name:ident ( $($arg:ident : $type:literal),* $(,)? )
        [ $($account:ident : $flags:literal),* $(,)? ] $(remaining $remaining:literal)? ;)*) => {
        /// Discriminators, `sha256("global:<name>")[..8]`.
        #[allow(non_upper_case_globals)]
        pub mod discriminators {
            $(pub const $name: u64 = $crate::layout::discriminator("global:", stringify!($name));)*
        }

        /// Calls the instruction that the first 8 bytes name.
        #[inline(always)]
        pub fn dispatch(accounts: &mut [$crate::AccountView], data: &[u8]) -> $crate::ProgramResult {
            let Some((discriminator, data)) = data.split_first_chunk::<8>() else {
                return Err($crate::Error::InvalidData.into());
            };
            let discriminator = u64::from_le_bytes(*discriminator);
            let (accounts, args) = ($crate::accounts::Accounts::new(accounts), $crate::args::Args::new(data));
            $(if discriminator == discriminators::$name {
                return $crate::instructions::outlined(crate::instructions::$name::process, accounts, args);
            })*
            Err($crate::ProgramError::InvalidInstructionData)
        }

        /// All instructions, for the IDL.
        pub const INSTRUCTIONS: &[$crate::instructions::InstructionInfo] = &[$($crate::instructions::InstructionInfo {
            name: stringify!($name),
            docs: concat!("" $(, $doc)*),
            discriminator: discriminators::$name,
            args: &[$((stringify!($arg), $type),)*],
            accounts: &[$((stringify!($account), $flags),)*],
            remaining: concat!("" $(, $remaining)?),
        },)*];
    };
}

/// Keeps an instruction's stack frame out of the entrypoint's: frames are 4 096 bytes.
#[inline(never)]
pub fn outlined<'a>(
    process: impl FnOnce(crate::accounts::Accounts<'a>, crate::args::Args<'a>) -> crate::ProgramResult,
    accounts: crate::accounts::Accounts<'a>,
    args: crate::args::Args<'a>,
) -> crate::ProgramResult {
    process(accounts, args)
}

/// The entrypoint of a program, for on-chain builds without the `no-entrypoint` feature.
#[allow(clippy::crate_in_macro_def)]
#[macro_export]
macro_rules! entrypoint {
    () => {
        #[cfg(all(
            not(feature = "no-entrypoint"),
            any(target_os = "solana", target_arch = "bpf")
        ))]
        mod entrypoint {
            // 64 accounts: what a transaction can lock.
            pinocchio::program_entrypoint!(process, 64);
            pinocchio::no_allocator!();
            pinocchio::nostd_panic_handler!();

            fn process(
                _program: &pinocchio::Address,
                accounts: &mut [pinocchio::AccountView],
                data: &[u8],
            ) -> pinocchio::ProgramResult {
                crate::dispatch(accounts, data)
            }
        }
    };
}
