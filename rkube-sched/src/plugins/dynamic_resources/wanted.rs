//! What claims ask for, looked up and compiled once a pod.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use foldhash::fast::FixedState;
use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceAttribute, DeviceClass, DeviceConstraint, DeviceRequest,
    DeviceSelector as ApiSelector, DeviceTaint, DeviceToleration, ResourceClaim,
};
use parking_lot::Mutex;
use rkube_api::{
    client::ObjectKey,
    helpers::device_selector::{DeviceSelector, SelectorError},
    meta::Quantity,
};

use super::{AllocateError, capacity::quantity, inventory::Offer};

/// How many expressions are remembered.
const REMEMBERED: usize = 512;

/// A compiled expression, or why it is none.
type Compiled = Result<Arc<DeviceSelector>, SelectorError>;

/// Expressions that were compiled before: there are few, used again and again.
#[derive(Debug, Default)]
pub struct Expressions(Mutex<HashMap<String, Compiled, FixedState>>);

impl Expressions {
    fn compile(&self, expression: &str) -> Compiled {
        let mut known = self.0.lock();
        if let Some(found) = known.get(expression) {
            return found.clone();
        }
        let compiled = DeviceSelector::compile(expression).map(Arc::new);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(expression.to_owned(), compiled.clone());
        compiled
    }
}

/// How many devices are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Exactly(usize),
    /// All that match, at least one.
    All,
}

/// A request, or one of its alternatives.
#[derive(Debug)]
pub(super) struct Ask {
    /// Its place among all of them.
    pub(super) number: usize,
    /// `request`, or `request/alternative`.
    pub(super) name: String,
    pub(super) class: Arc<DeviceClass>,
    class_selectors: Vec<Arc<DeviceSelector>>,
    selectors: Vec<Arc<DeviceSelector>>,
    pub(super) count: Count,
    /// Whether it only looks at devices that others may have.
    pub(super) admin: Option<bool>,
    pub(super) tolerations: Vec<DeviceToleration>,
    /// How much it wants of a device's capacities.
    pub(super) capacity: BTreeMap<String, Quantity>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) name: String,
    /// The request itself, or its alternatives.
    pub(super) asks: Vec<Ask>,
    pub(super) is_list: bool,
}

/// What all devices of some requests have in common, or none shares with another.
#[derive(Debug)]
pub(super) struct Constraint {
    /// Empty: all.
    requests: Vec<String>,
    pub(super) attribute: String,
    pub(super) distinct: bool,
}

/// One claim.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) claim: Arc<ResourceClaim>,
    pub(super) key: ObjectKey,
    pub(super) requests: Vec<Request>,
    pub(super) constraints: Vec<Constraint>,
}

/// What some claims ask for.
#[derive(Debug, Default)]
pub struct Wanted {
    pub(super) claims: Vec<Claim>,
    pub(super) asks: usize,
}

impl Wanted {
    /// Looks up the classes and compiles the expressions.
    pub fn new(
        claims: impl IntoIterator<Item = Arc<ResourceClaim>>,
        class: impl Fn(&str) -> Option<Arc<DeviceClass>>,
        expressions: &Expressions,
    ) -> Result<Self, AllocateError> {
        let mut wanted = Self::default();
        for claim in claims {
            let key = ObjectKey::of(&*claim);
            let devices = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
            let requests = devices.iter().flat_map(|devices| devices.requests.iter().flatten());
            let mut reader = Reader { key: &key, class: &class, expressions, next: wanted.asks };
            let requests = requests.map(|request| reader.request(request)).collect::<Result<_, _>>()?;
            wanted.asks = reader.next;
            let constraints = devices.iter().flat_map(|devices| devices.constraints.iter().flatten());
            let constraints = constraints.enumerate();
            let constraints =
                constraints.map(|(index, it)| Constraint::new(it, index, &key)).collect::<Result<_, _>>()?;
            wanted.claims.push(Claim { requests, constraints, key, claim });
        }
        Ok(wanted)
    }

