//! Host only: the IDL JSON of a program, made from its declarations, so that it can't differ from the code.
//!
//! `check` compares it with the committed file; with `UPDATE_IDL=1` it writes the file instead.

use std::{format, string::String, string::ToString, vec::Vec};

use pinocchio::Address;

use crate::{
    errors::ERRORS,
    events::EventInfo,
    instructions::InstructionInfo,
    layout::{Account, Layout},
    quantities::{MicroThb, PriceUthb, Wh},
};

/// How a Rust type is written in the IDL, as JSON.
pub trait IdlType {
    fn idl() -> String;
}

macro_rules! idl_names {
    ($($type:ty: $name:literal),*) => {$(impl IdlType for $type {
        fn idl() -> String {
            format!("\"{}\"", $name)
        }
    })*};
}
idl_names!(u8: "u8", u16: "u16", u32: "u32", u64: "u64", i32: "i32", i64: "i64", Address: "pubkey", Wh: "u64", MicroThb: "u64", PriceUthb: "u32");

impl<T: IdlType, const N: usize> IdlType for [T; N] {
    fn idl() -> String {
        format!("{{\"array\": [{}, {}]}}", T::idl(), N)
    }
}

/// A struct for the `types` section; accounts also for `accounts`.
pub struct Type {
    name: &'static str,
    json: String,
    account: Option<u64>,
}

/// A plain struct.
pub fn plain<T: Layout>() -> Type {
    Type {
        name: T::STRUCT,
        json: struct_json::<T>(0),
        account: None,
    }
}

/// An account; offsets in the IDL count from its first byte, the discriminator included.
pub fn account<T: Layout + Account>() -> Type {
    assert_eq!(T::STRUCT, T::NAME);
    Type {
        name: T::STRUCT,
        json: struct_json::<T>(8),
        account: Some(T::DISCRIMINATOR),
    }
}

fn text(value: &str) -> String {
    format!("\"{}\"", value.trim().replace('\\', "\\\\").replace('"', "\\\""))
}

fn docs(value: &str) -> String {
    if value.trim().is_empty() {
        String::new()
    } else {
        format!("\"docs\": [{}], ", text(value))
    }
}

fn bytes(discriminator: u64) -> String {
    let all: Vec<String> = discriminator.to_le_bytes().iter().map(u8::to_string).collect();
    format!("[{}]", all.join(", "))
}

fn list(items: Vec<String>, indent: usize) -> String {
    if items.is_empty() {
        return "[]".to_string();
    }
    let (pad, end) = (" ".repeat(indent + 2), " ".repeat(indent));
    format!("[\n{pad}{}\n{end}]", items.join(&format!(",\n{pad}")))
}

fn struct_json<T: Layout>(header: usize) -> String {
    let fields = T::FIELDS.iter().map(|field| {
        format!(
            "{{\"name\": {}, {}\"type\": {}, \"offset\": {}, \"size\": {}}}",
            text(field.name),
            docs(field.docs),
            (field.idl)(),
            field.offset + header,
            field.size
        )
    });
    format!(
        "{{\"name\": {}, {}\"serialization\": \"bytemuck\", \"repr\": {{\"kind\": \"c\"}}, \"size\": {}, \"type\": {{\"kind\": \"struct\", \"fields\": {}}}}}",
        text(T::STRUCT), docs(T::DOCS), core::mem::size_of::<T>() + header, list(fields.collect(), 4)
    )
}

/// An argument's type as written in `instructions!`.
fn argument_type(name: &str) -> String {
    if let Some(inner) = name.strip_prefix("vec<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("{{\"vec\": {}}}", argument_type(inner));
    }
    if let Some((inner, count)) = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']')?.split_once(';'))
    {
        return format!("{{\"array\": [{}, {}]}}", argument_type(inner.trim()), count.trim());
    }
    if name.starts_with(char::is_uppercase) {
        return format!("{{\"defined\": {{\"name\": \"{name}\"}}}}");
    }
    text(name)
}

fn instruction_json(info: &InstructionInfo) -> String {
    let accounts = info.accounts.iter().map(|(name, flags)| {
        let writable = if flags.contains('w') {
            ", \"writable\": true"
        } else {
            ""
        };
        let signer = if flags.contains('s') { ", \"signer\": true" } else { "" };
        format!(
            "{{\"name\": {}{writable}{signer}{}}}",
            text(name),
            address_json(name, flags)
        )
    });
    let args = info
        .args
        .iter()
        .map(|(name, ty)| format!("{{\"name\": {}, \"type\": {}}}", text(name), argument_type(ty)));
    let remaining = if info.remaining.is_empty() {
        String::new()
    } else {
        format!(", \"remaining_accounts\": {}", text(info.remaining))
    };
    format!(
        "{{\"name\": {}, {}\"discriminator\": {}, \"accounts\": {}, \"args\": {}{remaining}}}",
        text(info.name),
        docs(info.docs),
        bytes(info.discriminator),
        list(accounts.collect(), 4),
        list(args.collect(), 4)
    )
}

