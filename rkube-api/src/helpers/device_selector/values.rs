//! A device's facts as values of CEL.

use std::{any::Any, collections::HashMap};

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer, Iterable, Sizer},
        types::{CelBool, CelInt, CelList, CelMap, CelMapKey, CelString, Kind, MAP_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use semver::Version;

use super::MatchError;
use crate::meta::Quantity;

type Boxed = Box<dyn Val>;
type Entries = HashMap<CelMapKey<'static>, Boxed>;

/// The value of `device`.
pub(super) fn device(driver: &str, device: &Device) -> Result<CelMap<'static>, MatchError> {
    let mut attributes = HashMap::<String, Entries>::new();
    let put = |into: &mut HashMap<String, Entries>, name: &str, value: Boxed| {
        let (domain, id) = name.split_once('/').unwrap_or((driver, name));
        into.entry(domain.to_owned()).or_default().insert(id.to_owned().into(), value);
    };
    for (name, value) in device.attributes.iter().flatten() {
        let value =
            attribute(value).map_err(|message| MatchError::Attribute { name: name.clone(), message })?;
        put(&mut attributes, name, value);
    }
    let mut capacity = HashMap::<String, Entries>::new();
    for (name, value) in device.capacity.iter().flatten() {
        let value = Quantity::try_from(&value.value)
            .map_err(|error| MatchError::Capacity { name: name.clone(), message: error.to_string() })?;
        put(&mut capacity, name, Box::new(CelQuantity(value)));
    }
    let shared = device.allow_multiple_allocations.unwrap_or(false);
    let fields: [(&str, Boxed); 4] = [
        ("driver", Box::new(CelString::from(driver.to_owned()))),
        ("allowMultipleAllocations", Box::new(CelBool::from(shared))),
        ("attributes", Box::new(Domains::new(attributes))),
        ("capacity", Box::new(Domains::new(capacity))),
    ];
    let entries: Entries = fields.into_iter().map(|(name, value)| (name.to_owned().into(), value)).collect();
    Ok(CelMap::from(entries))
}

fn list(values: impl Iterator<Item = Boxed>) -> Boxed {
    Box::new(CelList::from(values.collect::<Vec<_>>()))
}

fn version(text: &str) -> Result<Boxed, String> {
    let parsed = Version::parse(text).map_err(|error| format!("parse semantic version: {error}"))?;
    Ok(Box::new(CelVersion(parsed)))
}

fn attribute(value: &DeviceAttribute) -> Result<Boxed, String> {
    Ok(match value {
        DeviceAttribute { ints: Some(all), .. } => {
            list(all.iter().map(|it| Box::new(CelInt::from(*it)) as Boxed))
        }
        DeviceAttribute { bools: Some(all), .. } => {
            list(all.iter().map(|it| Box::new(CelBool::from(*it)) as Boxed))
        }
        DeviceAttribute { strings: Some(all), .. } => {
            list(all.iter().map(|it| Box::new(CelString::from(it.clone())) as Boxed))
        }
        DeviceAttribute { versions: Some(all), .. } => {
            let all = all.iter().map(|it| version(it)).collect::<Result<Vec<_>, _>>()?;
            list(all.into_iter())
        }
        DeviceAttribute { int: Some(it), .. } => Box::new(CelInt::from(*it)),
        DeviceAttribute { bool: Some(it), .. } => Box::new(CelBool::from(*it)),
        DeviceAttribute { string: Some(it), .. } => Box::new(CelString::from(it.clone())),
        DeviceAttribute { version: Some(it), .. } => version(it)?,
        _ => return Err("unsupported attribute value".into()),
    })
}

/// A map by domain in which every domain can be looked up: one that is not there is an empty map.
#[derive(Clone, Debug)]
struct Domains(CelMap<'static>);

impl Domains {
    fn new(domains: HashMap<String, Entries>) -> Self {
        let entries = domains
            .into_iter()
            .map(|(domain, entries)| (domain.into(), Box::new(CelMap::from(entries)) as Boxed));
        Self(CelMap::from(entries.collect::<Entries>()))
    }
}

impl Val for Domains {
    fn get_type(&self) -> &Type {
        self.0.get_type()
    }

    fn cel_type() -> &'static Type {
        static TYPE: Type = MAP_TYPE;
        &TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.0.as_container()
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn into_indexer<'v>(self: Box<Self>) -> Option<Box<dyn Indexer + 'v>>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        self.0.as_iterable()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.0.as_sizer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.0.equals(other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

fn or_empty<'b, 'v>(found: Result<CowVal<'b, 'v>, ExecutionError>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    match found {
        Err(ExecutionError::NoSuchKey(_)) => Ok(CowVal::owned(CelMap::from(Entries::new()))),
        other => other,
    }
}

impl Indexer for Domains {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        or_empty(Indexer::get(&self.0, key))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        or_empty(Indexer::get(&self.0, key)).map(CowVal::into_owned)
    }
}

macro_rules! opaque {
    ($type:ident, $static:ident, $name:literal, $($equal:tt)*) => {
        static $static: Type = $type::TYPE;

        impl $type {
            /// Its type.
            pub(super) const TYPE: Type = Type::simple_type(Kind::Opaque, $name);
        }

        impl Val for $type {
            fn get_type(&self) -> &Type {
                &$static
            }

            fn cel_type() -> &'static Type {
                &$static
            }

            fn equals(&self, other: &dyn Val) -> bool {
                let equal: fn(&Self, &Self) -> bool = $($equal)*;
                other.downcast_ref::<Self>().is_some_and(|other| equal(self, other))
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
            where
                Self: 'v,
            {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }

        impl StaticVal for $type {}
    };
}

/// A quantity.
#[derive(Clone, Debug)]
pub(super) struct CelQuantity(pub(super) Quantity);

opaque!(CelQuantity, QUANTITY, "kubernetes.Quantity", |one, other| one.0 == other.0);

/// A semantic version; its build does not count.
#[derive(Clone, Debug)]
pub(super) struct CelVersion(pub(super) Version);

opaque!(CelVersion, VERSION, "kubernetes.Semver", |one, other| one.0.cmp_precedence(&other.0).is_eq());
