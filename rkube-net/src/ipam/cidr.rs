//! A range of addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// It has no slash, no address before it, or no number after it.
    #[error("{text:?} is not of the form address/prefix")]
    Form {
        /// The text.
        text: String,
    },
    /// The prefix is longer than an address.
    #[error("the prefix of {text:?} is longer than an address")]
    Prefix {
        /// The text.
        text: String,
    },
    /// Bits after the prefix are set: an address in a range, not a range.
    #[error("{text:?} has bits set after its prefix; the range is {range}")]
    HostBits {
        /// The text.
        text: String,
        /// The range that was probably meant.
        range: Cidr,
    },
}

/// A range of addresses, IPv4 or IPv6, as `10.244.0.0/16` or `fd00::/48`.
///
/// ```
/// use rkube_net::ipam::Cidr;
/// let cluster: Cidr = "10.244.0.0/16".parse().unwrap();
/// let third = cluster.subnet(24, 3).unwrap();
/// assert_eq!(third.to_string(), "10.244.3.0/24");
/// assert_eq!(cluster.index_of(&third), Some(3));
/// assert!(third.contains("10.244.3.7".parse().unwrap()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    v6: bool,
    /// The first address, in the low bits for IPv4.
    first: u128,
    prefix: u8,
}

fn bits(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (false, u128::from(ip.to_bits())),
        IpAddr::V6(ip) => (true, ip.to_bits()),
    }
}

/// `2^count - 1`.
fn ones(count: u8) -> u128 {
    if count >= 128 { u128::MAX } else { (1 << count) - 1 }
}

impl Cidr {
    /// The range of this prefix in which an address lies.
    pub fn around(ip: IpAddr, prefix: u8) -> Option<Self> {
        let (v6, all) = bits(ip);
        let width = if v6 { 128 } else { 32 };
        let host = u8::checked_sub(width, prefix)?;
        Some(Self { v6, first: all & !ones(host), prefix })
    }

    /// Whether it is of IPv6.
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// How many leading bits its addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    fn width(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn host_bits(&self) -> u8 {
        self.width() - self.prefix
    }

    /// The offset of the last address: the number of addresses less one, which always fits.
    pub fn last_offset(&self) -> u128 {
        ones(self.host_bits())
    }

    fn ip(&self, bits: u128) -> IpAddr {
        if self.v6 {
            IpAddr::V6(bits.into())
        } else {
            // IPv4 bits are below 2^32 by construction.
            IpAddr::V4(u32::try_from(bits).unwrap_or(u32::MAX).into())
        }
    }

    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.ip(self.first)
    }

    /// The address this many after the first, if it lies in the range.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset <= self.last_offset()).then(|| self.ip(self.first + offset))
    }

    /// How many addresses lie before this one, if it lies in the range.
    pub fn offset_of(&self, ip: IpAddr) -> Option<u128> {
        let (v6, all) = bits(ip);
        let offset = all.checked_sub(self.first)?;
        (v6 == self.v6 && offset <= self.last_offset()).then_some(offset)
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.offset_of(ip).is_some()
    }

    /// Whether the ranges have an address in common: then one contains the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    /// The range of a longer prefix with this many such ranges before it.
    pub fn subnet(&self, prefix: u8, index: u128) -> Option<Self> {
        let more = prefix.checked_sub(self.prefix)?;
        let host = self.width().checked_sub(prefix)?;
        if index > ones(more) {
            return None;
        }
        // `host` is 128 only if the index is 0.
        let first = self.first + index.checked_shl(u32::from(host)).unwrap_or_default();
        Some(Self { first, prefix, ..*self })
    }

    /// How many ranges of its size lie before a part of this range.
    pub fn index_of(&self, part: &Self) -> Option<u128> {
        if part.prefix < self.prefix {
            return None;
        }
        let offset = self.offset_of(part.first())?;
        Some(offset.checked_shr(u32::from(part.host_bits())).unwrap_or_default())
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let form = || CidrError::Form { text: text.to_owned() };
        let (ip, prefix) = text.split_once('/').ok_or_else(form)?;
        let ip: IpAddr = ip.parse().map_err(|_| form())?;
        // No sign, no leading zeros.
        let plain = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
        if !plain || (prefix.len() > 1 && prefix.starts_with('0')) {
            return Err(form());
        }
        let too_long = || CidrError::Prefix { text: text.to_owned() };
        let prefix: u8 = prefix.parse().map_err(|_| too_long())?;
        let range = Self::around(ip, prefix).ok_or_else(too_long)?;
        if range.first() != ip {
            return Err(CidrError::HostBits { text: text.to_owned(), range });
        }
        Ok(range)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_that_are_no_ranges_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/", "/8", "10.0.0/8", "10.0.0.0/+8", "10.0.0.0/08", "x/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Form { text: text.into() }), "{text}");
        }
        for text in ["10.0.0.0/33", "fd00::/129", "fd00::/999"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Prefix { text: text.into() }), "{text}");
        }
        let error = "10.244.3.7/24".parse::<Cidr>().unwrap_err();
        assert!(error.to_string().ends_with("the range is 10.244.3.0/24"), "{error}");
    }

    #[test]
    fn the_ends_of_the_scale_hold() {
        let all: Cidr = "::/0".parse().unwrap();
        assert_eq!(all.last_offset(), u128::MAX);
        assert_eq!(all.subnet(0, 0), Some(all));
        assert_eq!(all.index_of(&all), Some(0));
        assert_eq!(
            all.subnet(128, u128::MAX).unwrap().to_string(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
        );
        let one: Cidr = "10.0.0.1/32".parse().unwrap();
        assert_eq!((one.last_offset(), one.nth(1), one.subnet(33, 0)), (0, None, None));
        assert!(!all.contains("10.0.0.1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn text_comes_back_and_arithmetic_agrees(v6: bool, high: u64, low: u64, prefix in 0_u8..=128, more in 0_u8..=16, index: u16, offset: u64) {
            let ip: IpAddr = if v6 {
                IpAddr::V6(((u128::from(high) << 64) | u128::from(low)).into())
            } else {
                IpAddr::V4(u32::try_from(low >> 32).unwrap().into())
            };
            let width = if v6 { 128 } else { 32 };
            let range = Cidr::around(ip, prefix.min(width)).unwrap();
            prop_assert_eq!(range.to_string().parse::<Cidr>().unwrap(), range);
            prop_assert!(range.contains(ip));
            let at = range.offset_of(ip).unwrap();
            prop_assert_eq!(range.nth(at), Some(ip));
            let offset = u128::from(offset) & range.last_offset();
            prop_assert_eq!(range.offset_of(range.nth(offset).unwrap()), Some(offset));
            let longer = (range.prefix() + more).min(width);
            let index = u128::from(index) & ((1 << (longer - range.prefix())) - 1);
            let part = range.subnet(longer, index).unwrap();
            prop_assert_eq!(range.index_of(&part), Some(index));
            prop_assert!(range.contains(part.first()) && range.overlaps(&part) && part.overlaps(&range));
        }
    }
}
