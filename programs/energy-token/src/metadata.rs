//! Token-2022's metadata extension: the one instruction needed, which no library here builds, and the sizes it implies.

/// A mint with the metadata pointer: 165 (base, padded) + 1 (account type) + 4 (TLV header) + 64.
pub const MINT_WITH_POINTER: usize = 165 + 1 + 4 + 64;

/// Longest name, symbol and URI taken together.
const MAX_TEXT: usize = 96;
/// Discriminator of `spl_token_metadata_interface:initialize_account`.
const INITIALIZE: [u8; 8] = [210, 225, 30, 162, 88, 184, 77, 141];

/// What wallets show of a token.
pub struct Metadata {
    pub name: &'static str,
    pub symbol: &'static str,
    pub uri: &'static str,
}

pub const GRID: Metadata = Metadata {
    name: "GRID",
    symbol: "GRID",
    uri: "",
};

impl Metadata {
    const fn text_len(&self) -> usize {
        self.name.len() + self.symbol.len() + self.uri.len()
    }

    /// Bytes of the mint once the metadata is in it: TLV header, update authority, mint, three strings, an empty list.
    pub const fn mint_len(&self) -> usize {
        MINT_WITH_POINTER + 4 + 32 + 32 + 3 * 4 + self.text_len() + 4
    }

    /// Instruction data and its length.
    pub fn instruction(&self) -> ([u8; 8 + 12 + MAX_TEXT], usize) {
        let mut data = [0; 8 + 12 + MAX_TEXT];
        data[..8].copy_from_slice(&INITIALIZE);
        let mut at = 8;
        for text in [self.name, self.symbol, self.uri] {
            data[at..at + 4].copy_from_slice(&(text.len() as u32).to_le_bytes());
            data[at + 4..at + 4 + text.len()].copy_from_slice(text.as_bytes());
            at += 4 + text.len();
        }
        (data, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_holds_three_length_prefixed_strings() {
        let (data, len) = GRID.instruction();
        assert_eq!(&data[8..len], b"\x04\0\0\0GRID\x04\0\0\0GRID\0\0\0\0");
        assert_eq!(GRID.mint_len(), 234 + 4 + 64 + 12 + 8 + 4);
    }

    #[test]
    fn the_discriminator_is_that_of_the_metadata_interface() {
        let hash = common::layout::discriminator("spl_token_metadata_interface:", "initialize_account");
        assert_eq!(hash.to_le_bytes(), INITIALIZE);
    }
}
