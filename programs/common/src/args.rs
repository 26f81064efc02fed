//! Reading instruction arguments: packed little-endian, `string` and `vec` with a u32 length before them (Borsh).

use pinocchio::{error::ProgramError, Address};

use crate::{errors::Error, require};

/// A cursor over instruction data after the discriminator; every read is bounded.
pub struct Args<'a>(&'a [u8]);

macro_rules! integers {
    ($($name:ident: $type:ty),*) => {$(
        #[inline(always)]
        pub fn $name(&mut self) -> Result<$type, ProgramError> {
            Ok(<$type>::from_le_bytes(*self.array()?))
        }
    )*};
}

impl<'a> Args<'a> {
    #[inline(always)]
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    integers!(u8: u8, u16: u16, u32: u32, u64: u64, i32: i32, i64: i64);

    /// N bytes in place.
    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], ProgramError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Error::InvalidData)?;
        self.0 = tail;
        Ok(head)
    }

    #[inline(always)]
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], ProgramError> {
        require!(n <= self.0.len(), Error::InvalidData);
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        Ok(head)
    }

    #[inline(always)]
    pub fn address(&mut self) -> Result<Address, ProgramError> {
        Ok(Address::new_from_array(*self.array()?))
    }

    /// The bytes of a `string`.
    pub fn string(&mut self) -> Result<&'a [u8], ProgramError> {
        let n = self.u32()? as usize;
        self.bytes(n)
    }

    /// A `vec<pubkey>` of at most `N` distinct keys, padded with zero keys; returns the count. `InvalidKeySet` otherwise.
    pub fn keys<const N: usize>(&mut self) -> Result<([Address; N], u8), ProgramError> {
        let n = self.u32()? as usize;
        require!(n <= N, Error::InvalidKeySet);
        let mut keys = [Address::new_from_array([0; 32]); N];
        for i in 0..n {
            let key = self.address()?;
            require!(
                !keys[..i].contains(&key) && key.as_array() != &[0; 32],
                Error::InvalidKeySet
            );
            keys[i] = key;
        }
        Ok((keys, n as u8))
    }

    /// All that is left.
    #[inline(always)]
    pub fn tail(self) -> &'a [u8] {
        self.0
    }

    /// `InvalidData` if anything is left.
    #[inline(always)]
    pub fn end(self) -> Result<(), ProgramError> {
        require!(self.0.is_empty(), Error::InvalidData);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_strings_are_read_in_order() {
        let mut args = Args::new(&[1, 2, 0, 3, 0, 0, 0, b'a', b'b', b'c']);
        assert_eq!(args.u8(), Ok(1));
        assert_eq!(args.u16(), Ok(2));
        assert_eq!(args.string(), Ok(&b"abc"[..]));
        assert_eq!(args.end(), Ok(()));
    }

    #[test]
    fn short_and_long_data_are_refused() {
        assert_eq!(Args::new(&[1]).u16(), Err(Error::InvalidData.into()));
        assert_eq!(
            Args::new(&[255, 255, 255, 255]).string(),
            Err(Error::InvalidData.into())
        );
        assert_eq!(Args::new(&[1]).end(), Err(Error::InvalidData.into()));
    }

    #[test]
    fn a_key_twice_or_too_many_keys_are_refused() {
        let mut data = std::vec![2, 0, 0, 0];
        data.extend_from_slice(&[7; 64]);
        assert_eq!(Args::new(&data).keys::<4>().unwrap_err(), Error::InvalidKeySet.into());
        data[4] = 8;
        assert_eq!(Args::new(&data).keys::<4>().unwrap().1, 2);
        assert_eq!(Args::new(&data).keys::<1>().unwrap_err(), Error::InvalidKeySet.into());
    }
}
