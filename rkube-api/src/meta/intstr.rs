//! Numbers that may be a percentage: `maxSurge: 25%`.
//!
//! ```
//! use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
//! use rkube_api::meta::intstr::{scaled, Round};
//! assert_eq!(scaled(&IntOrString::String("25%".into()), 10, Round::Up), Ok(3));
//! assert_eq!(scaled(&IntOrString::Int(4), 10, Round::Up), Ok(4));
//! ```

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a fraction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Towards more.
    Up,
    /// Towards less.
    Down,
}

/// Why a text is no percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntOrStringError {
    /// No `%` at the end.
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotPercent,
    /// No number before the `%`.
    #[error("invalid value for IntOrString: invalid value {0:?}: invalid syntax")]
    NotNumber(String),
}

/// The number, or that percentage of `total`. Source: `GetScaledValueFromIntOrPercent`.
pub fn scaled(value: &IntOrString, total: i64, round: Round) -> Result<i64, IntOrStringError> {
    match value {
        IntOrString::Int(i) => Ok(i64::from(*i)),
        IntOrString::String(text) => {
            let product = i128::from(percent_of(text)?) * i128::from(total);
            let part = match round {
                Round::Down => product.div_euclid(100),
                Round::Up => -((-product).div_euclid(100)),
            };
            Ok(i64::try_from(part).unwrap_or(if part < 0 { i64::MIN } else { i64::MAX }))
        }
    }
}

/// The number before the `%`.
pub fn percent_of(text: &str) -> Result<i64, IntOrStringError> {
    let digits = text.strip_suffix('%').ok_or(IntOrStringError::NotPercent)?;
    digits.parse().map_err(|_| IntOrStringError::NotNumber(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let p = |s: &str| IntOrString::String(s.into());
        for (value, total, up, down) in
            [("25%", 10, 3, 2), ("100%", 7, 7, 7), ("0%", 7, 0, 0), ("150%", 3, 5, 4), ("-50%", 3, -1, -2)]
        {
            assert_eq!(scaled(&p(value), total, Round::Up), Ok(up), "{value}");
            assert_eq!(scaled(&p(value), total, Round::Down), Ok(down), "{value}");
        }
        assert_eq!(scaled(&p("5"), 1, Round::Up), Err(IntOrStringError::NotPercent));
        assert_eq!(scaled(&p("x%"), 1, Round::Up), Err(IntOrStringError::NotNumber("x%".into())));
    }

    proptest! {
        #[test]
        fn agrees_with_counting(percent in 0i64..300, total in 0i64..500) {
            let v = IntOrString::String(format!("{percent}%"));
            let up = (0..).find(|n| n * 100 >= percent * total).unwrap();
            prop_assert_eq!(scaled(&v, total, Round::Up), Ok(up));
            let down = (0..).find(|n| (n + 1) * 100 > percent * total).unwrap();
            prop_assert_eq!(scaled(&v, total, Round::Down), Ok(down));
        }
    }
}
