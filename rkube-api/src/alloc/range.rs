//! A range of addresses.

use std::{fmt, net::Ipv4Addr};

/// Addresses of one network, without its own and its broadcast address.
///
/// ```
/// use rkube_api::alloc::AddressRange;
/// let range = AddressRange::parse("10.96.0.0/24").unwrap();
/// assert_eq!(range.len(), 254);
/// assert!(range.contains("10.96.0.1".parse().unwrap()));
/// assert!(!range.contains("10.96.0.255".parse().unwrap()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    network: u32,
    bits: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no IPv4 network with a length of 8 to 30")]
pub struct RangeError(String);

impl AddressRange {
    /// Reads `10.96.0.0/16`; the bits behind the length are ignored.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let error = || RangeError(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(error)?;
        let address: Ipv4Addr = address.parse().map_err(|_| error())?;
        let bits: u8 = bits.parse().ok().filter(|bits| (8..=30).contains(bits)).ok_or_else(error)?;
        Ok(Self { network: address.to_bits() & mask(bits), bits })
    }

    /// Kubernetes' default for services, `10.96.0.0/16`.
    pub const fn default_services() -> Self {
        Self { network: u32::from_be_bytes([10, 96, 0, 0]), bits: 16 }
    }

    /// How many addresses can be given.
    pub fn len(&self) -> usize {
        // At most 24 bits.
        (!mask(self.bits) as usize) - 1
    }

    /// Whether none can; never, as the length is bounded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an address can be given.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.offset(address).is_some()
    }

    /// The address at an offset, the first one at 0.
    pub fn at(&self, offset: usize) -> Ipv4Addr {
        let offset = u32::try_from(offset % self.len()).unwrap_or_default();
        Ipv4Addr::from_bits(self.network + 1 + offset)
    }

    fn offset(&self, address: Ipv4Addr) -> Option<usize> {
        let offset = address.to_bits().checked_sub(self.network + 1)?;
        Some(offset as usize).filter(|offset| *offset < self.len())
    }

    /// How many addresses at the beginning are left to those who ask for one by itself, so that a chosen
    /// address seldom is taken already (KEP-3070).
    pub fn kept_free(&self) -> usize {
        (self.len() / 16).clamp(16, 256).min(self.len() - 1)
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX << (32 - u32::from(bits))
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.network), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        let range = AddressRange::parse("10.96.0.7/16").unwrap();
        assert_eq!(range, AddressRange::default_services());
        assert_eq!(range.to_string(), "10.96.0.0/16");
        assert_eq!(range.at(0), Ipv4Addr::new(10, 96, 0, 1));
        for wrong in ["", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/7", "::/64", "10.0.0/16"] {
            assert!(AddressRange::parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_given_lies_inside(address: u32, bits in 8u8..=30, offset: usize) {
            let text = format!("{}/{bits}", Ipv4Addr::from_bits(address));
            let range = AddressRange::parse(&text).unwrap();
            prop_assert!(range.contains(range.at(offset)));
            prop_assert!(!range.contains(Ipv4Addr::from_bits(range.network)), "the network's own");
            prop_assert!(!range.contains(Ipv4Addr::from_bits(range.network | !mask(bits))), "broadcast");
            prop_assert!(range.kept_free() < range.len());
        }
    }
}