    /// Whether any request has alternatives, so that nodes differ in how well they do.
    pub fn has_alternatives(&self) -> bool {
        self.claims.iter().flat_map(|claim| &claim.requests).any(|request| request.is_list)
    }
}

/// What a request and an alternative have alike.
struct Fields<'a> {
    class: &'a str,
    selectors: &'a Option<Vec<ApiSelector>>,
    mode: &'a Option<String>,
    count: Option<i64>,
    admin: Option<bool>,
    tolerations: &'a Option<Vec<DeviceToleration>>,
    capacity: &'a Option<CapacityRequirements>,
}

struct Reader<'a, F> {
    key: &'a ObjectKey,
    class: &'a F,
    expressions: &'a Expressions,
    next: usize,
}

impl<F: Fn(&str) -> Option<Arc<DeviceClass>>> Reader<'_, F> {
    fn request(&mut self, request: &DeviceRequest) -> Result<Request, AllocateError> {
        let mut asks = Vec::new();
        if let Some(it) = &request.exactly {
            let fields = Fields {
                class: &it.device_class_name,
                selectors: &it.selectors,
                mode: &it.allocation_mode,
                count: it.count,
                admin: it.admin_access,
                tolerations: &it.tolerations,
                capacity: &it.capacity,
            };
            asks.push(self.ask(request.name.clone(), &fields)?);
        }
        for it in request.first_available.iter().flatten() {
            let fields = Fields {
                class: &it.device_class_name,
                selectors: &it.selectors,
                mode: &it.allocation_mode,
                count: it.count,
                admin: None,
                tolerations: &it.tolerations,
                capacity: &it.capacity,
            };
            asks.push(self.ask(format!("{}/{}", request.name, it.name), &fields)?);
        }
        if asks.is_empty() {
            let (claim, request) = (self.key.clone(), request.name.clone());
            return Err(AllocateError::UnknownRequest { claim, request });
        }
        Ok(Request { name: request.name.clone(), asks, is_list: request.exactly.is_none() })
    }

    fn ask(&mut self, name: String, fields: &Fields<'_>) -> Result<Ask, AllocateError> {
        let (claim, request) = (self.key.clone(), name.clone());
        let Some(class) = (self.class)(fields.class) else {
            return Err(AllocateError::NoClass { claim, request, class: fields.class.to_owned() });
        };
        let count = match fields.mode.as_deref() {
            // A count of none is one, as the API server fills it in.
            None | Some("" | "ExactCount") => {
                Count::Exactly(usize::try_from(fields.count.unwrap_or(1)).unwrap_or(usize::MAX))
            }
            Some("All") => Count::All,
            Some(mode) => return Err(AllocateError::Mode { claim, request, mode: mode.to_owned() }),
        };
        let of_class = class.spec.as_ref().and_then(|spec| spec.selectors.as_deref()).unwrap_or_default();
        let class_selectors = self.compile(of_class, |index, source| AllocateError::ClassExpression {
            class: class.metadata.name.clone().unwrap_or_default(),
            index,
            source,
        })?;
        let of_request = fields.selectors.as_deref().unwrap_or_default();
        let selectors = self.compile(of_request, |index, source| AllocateError::ClaimExpression {
            claim: claim.clone(),
            index,
            source,
        })?;
        self.next += 1;
        let tolerations = fields.tolerations.clone().unwrap_or_default();
        let asked = fields.capacity.iter().flat_map(|it| it.requests.iter().flatten());
        let capacity = asked.map(|(name, amount)| (name.clone(), quantity(amount))).collect();
        let (number, admin) = (self.next - 1, fields.admin);
        Ok(Ask { number, name, class, class_selectors, selectors, count, admin, tolerations, capacity })
    }

    fn compile(
        &self,
        selectors: &[ApiSelector],
        wrong: impl Fn(usize, SelectorError) -> AllocateError,
    ) -> Result<Vec<Arc<DeviceSelector>>, AllocateError> {
        let compile = |(index, selector): (usize, &ApiSelector)| {
            let expression = selector.cel.as_ref().map_or("", |cel| &cel.expression);
            self.expressions.compile(expression).map_err(|error| wrong(index, error))
        };
        selectors.iter().enumerate().map(compile).collect()
    }
}

