//! Batch instructions: parsing `index ‖ n ‖ depth ‖ proof ‖ entries`, proving the leaf, and applying it once.

use pinocchio::{error::ProgramError, Address};

use crate::{
    accounts::Rest,
    errors::Error,
    merkle::{self, Hash, LeafId, MAX_ADDRESSES, MAX_DEPTH},
    require,
    state::{Kind, MAX_BATCHES},
};

/// A parsed batch; nothing in it is proven yet.
pub struct Batch<'a> {
    pub index: u16,
    pub n: usize,
    pub proof: &'a [Hash],
    pub entries: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Bounds: 1 ≤ n ≤ 64, exactly n entries of `entry_size`, depth ≤ 16, index within the tree and the bitmap.
    #[inline(always)]
    pub fn parse(data: &'a [u8], entry_size: usize) -> Result<Self, ProgramError> {
        let batch = Self::parse_uneven(data)?;
        require!(batch.entries.len() == batch.n * entry_size, Error::InvalidData);
        Ok(batch)
    }

    /// As `parse`, for entries of several lengths: whoever reads them checks that there are n and nothing after them. A leaf doesn't say
    /// n, so entries must delimit themselves: then one n alone reads them to the end.
    #[inline(always)]
    pub fn parse_uneven(data: &'a [u8]) -> Result<Self, ProgramError> {
        let ([i0, i1, n, depth], rest) = data.split_first_chunk::<4>().ok_or(Error::InvalidData)?;
        let (index, n) = (u16::from_le_bytes([*i0, *i1]), *n as usize);
        let (proof, entries) = split_proof(rest, *depth)?;
        require!((1..=MAX_ADDRESSES).contains(&n), Error::InvalidData);
        require!(
            index < MAX_BATCHES && in_tree(index, *depth),
            Error::BatchIndexOutOfRange
        );
        Ok(Self {
            index,
            n,
            proof,
            entries,
        })
    }

    /// Proves the batch against the final root, for exactly these accounts.
    #[inline(always)]
    pub fn prove(&self, run: &RunId, program: &Address, accounts: &Rest, root: &Hash) -> Result<(), ProgramError> {
        require!(accounts.len() == self.n, Error::WrongAccountCount);
        let leaf = run
            .leaf_id(program, self.index)
            .leaf(self.entries, accounts.addresses());
        require!(&merkle::fold(leaf, self.index, self.proof) == root, Error::WrongRoot);
        Ok(())
    }
}

/// Splits `proof ‖ rest`.
#[inline(always)]
pub fn split_proof(data: &[u8], depth: u8) -> Result<(&[Hash], &[u8]), ProgramError> {
    require!(
        depth <= MAX_DEPTH && data.len() >= 32 * depth as usize,
        Error::InvalidData
    );
    let (proof, rest) = data.split_at(32 * depth as usize);
    Ok((proof.as_chunks::<32>().0, rest))
}

/// Whether a tree of this depth has that leaf.
#[inline(always)]
pub fn in_tree(index: u16, depth: u8) -> bool {
    (index as u32) >> depth == 0
}

/// What every leaf of a run shares.
#[derive(Clone, Copy)]
pub struct RunId {
    pub network: u64,
    pub kind: Kind,
    pub epoch: u32,
    pub run: u16,
}

impl RunId {
    #[inline(always)]
    pub fn leaf_id<'a>(&self, program: &'a Address, index: u16) -> LeafId<'a> {
        LeafId {
            program,
            network: self.network,
            kind: self.kind as u8,
            epoch: self.epoch,
            run: self.run,
            index,
        }
    }
}

/// Sets the batch's bit; `AlreadySettled` if it is set.
#[inline(always)]
pub fn claim(bitmap: &mut [u8; 128], index: u16) -> Result<(), ProgramError> {
    let (byte, bit) = ((index >> 3) as usize, 1u8 << (index & 7));
    let cell = bitmap.get_mut(byte).ok_or(Error::BatchIndexOutOfRange)?;
    require!(*cell & bit == 0, Error::AlreadySettled);
    *cell |= bit;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_applied_once() {
        let mut bitmap = [0; 128];
        assert_eq!(claim(&mut bitmap, 1_023), Ok(()));
        assert_eq!(claim(&mut bitmap, 1_022), Ok(()));
        assert_eq!(claim(&mut bitmap, 1_023), Err(Error::AlreadySettled.into()));
        assert_eq!(claim(&mut bitmap, 1_024), Err(Error::BatchIndexOutOfRange.into()));
    }

    #[test]
    fn a_batch_is_parsed_within_its_bounds() {
        let mut data = std::vec![2, 0, 1, 2];
        data.extend_from_slice(&[9; 64]);
        data.extend_from_slice(&[1, 2, 3, 4]);
        let batch = Batch::parse(&data, 4).unwrap();
        assert_eq!(
            (batch.index, batch.n, batch.proof.len(), batch.entries),
            (2, 1, 2, &[1, 2, 3, 4][..])
        );
        assert_eq!(Batch::parse(&data, 8).err(), Some(Error::InvalidData.into()));
        data[0] = 4;
        assert_eq!(Batch::parse(&data, 4).err(), Some(Error::BatchIndexOutOfRange.into()));
        data[3] = 17;
        assert_eq!(Batch::parse(&data, 4).err(), Some(Error::InvalidData.into()));
        assert_eq!(Batch::parse(&[0, 0, 0, 0], 4).err(), Some(Error::InvalidData.into()));
    }
}
