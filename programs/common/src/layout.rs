//! Layouts of accounts: `repr(C)` structs without hidden padding, and what the IDL says about them.
//!
//! `layout!` declares a struct and refuses at compile time any padding that is not a field. `account!` makes it an account type
//! with its discriminator and owner. Not here: reading an account (`accounts`).

use pinocchio::Address;
use sha2_const_stable::Sha256;

/// A struct that may be read straight from account bytes.
///
/// # Safety
/// `repr(C)`, no implicit padding, alignment at most 8, and every bit pattern valid.
pub unsafe trait Pod: Copy + 'static {}

/// A type of account: which program makes it, and the 8 bytes it begins with.
pub trait Account: Pod {
    const NAME: &'static str;
    const OWNER: Address;
    const DISCRIMINATOR: u64;
    /// Bytes of the account, discriminator included.
    const LEN: usize = 8 + core::mem::size_of::<Self>();
}

/// First 8 bytes of sha256(prefix ‖ name), little-endian: `global:`, `account:` or `event:` discriminators.
pub const fn discriminator(prefix: &str, name: &str) -> u64 {
    let hash = Sha256::new()
        .update(prefix.as_bytes())
        .update(name.as_bytes())
        .finalize();
    u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}

/// A field of a layout; the type's IDL form is known on the host only.
pub struct Field {
    pub name: &'static str,
    pub docs: &'static str,
    pub offset: usize,
    pub size: usize,
    #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
    pub idl: fn() -> std::string::String,
}

/// A struct with its fields.
pub trait Layout: Pod {
    const STRUCT: &'static str;
    const DOCS: &'static str;
    const FIELDS: &'static [Field];
}

/// Declares a `repr(C)` struct whose fields fill it without a gap.
#[macro_export]
macro_rules! layout {
    ($($(#[doc = $doc:literal])* pub struct $name:ident {
        $($(#[doc = $field_doc:literal])* pub $field:ident : $type:ty,)*
    })*) => {$(
        $(#[doc = $doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[doc = $field_doc])* pub $field: $type,)* }

        // SAFETY: repr(C); the assertions below exclude padding and over-alignment; fields are integers, addresses, arrays.
        unsafe impl $crate::layout::Pod for $name {}
        const _: () = {
            assert!(0 $(+ core::mem::size_of::<$type>())* == core::mem::size_of::<$name>(), "implicit padding");
            assert!(core::mem::align_of::<$name>() <= 8);
        };

        impl $crate::layout::Layout for $name {
            const STRUCT: &'static str = stringify!($name);
            const DOCS: &'static str = concat!("" $(, $doc)*);
            const FIELDS: &'static [$crate::layout::Field] = &[$($crate::layout::Field {
                name: stringify!($field),
                docs: concat!("" $(, $field_doc)*),
                offset: core::mem::offset_of!($name, $field),
                size: core::mem::size_of::<$type>(),
                #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
                idl: <$type as $crate::idl::IdlType>::idl,
            },)*];
        }

        #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
        impl $crate::idl::IdlType for $name {
            fn idl() -> std::string::String {
                std::format!("{{\"defined\": {{\"name\": \"{}\"}}}}", stringify!($name))
            }
        }
    )*};
}

/// Makes a layout an account type of a program.
#[macro_export]
macro_rules! account {
    ($name:ident, $owner:expr) => {
        impl $crate::layout::Account for $name {
            const NAME: &'static str = stringify!($name);
            const OWNER: pinocchio::Address = $owner;
            const DISCRIMINATOR: u64 = $crate::layout::discriminator("account:", stringify!($name));
        }
    };
}