/// The constant address of an account, where its name has one.
fn address_json(name: &str, flags: &str) -> String {
    use crate::ids;
    let address = match name {
        "governance" => ids::GOVERNANCE.address,
        "validators" => ids::VALIDATORS.address,
        "registry" => ids::REGISTRY.address,
        "token_config" => ids::TOKEN_CONFIG.address,
        "mint_authority" => ids::MINT_AUTHORITY.address,
        "grid_mint" => ids::GRID_MINT.address,
        "thbc_mint" => ids::THBC_MINT.address,
        "market" => ids::MARKET.address,
        "grid_vault" => ids::GRID_VAULT.address,
        "thbc_vault" => ids::THBC_VAULT.address,
        "system_program" => ids::SYSTEM_PROGRAM,
        "token_program" => ids::TOKEN_2022,
        "registry_program" => ids::REGISTRY_ID,
        "energy_token_program" => ids::ENERGY_TOKEN_ID,
        "instructions_sysvar" => ids::INSTRUCTIONS_SYSVAR,
        "deployer" if flags.contains('s') => ids::DEPLOYER,
        _ => return String::new(),
    };
    format!(", \"address\": \"{}\"", base58(address.as_array()))
}

fn base58(bytes: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    core::iter::repeat_n(0, zeros)
        .chain(digits.into_iter().rev())
        .map(|d| ALPHABET[d as usize] as char)
        .collect()
}

/// The IDL document of a program; events' types follow the given ones.
pub fn document(
    name: &str,
    address: &Address,
    instructions: &[InstructionInfo],
    types: &[Type],
    events: &[EventInfo],
) -> String {
    let accounts = types.iter().filter_map(|ty| {
        ty.account.map(|discriminator| {
            format!(
                "{{\"name\": {}, \"discriminator\": {}}}",
                text(ty.name),
                bytes(discriminator)
            )
        })
    });
    let event_types = events.iter().map(|event| {
        let fixed = [
            "{\"name\": \"source\", \"type\": \"pubkey\"}".to_string(),
            "{\"name\": \"seq\", \"type\": \"u64\"}".to_string(),
        ];
        let fields = event
            .fields
            .iter()
            .map(|(name, idl)| format!("{{\"name\": {}, \"type\": {}}}", text(name), idl()));
        format!(
            "{{\"name\": {}, {}\"type\": {{\"kind\": \"struct\", \"fields\": {}}}}}",
            text(event.name),
            docs(event.docs),
            list(fixed.into_iter().chain(fields).collect(), 4)
        )
    });
    let all_types = types.iter().map(|ty| ty.json.clone()).chain(event_types);
    let errors = ERRORS
        .iter()
        .map(|(code, name, msg)| format!("{{\"code\": {code}, \"name\": {}, \"msg\": {}}}", text(name), text(msg)));
    let event_list = events.iter().map(|event| {
        format!(
            "{{\"name\": {}, \"discriminator\": {}}}",
            text(event.name),
            bytes(event.discriminator)
        )
    });
    format!(
        "{{\n  \"address\": \"{}\",\n  \"metadata\": {{\"name\": {}, \"version\": \"{}\", \"spec\": \"0.1.0\", \"description\": {}}},\n  \"instructions\": {},\n  \"accounts\": {},\n  \"types\": {},\n  \"events\": {},\n  \"errors\": {}\n}}\n",
        base58(address.as_array()), text(name), env!("CARGO_PKG_VERSION"), text(&format!("GridTokenX {name} program")),
        list(instructions.iter().map(instruction_json).collect(), 2), list(accounts.collect(), 2), list(all_types.collect(), 2),
        list(event_list.collect(), 2), list(errors.collect(), 2)
    )
}

/// Compares the document with `programs/idl/<name>.json`, or writes it where `UPDATE_IDL` is set.
///
/// # Panics
/// If the committed file differs.
pub fn check(name: &str, document: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../idl")
        .join(format!("{name}.json"));
    if std::env::var_os("UPDATE_IDL").is_some() {
        std::fs::write(&path, document).expect("the IDL folder is writable");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == document,
        "programs/idl/{name}.json differs from the code: run UPDATE_IDL=1 cargo test -p {name} --test idl"
    );
}
