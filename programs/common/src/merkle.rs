//! The tree of docs/reference/abi.md: leaves bind network, program, run, index, entries and accounts; sha256 by syscall on chain.
//!
//! Not here: building trees (clients do), what a leaf's entries mean.

use core::mem::MaybeUninit;

use pinocchio::Address;

pub const LEAF_TAG: &[u8; 18] = b"gridtokenx/leaf/v1";
/// Deepest tree: 2¹⁶ leaves, as indices are 16 bits.
pub const MAX_DEPTH: u8 = 16;

pub type Hash = [u8; 32];

/// sha256 of the concatenation.
#[inline(always)]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    #[cfg(any(target_os = "solana", target_arch = "bpf"))]
    {
        let mut out = core::mem::MaybeUninit::<Hash>::uninit();
        // SAFETY: a slice of slices is what the syscall takes; it fills all 32 bytes.
        unsafe {
            pinocchio::syscalls::sol_sha256(
                parts.as_ptr() as *const u8,
                parts.len() as u64,
                out.as_mut_ptr() as *mut u8,
            );
            out.assume_init()
        }
    }
    #[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
    {
        let mut hasher = sha2_const_stable::Sha256::new();
        for part in parts {
            hasher = hasher.update(part);
        }
        hasher.finalize()
    }
}

/// What a leaf is of, before its entries and addresses.
#[derive(Clone, Copy)]
pub struct LeafId<'a> {
    pub program: &'a Address,
    pub network: u64,
    pub kind: u8,
    pub epoch: u32,
    pub run: u16,
    pub index: u16,
}

/// Bytes of a leaf before the entries.
pub const LEAF_PREFIX: usize = 1 + 18 + 32 + 8 + 1 + 4 + 2 + 2;

impl LeafId<'_> {
    /// 0x00 ‖ tag ‖ program ‖ network ‖ kind ‖ epoch ‖ run ‖ index.
    #[inline(always)]
    pub fn prefix(&self) -> [u8; LEAF_PREFIX] {
        let mut out = [0; LEAF_PREFIX];
        out[1..19].copy_from_slice(LEAF_TAG);
        out[19..51].copy_from_slice(self.program.as_array());
        out[51..59].copy_from_slice(&self.network.to_le_bytes());
        out[59] = self.kind;
        out[60..64].copy_from_slice(&self.epoch.to_le_bytes());
        out[64..66].copy_from_slice(&self.run.to_le_bytes());
        out[66..68].copy_from_slice(&self.index.to_le_bytes());
        out
    }

    /// The leaf over entries and addresses; at most `MAX_ADDRESSES`, the rest is ignored by no one: callers bound it.
    #[inline(always)]
    pub fn leaf<'b>(&self, entries: &'b [u8], addresses: impl Iterator<Item = &'b Address>) -> Hash {
        let prefix = self.prefix();
        // Not initialised: 66 empty slices would cost 132 compute units in every batch.
        let mut parts: [MaybeUninit<&[u8]>; 2 + MAX_ADDRESSES] = [MaybeUninit::uninit(); 2 + MAX_ADDRESSES];
        parts[0].write(&prefix);
        parts[1].write(entries);
        let mut used = 2;
        for (slot, address) in parts[2..].iter_mut().zip(addresses) {
            slot.write(address.as_array());
            used += 1;
        }
        // SAFETY: the first `used` parts are written.
        sha256(unsafe { core::slice::from_raw_parts(parts.as_ptr() as *const &[u8], used) })
    }
}

/// Most accounts a leaf can bind: a transaction locks 64.
pub const MAX_ADDRESSES: usize = 64;

/// The root that a leaf at `index` leads to along `proof`, lowest level first.
#[inline(always)]
pub fn fold(leaf: Hash, index: u16, proof: &[Hash]) -> Hash {
    let mut node = leaf;
    let mut position = index;
    for sibling in proof {
        node = if position & 1 == 0 {
            sha256(&[&[1], &node, sibling])
        } else {
            sha256(&[&[1], sibling, &node])
        };
        position >>= 1;
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u16) -> LeafId<'static> {
        LeafId {
            program: &crate::ids::REGISTRY_ID,
            network: 3,
            kind: 0,
            epoch: 1_966_656,
            run: 0,
            index,
        }
    }

    #[test]
    fn one_leaf_is_its_own_root() {
        let leaf = id(0).leaf(b"entry", [&crate::ids::MARKET.address].into_iter());
        assert_eq!(fold(leaf, 0, &[]), leaf);
    }

    #[test]
    fn the_leaf_is_the_hash_of_the_documented_bytes() {
        let mut bytes = std::vec![0u8];
        bytes.extend_from_slice(b"gridtokenx/leaf/v1");
        bytes.extend_from_slice(crate::ids::REGISTRY_ID.as_array());
        bytes.extend_from_slice(&3u64.to_le_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&1_966_656u32.to_le_bytes());
        bytes.extend_from_slice(&0u16.to_le_bytes());
        bytes.extend_from_slice(&2u16.to_le_bytes());
        bytes.extend_from_slice(b"entries");
        bytes.extend_from_slice(crate::ids::MARKET.address.as_array());
        assert_eq!(
            id(2).leaf(b"entries", [&crate::ids::MARKET.address].into_iter()),
            sha256(&[&bytes])
        );
    }

    #[test]
    fn three_leaves_padded_to_four_prove_themselves_at_their_index_only() {
        let leaves: std::vec::Vec<Hash> = (0..3).map(|i| id(i).leaf(&[i as u8], [].into_iter())).collect();
        let pad = [0; 32];
        let (left, right) = (
            sha256(&[&[1], &leaves[0], &leaves[1]]),
            sha256(&[&[1], &leaves[2], &pad]),
        );
        let root = sha256(&[&[1], &left, &right]);
        assert_eq!(fold(leaves[0], 0, &[leaves[1], right]), root);
        assert_eq!(fold(leaves[1], 1, &[leaves[0], right]), root);
        assert_eq!(fold(leaves[2], 2, &[pad, left]), root);
        assert_ne!(fold(leaves[2], 0, &[pad, left]), root);
    }
}
