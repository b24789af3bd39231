//! Resource quantities in objects: kept in canonical form.

use std::{collections::BTreeMap, fmt::Write};

use k8s_openapi::{api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity as Api};

use crate::meta::Quantity;

/// A map of resource names to quantities.
pub(crate) type Resources = BTreeMap<String, Api>;

/// Takes text off its front as long as what is written equals it.
struct Same<'a>(&'a str);

impl Write for Same<'_> {
    fn write_str(&mut self, written: &str) -> std::fmt::Result {
        self.0 = self.0.strip_prefix(written).ok_or(std::fmt::Error)?;
        Ok(())
    }
}

/// Rewrites a quantity canonically (`1000m` is `1`), as decoding does in Kubernetes. One that can't be
/// read stays for validation to refuse.
pub(crate) fn canonicalize(quantity: &mut Api) {
    let Ok(parsed) = Quantity::try_from(&*quantity) else { return };
    let mut same = Same(&quantity.0);
    if write!(same, "{parsed}").is_err() || !same.0.is_empty() {
        quantity.0 = parsed.to_string();
    }
}

/// [`canonicalize`] for every quantity of a map.
pub(crate) fn canonicalize_all(resources: &mut Option<Resources>) {
    resources.iter_mut().flatten().for_each(|(_, quantity)| canonicalize(quantity));
}

/// [`canonicalize`] for what a container or pod asks for.
pub(crate) fn canonicalize_requirements(requirements: &mut Option<ResourceRequirements>) {
    if let Some(requirements) = requirements {
        canonicalize_all(&mut requirements.limits);
        canonicalize_all(&mut requirements.requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_become_canonical() {
        for (text, want) in [("1000m", "1"), ("1Gi", "1Gi"), ("1024Mi", "1Gi"), ("0.5", "500m"), ("x", "x")] {
            let mut quantity = Api(text.into());
            canonicalize(&mut quantity);
            assert_eq!(quantity.0, want);
        }
    }
}
