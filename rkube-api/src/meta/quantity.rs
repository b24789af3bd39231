//! Kubernetes' fixed-point numbers with a suffix, in exact arithmetic.
//!
//! Semantics: the documentation of `io.k8s.apimachinery.pkg.api.resource.Quantity`. A value is a whole
//! number of billionths; what is smaller is rounded away from zero when parsed. With a binary suffix the
//! magnitude is capped at 2^63-1, as upstream does. A magnitude past about 1.7e29 is refused (upstream
//! would carry it in a big decimal; no resource comes near it).
//!
//! ```
//! use rkube_api::meta::Quantity;
//! let a: Quantity = "1500m".parse()?;
//! let b: Quantity = "0.5".parse()?;
//! assert_eq!((a + b).to_string(), "2");
//! assert_eq!(a.value(), 2); // rounded up
//! assert_eq!(a.milli_value(), 1500);
//! # Ok::<(), rkube_api::meta::quantity::QuantityError>(())
//! ```

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use serde::{Deserialize, Serialize};

const NANO: i128 = 1_000_000_000;
/// The largest magnitude with a binary suffix, in billionths.
const BINARY_CAP: i128 = i64::MAX as i128 * NANO;

/// The family of suffixes a quantity was written with, kept when it is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `n u m "" k M G T P E`: powers of 1000.
    #[default]
    DecimalSI,
    /// `Ki Mi Gi Ti Pi Ei`: powers of 1024.
    BinarySI,
    /// `e3`, `E6`: a decimal exponent.
    DecimalExponent,
}

/// Why a text is no quantity. The texts are those that Kubernetes shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// The shape is wrong.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number can't be represented.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An exact quantity. Equality and order look at the value alone: `1Ki == 1024`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Zero.
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSI };

    /// A whole number.
    #[must_use]
    pub const fn new(value: i64, format: Format) -> Self {
        Quantity { nanos: value as i128 * NANO, format }
    }

    /// A number of thousandths, in decimal format.
    #[must_use]
    pub const fn from_milli(milli: i64) -> Self {
        Quantity { nanos: milli as i128 * (NANO / 1000), format: Format::DecimalSI }
    }

    /// The value in billionths.
    #[must_use]
    pub const fn nanos(self) -> i128 {
        self.nanos
    }

    /// The suffix family it prints with.
    #[must_use]
    pub const fn format(self) -> Format {
        self.format
    }

    /// The whole number, rounded away from zero, saturating.
    #[must_use]
    pub fn value(self) -> i64 {
        saturate(div_away(self.nanos, NANO))
    }

    /// The number of thousandths, rounded away from zero, saturating.
    #[must_use]
    pub fn milli_value(self) -> i64 {
        saturate(div_away(self.nanos, NANO / 1000))
    }

    /// The whole number if it is one and fits.
    #[must_use]
    pub fn as_i64(self) -> Option<i64> {
        (self.nanos % NANO == 0).then(|| i64::try_from(self.nanos / NANO).ok()).flatten()
    }

    /// The nearest float.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// Is it zero?
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Is it below zero?
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Multiplied by a whole number, saturating.
    #[must_use]
    pub const fn scaled_by(self, factor: i64) -> Self {
        Quantity { nanos: self.nanos.saturating_mul(factor as i128), format: self.format }
    }

    /// The canonical text of a quantity's text, as the API server stores it.
    pub fn canonicalize(text: &str) -> Result<String, QuantityError> {
        Ok(text.parse::<Quantity>()?.to_string())
    }

    // Upstream's rule: an empty accumulator takes the format of what is added to it.
    fn format_with(self, other: Self) -> Format {
        if self.nanos == 0 { other.format } else { self.format }
    }
}

fn saturate(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn div_away(value: i128, by: i128) -> i128 {
    let whole = value / by;
    match value % by {
        0 => whole,
        rest => whole + rest.signum(),
    }
}

/// A number's text taken apart: sign, digits before and after the point, suffix.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
    let tail = &suffix[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole, fraction, suffix })
}

