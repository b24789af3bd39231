//! Tolerations against taints.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether one toleration covers a taint. `Lt` and `Gt` compare whole numbers (KEP-5471).
///
/// ```
/// use rkube_api::k8s_openapi::api::core::v1::{Taint, Toleration};
///
/// let taint = Taint { key: "dedicated".into(), effect: "NoSchedule".into(), ..Default::default() };
/// let any = Toleration { operator: Some("Exists".into()), ..Default::default() };
/// assert!(rkube_sched::matching::tolerates(&any, &taint));
/// ```
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    let mine = toleration.value.as_deref().unwrap_or_default();
    let theirs = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => mine == theirs,
        "Exists" => true,
        operator @ ("Lt" | "Gt") => match (mine.parse::<i64>(), theirs.parse::<i64>()) {
            (Ok(mine), Ok(theirs)) if operator == "Lt" => theirs < mine,
            (Ok(mine), Ok(theirs)) => theirs > mine,
            _ => false,
        },
        _ => false,
    }
}

/// Whether any of the tolerations covers a taint.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_keys_and_effects() {
        let taint =
            Taint { key: "k".into(), value: Some("5".into()), effect: "NoExecute".into(), time_added: None };
        let cases = [
            ("", "", "Exists", "", true),
            ("k", "", "Exists", "", true),
            ("k", "NoExecute", "Equal", "5", true),
            ("k", "", "", "5", true),
            ("k", "NoSchedule", "Exists", "", false),
            ("k", "", "Equal", "6", false),
            ("j", "", "Exists", "", false),
            ("k", "", "Lt", "6", true),
            ("k", "", "Gt", "6", false),
            ("k", "", "Gt", "x", false),
            ("k", "", "Near", "5", false),
        ];
        for (key, effect, operator, value, expected) in cases {
            let toleration = Toleration {
                key: Some(key.into()),
                effect: Some(effect.into()),
                operator: Some(operator.into()),
                value: Some(value.into()),
                toleration_seconds: None,
            };
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        }
    }
}
