//! Typed quantities: Wh, µTHB, µTHB per kWh. Only the products that mean something exist (domain §1).
//!
//! Not here: which quantity is charged for what.

use core::ops::{Add, AddAssign, Sub, SubAssign};

const WH_PER_KWH: u64 = 1_000;

/// Energy; on chain also base units of GRID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Wh(pub u64);

/// Money; on chain also base units of THBC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct MicroThb(pub u64);

/// A price, µTHB per kWh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PriceUthb(pub u32);

macro_rules! amounts {
    ($($name:ident),*) => {$(
        impl $name {
            pub const ZERO: Self = Self(0);
            #[inline(always)]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
            /// What is left, or nothing.
            #[inline(always)]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
            #[inline(always)]
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }
        }
        // + and − are checked: the release profile has overflow-checks on, and an overflow ends the transaction.
        impl Add for $name {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl Sub for $name {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl AddAssign for $name {
            #[inline(always)]
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl SubAssign for $name {
            #[inline(always)]
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }
    )*};
}
amounts!(Wh, MicroThb);

impl PriceUthb {
    /// What is paid: ⌈wh × price / 1000⌉. (2³² − 1)² + 999 < 2⁶⁴, so no check is needed; `div_ceil` would divide twice.
    #[inline(always)]
    #[allow(clippy::manual_div_ceil)]
    pub const fn value_ceil(self, energy_wh: u32) -> MicroThb {
        MicroThb((self.0 as u64 * energy_wh as u64 + (WH_PER_KWH - 1)) / WH_PER_KWH)
    }

    /// What is received: ⌊wh × price / 1000⌋.
    #[inline(always)]
    pub const fn value_floor(self, energy_wh: u32) -> MicroThb {
        MicroThb(self.0 as u64 * energy_wh as u64 / WH_PER_KWH)
    }

    /// Price with a charge on top; None above u32.
    #[inline(always)]
    pub const fn checked_add(self, charge: Self) -> Option<Self> {
        match self.0.checked_add(charge.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl MicroThb {
    /// ⌊value × rate⌋ for a rate in basis points. `value` < 2⁵⁰ keeps the product in 64 bits; above it the transaction ends.
    #[inline(always)]
    pub fn basis_points_floor(self, rate_bp: u16) -> MicroThb {
        MicroThb(self.0 * rate_bp as u64 / 10_000)
    }
}

/// Splits a signed net energy: (surplus, deficit), one of them zero. Works for i32::MIN too.
#[inline(always)]
pub const fn split_net(net_wh: i32) -> (u32, u32) {
    if net_wh >= 0 {
        (net_wh as u32, 0)
    } else {
        (0, net_wh.unsigned_abs())
    }
}

/// ⌊dividend / divisor⌋ towards minus infinity; the target has no signed division.
#[inline(always)]
pub const fn floor_div(dividend: i64, divisor: u64) -> i64 {
    let magnitude = dividend.unsigned_abs();
    if dividend >= 0 {
        (magnitude / divisor) as i64
    } else {
        (magnitude.div_ceil(divisor) as i64).wrapping_neg()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paid_rounds_up_and_what_is_received_rounds_down() {
        let price = PriceUthb(2_580_001);
        assert_eq!(price.value_ceil(1), MicroThb(2_581));
        assert_eq!(price.value_floor(1), MicroThb(2_580));
        assert_eq!(price.value_ceil(0), MicroThb(0));
        assert_eq!(PriceUthb(4_100_000).value_ceil(1_000), MicroThb(4_100_000));
    }

    #[test]
    fn the_largest_product_fits_64_bits() {
        let largest = u128::from(u32::MAX) * u128::from(u32::MAX);
        assert_eq!(
            u128::from(PriceUthb(u32::MAX).value_ceil(u32::MAX).0),
            largest.div_ceil(1_000)
        );
        assert_eq!(u128::from(PriceUthb(u32::MAX).value_floor(u32::MAX).0), largest / 1_000);
    }

    #[test]
    fn net_energy_splits_into_surplus_and_deficit() {
        assert_eq!(split_net(5), (5, 0));
        assert_eq!(split_net(-5), (0, 5));
        assert_eq!(split_net(0), (0, 0));
        assert_eq!(split_net(i32::MIN), (0, 1 << 31));
    }

    #[test]
    fn signed_division_floors() {
        assert_eq!(floor_div(-1, 1_000), -1);
        assert_eq!(floor_div(-2_000, 1_000), -2);
        assert_eq!(floor_div(1_999, 1_000), 1);
        assert_eq!(floor_div(i64::MIN, 1), i64::MIN);
    }

    #[test]
    fn fees_round_down() {
        assert_eq!(MicroThb(99).basis_points_floor(100), MicroThb(0));
        assert_eq!(MicroThb(10_099).basis_points_floor(100), MicroThb(100));
    }
}