/// The suffix's format, power of two and power of ten.
fn scale_of(suffix: &str) -> Result<(Format, u32, i64), QuantityError> {
    use Format::{BinarySI, DecimalExponent, DecimalSI};
    Ok(match suffix {
        "" => (DecimalSI, 0, 0),
        "n" => (DecimalSI, 0, -9),
        "u" => (DecimalSI, 0, -6),
        "m" => (DecimalSI, 0, -3),
        "k" => (DecimalSI, 0, 3),
        "M" => (DecimalSI, 0, 6),
        "G" => (DecimalSI, 0, 9),
        "T" => (DecimalSI, 0, 12),
        "P" => (DecimalSI, 0, 15),
        "E" => (DecimalSI, 0, 18),
        "Ki" => (BinarySI, 10, 0),
        "Mi" => (BinarySI, 20, 0),
        "Gi" => (BinarySI, 30, 0),
        "Ti" => (BinarySI, 40, 0),
        "Pi" => (BinarySI, 50, 0),
        "Ei" => (BinarySI, 60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            (DecimalExponent, 0, i64::from(exponent.parse::<i32>().map_err(|_| QuantityError::Suffix)?))
        }
    })
}

/// `digits * 2^shift`, as decimal digits, most significant first.
fn shifted(mut digits: Vec<u8>, shift: u32) -> Vec<u8> {
    if shift == 0 {
        return digits;
    }
    let factor = 1u128 << shift;
    let mut carry = 0u128;
    for digit in digits.iter_mut().rev() {
        let product = u128::from(*digit) * factor + carry;
        *digit = (product % 10) as u8;
        carry = product / 10;
    }
    let mut head = Vec::new();
    while carry > 0 {
        head.push((carry % 10) as u8);
        carry /= 10;
    }
    head.reverse();
    head.append(&mut digits);
    head
}