impl Ask {
    pub(super) fn is_admin(&self) -> bool {
        self.admin == Some(true)
    }

    /// Whether the class and the request select the device.
    pub(super) fn selects(
        &self,
        offer: &Offer,
        index: usize,
        claim: &ObjectKey,
    ) -> Result<bool, AllocateError> {
        if self.class_selectors.is_empty() && self.selectors.is_empty() {
            return Ok(true);
        }
        let device = || {
            let spec = offer.spec();
            super::inventory::full_name(&spec.driver, &spec.pool.name, &offer.device(index).name)
        };
        for (at, selector) in self.class_selectors.iter().enumerate() {
            match offer.value(index).and_then(|value| selector.matches(value)) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(source) => {
                    let class = self.class.metadata.name.clone().unwrap_or_default();
                    return Err(AllocateError::ClassMatch { class, index: at, device: device(), source });
                }
            }
        }
        for (at, selector) in self.selectors.iter().enumerate() {
            match offer.value(index).and_then(|value| selector.matches(value)) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(source) => {
                    let claim = claim.clone();
                    return Err(AllocateError::ClaimMatch { claim, index: at, device: device(), source });
                }
            }
        }
        Ok(true)
    }

    /// Whether every taint that keeps a device from being allocated is tolerated.
    pub(super) fn tolerates<'a>(&self, taints: impl Iterator<Item = &'a DeviceTaint>) -> bool {
        let mut keeps = taints.filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
        keeps.all(|taint| self.tolerations.iter().any(|it| tolerates(it, taint)))
    }
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let same = |field: &Option<String>, value: &str| given(field).is_none_or(|field| field == value);
    same(&toleration.effect, &taint.effect)
        && same(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => {
                toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            Some(operator) => operator == "Exists",
        }
}

impl Constraint {
    fn new(it: &DeviceConstraint, index: usize, claim: &ObjectKey) -> Result<Self, AllocateError> {
        let (attribute, distinct) = match (&it.match_attribute, &it.distinct_attribute) {
            (Some(attribute), _) => (attribute.clone(), false),
            (None, Some(attribute)) => (attribute.clone(), true),
            (None, None) => return Err(AllocateError::EmptyConstraint { claim: claim.clone(), index }),
        };
        Ok(Self { requests: it.requests.clone().unwrap_or_default(), attribute, distinct })
    }

    /// Whether it is about the devices of a request, or of this one of its alternatives.
    pub(super) fn concerns(&self, request: &Request, ask: &Ask) -> bool {
        self.requests.is_empty()
            || self.requests.iter().any(|name| *name == request.name || *name == ask.name)
    }
}

/// The value of an attribute by its full name; one of the driver's own may be given without its domain.
pub(super) fn attribute<'a>(offer: &'a Offer, index: usize, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = offer.device(index).attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        (domain == offer.spec().driver).then(|| attributes.get(id)).flatten()
    })
}

/// Whether two attributes have the same single value; lists and what has no value equal nothing.
pub(super) fn same_value(one: &DeviceAttribute, other: &DeviceAttribute) -> bool {
    static NONE: LazyLock<DeviceAttribute> = LazyLock::new(DeviceAttribute::default);
    let single = |it: &DeviceAttribute| {
        let DeviceAttribute { bool, int, string, version, .. } = it;
        DeviceAttribute {
            bool: *bool,
            int: *int,
            string: string.clone(),
            version: version.clone(),
            ..NONE.clone()
        }
    };
    single(one) != *NONE && single(one) == single(other)
}
