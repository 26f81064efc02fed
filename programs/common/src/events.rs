//! Events: one `Program data:` log each, `sha256("event:<Name>")[..8] ‖ source ‖ seq ‖ fields`, packed.
//!
//! `source` is the account that counts, `seq` its counter from 0 on: a gap shows a missed event.

use pinocchio::Address;

use crate::quantities::{MicroThb, PriceUthb, Wh};

/// A field of an event, packed little-endian.
pub trait Pack {
    const SIZE: usize;
    fn pack(&self, out: &mut [u8]);
}

macro_rules! pack_integers {
    ($($type:ty),*) => {$(impl Pack for $type {
        const SIZE: usize = core::mem::size_of::<$type>();
        #[inline(always)]
        fn pack(&self, out: &mut [u8]) {
            out.copy_from_slice(&self.to_le_bytes());
        }
    })*};
}
pack_integers!(u8, u16, u32, u64, i32, i64);

macro_rules! pack_quantities {
    ($($type:ty: $size:literal),*) => {$(impl Pack for $type {
        const SIZE: usize = $size;
        #[inline(always)]
        fn pack(&self, out: &mut [u8]) {
            out.copy_from_slice(&self.0.to_le_bytes());
        }
    })*};
}
pack_quantities!(Wh: 8, MicroThb: 8, PriceUthb: 4);

impl Pack for Address {
    const SIZE: usize = 32;
    #[inline(always)]
    fn pack(&self, out: &mut [u8]) {
        out.copy_from_slice(self.as_array());
    }
}

impl<const N: usize> Pack for [u8; N] {
    const SIZE: usize = N;
    #[inline(always)]
    fn pack(&self, out: &mut [u8]) {
        out.copy_from_slice(self);
    }
}

/// A field's name and its IDL type.
#[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
pub type FieldInfo = (&'static str, fn() -> std::string::String);

/// An event as the IDL shows it.
pub struct EventInfo {
    pub name: &'static str,
    pub docs: &'static str,
    pub discriminator: u64,
    /// After source and seq.
    #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
    pub fields: &'static [FieldInfo],
}

/// Writes one data log.
#[inline(always)]
pub fn log_data(bytes: &[u8]) {
    #[cfg(any(target_os = "solana", target_arch = "bpf"))]
    {
        let parts = [bytes];
        // SAFETY: a slice of slices is what the syscall takes.
        unsafe { pinocchio::syscalls::sol_log_data(parts.as_ptr() as *const u8, 1) };
    }
    #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
    let _ = bytes;
}

/// Declares events: `Event { .. }.emit(&source, seq)`.
#[macro_export]
macro_rules! events {
    ($($(#[doc = $doc:literal])* pub struct $name:ident { $(pub $field:ident : $type:ty,)* })*) => {
        $(
            $(#[doc = $doc])*
            pub struct $name { $(pub $field: $type,)* }

            impl $name {
                pub const DISCRIMINATOR: u64 = $crate::layout::discriminator("event:", stringify!($name));
                const SIZE: usize = 8 + 32 + 8 $(+ <$type as $crate::events::Pack>::SIZE)*;

                /// Logs it as number `seq` of the account `source`.
                #[inline(never)]
                pub fn emit(&self, source: &$crate::Address, seq: u64) {
                    let mut out = [0u8; Self::SIZE];
                    out[..8].copy_from_slice(&Self::DISCRIMINATOR.to_le_bytes());
                    out[8..40].copy_from_slice(source.as_array());
                    out[40..48].copy_from_slice(&seq.to_le_bytes());
                    let mut _at = 48;
                    $(
                        let end = _at + <$type as $crate::events::Pack>::SIZE;
                        $crate::events::Pack::pack(&self.$field, &mut out[_at..end]);
                        _at = end;
                    )*
                    $crate::events::log_data(&out);
                }
            }
        )*

        /// All events of the program, for the IDL.
        pub const EVENTS: &[$crate::events::EventInfo] = &[$($crate::events::EventInfo {
            name: stringify!($name),
            docs: concat!("" $(, $doc)*),
            discriminator: $name::DISCRIMINATOR,
            #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
            fields: &[$((stringify!($field), <$type as $crate::idl::IdlType>::idl),)*],
        },)*];
    };
}