/// The magnitude in billionths, rounded up; `point` is how many of the digits are whole ones.
fn magnitude(digits: &[u8], point: i64) -> Result<i128, QuantityError> {
    let kept = point.saturating_add(9);
    let mut nanos = 0i128;
    let mut inexact = false;
    for (i, &digit) in digits.iter().enumerate() {
        if (i as i64) < kept {
            nanos = nanos
                .checked_mul(10)
                .and_then(|n| n.checked_add(i128::from(digit)))
                .ok_or(QuantityError::Numeric)?;
        } else if digit != 0 {
            inexact = true;
        }
    }
    for _ in 0..kept.saturating_sub(digits.len() as i64).max(0) {
        if nanos == 0 {
            break;
        }
        nanos = nanos.checked_mul(10).ok_or(QuantityError::Numeric)?;
    }
    if inexact { nanos.checked_add(1).ok_or(QuantityError::Numeric) } else { Ok(nanos) }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = split(text)?;
        let (mut format, shift, exponent) = scale_of(parts.suffix)?;
        let nanos = match parts.whole.parse::<u32>() {
            // Nearly every quantity is a small whole number.
            Ok(whole) if parts.fraction.is_empty() && (-9..=18).contains(&exponent) => {
                i128::from(whole) * (1i128 << shift) * 10i128.pow((exponent + 9) as u32)
            }
            _ => {
                let digits: Vec<u8> =
                    parts.whole.bytes().chain(parts.fraction.bytes()).map(|b| b - b'0').collect();
                let digits = shifted(digits, shift);
                let point = digits.len() as i64 - parts.fraction.len() as i64 + exponent;
                magnitude(&digits, point)?
            }
        };
        let nanos = if format == Format::BinarySI { nanos.min(BINARY_CAP) } else { nanos };
        if format == Format::BinarySI && nanos > 0 && nanos < NANO {
            format = Format::DecimalSI;
        }
        Ok(Quantity { nanos: if parts.negative { -nanos } else { nanos }, format })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        if self.format == Format::BinarySI && self.nanos % NANO == 0 && whole.unsigned_abs() >= 1024 {
            const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let mut mantissa = whole;
            let mut power = 0;
            while power < SUFFIXES.len() - 1 && mantissa % 1024 == 0 {
                mantissa /= 1024;
                power += 1;
            }
            return write!(f, "{mantissa}{}", SUFFIXES[power]);
        }
        let mut mantissa = self.nanos;
        let mut exponent = -9;
        let largest = if self.format == Format::DecimalExponent { i32::MAX } else { 18 };
        while mantissa % 1000 == 0 && exponent < largest {
            mantissa /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(f, "{mantissa}"),
            (Format::DecimalExponent, _) => write!(f, "{mantissa}e{exponent}"),
            _ => {
                const SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                write!(f, "{mantissa}{}", SUFFIXES[((exponent + 9) / 3) as usize])
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl std::hash::Hash for Quantity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        Quantity { nanos: self.nanos.saturating_add(other.nanos), format: self.format_with(other) }
    }
}

impl Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        Quantity { nanos: self.nanos.saturating_sub(other.nanos), format: self.format_with(other) }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Quantity;
    fn neg(self) -> Quantity {
        Quantity { nanos: self.nanos.saturating_neg(), format: self.format }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(iter: I) -> Quantity {
        iter.fold(Quantity::ZERO, Add::add)
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = QuantityError;
    fn try_from(q: &ApiQuantity) -> Result<Self, Self::Error> {
        q.0.trim().parse()
    }
}

impl From<Quantity> for ApiQuantity {
    fn from(q: Quantity) -> ApiQuantity {
        ApiQuantity(q.to_string())
    }
}

impl Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = ApiQuantity::deserialize(deserializer)?;
        Quantity::try_from(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        text.parse::<Quantity>().unwrap().to_string()
    }

    #[test]
    fn canonical_forms() {
        for (text, want) in [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("0.0001m", "100n"),
            ("1.5", "1500m"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("0.5Ki", "512"),
            ("0.5Gi", "512Mi"),
            ("1Ki", "1Ki"),
            ("1025", "1025"),
            ("1000", "1k"),
            ("1000k", "1M"),
            ("123456789", "123456789"),
            ("12e6", "12e6"),
            ("12E6", "12e6"),
            ("1200e3", "1200e3"),
            ("1e3", "1e3"),
            ("1000e0", "1e3"),
            ("1e-3", "1e-3"),
            ("2E", "2E"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.0000000001", "1000000001n"),
            ("0.1Ki", "102400m"),
            ("0.0001Ki", "102400u"),
            ("100Ei", "9223372036854775807"),
            ("-100Ei", "-9223372036854775807"),
            ("+5", "5"),
            ("0005", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1e-100", "1e-9"),
        ] {
            assert_eq!(canonical(text), want, "{text}");
        }
    }

    #[test]
    fn refusals() {
        use QuantityError::{Format, Numeric, Suffix};
        for (text, want) in [
            ("", Format),
            ("1.1.M", Format),
            ("1+1.0M", Format),
            ("aoeu", Format),
            (" 1", Format),
            ("1 ", Format),
            ("0.1mi", Suffix),
            ("0.1am", Format),
            (".5i", Suffix),
            ("-3.01i", Suffix),
            ("-3.01e-", Suffix),
            ("1e", Suffix),
            ("1k5", Suffix),
            ("1e99999999999", Suffix),
            ("1e40", Numeric),
        ] {
            assert_eq!(text.parse::<Quantity>(), Err(want), "{text}");
        }
    }

    #[test]
    fn rounding_is_away_from_zero() {
        let q = |s: &str| s.parse::<Quantity>().unwrap();
        assert_eq!(q("1500m").value(), 2);
        assert_eq!(q("-1500m").value(), -2);
        assert_eq!(q("1u").milli_value(), 1);
        assert_eq!(q("9E").milli_value(), i64::MAX);
        assert_eq!(q("1500m").as_i64(), None);
        assert_eq!(q("2k").as_i64(), Some(2000));
    }

    #[test]
    fn an_empty_sum_takes_the_format_of_what_is_added() {
        let sum: Quantity = ["512Mi", "1Gi"].iter().map(|s| s.parse::<Quantity>().unwrap()).sum();
        assert_eq!(sum.to_string(), "1536Mi");
    }

    /// The slow model: digits * 2^a / 10^b as text, by schoolbook arithmetic on decimal strings.
    fn model_nanos(whole: u64, fraction: &str, suffix: &str) -> i128 {
        let (two, ten): (u32, i32) = match suffix {
            "Ki" => (10, 0),
            "Mi" => (20, 0),
            "Gi" => (30, 0),
            "" => (0, 0),
            "m" => (0, -3),
            "u" => (0, -6),
            "n" => (0, -9),
            "k" => (0, 3),
            "G" => (0, 9),
            other => (0, other[1..].parse().unwrap()),
        };
        let mut text = format!("{whole}{fraction}");
        for _ in 0..two {
            text = double(&text);
        }
        let point = text.len() as i32 - fraction.len() as i32 + ten + 9;
        let mut padded = text.clone();
        while (padded.len() as i32) < point {
            padded.push('0');
        }
        let cut = point.clamp(0, padded.len() as i32) as usize;
        let kept: i128 = if cut == 0 { 0 } else { padded[..cut].parse().unwrap() };
        kept + i128::from(padded[cut..].bytes().any(|b| b != b'0'))
    }

    fn double(text: &str) -> String {
        let mut carry = 0;
        let mut out: Vec<u8> = text
            .bytes()
            .rev()
            .map(|b| {
                let d = (b - b'0') * 2 + carry;
                carry = d / 10;
                b'0' + d % 10
            })
            .collect();
        if carry > 0 {
            out.push(b'0' + carry);
        }
        out.reverse();
        String::from_utf8(out).unwrap()
    }

    const SUFFIXES: [&str; 11] = ["", "m", "u", "n", "k", "G", "Ki", "Mi", "Gi", "e-4", "E5"];

    proptest! {
        #[test]
        fn parsing_agrees_with_schoolbook_arithmetic(
            whole in 0u64..1_000_000_000, fraction in "[0-9]{0,24}", i in 0..SUFFIXES.len(), neg: bool,
        ) {
            let suffix = SUFFIXES[i];
            let sign = if neg { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            let q: Quantity = format!("{sign}{whole}{point}{fraction}{suffix}").parse().unwrap();
            let want = model_nanos(whole, &fraction, suffix);
            prop_assert_eq!(q.nanos(), if neg { -want } else { want });
        }

        #[test]
        fn canonical_text_reads_back_and_is_stable(
            whole in 0u64..1_000_000_000_000, fraction in "[0-9]{0,9}", i in 0..SUFFIXES.len(),
        ) {
            let q: Quantity = format!("{whole}.{fraction}{}", SUFFIXES[i]).parse().unwrap();
            let text = q.to_string();
            let again: Quantity = text.parse().unwrap();
            prop_assert_eq!(q, again);
            // A binary amount that no power of 1024 divides has no suffix, so it is a decimal one when it is read
            // back, as in Kubernetes.
            let settled = again.to_string();
            if q.format == again.format {
                prop_assert_eq!(&text, &settled);
            }
            prop_assert_eq!(settled.parse::<Quantity>().unwrap().to_string(), settled);
        }

        #[test]
        fn sums_and_order_are_those_of_the_values(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let (x, y) = (Quantity::from_milli(a), Quantity::from_milli(b));
            prop_assert_eq!((x + y).milli_value(), a + b);
            prop_assert_eq!((x - y).milli_value(), a - b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(-(-x), x);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "[-+0-9.eEinumkKMGTP]{0,40}") {
            let _ = text.parse::<Quantity>();
        }
    }
}
