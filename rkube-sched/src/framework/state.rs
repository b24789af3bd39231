//! What the plugins of one scheduling cycle tell each other.

use std::{any::Any, borrow::Cow, sync::Arc};

/// A value that a plugin keeps in the [`CycleState`]; implemented for every type that can be cloned.
pub trait StateData: Any + Send + Sync {
    /// A copy, for a what-if run beside the cycle (preemption, nominated pods).
    fn duplicate(&self) -> Box<dyn StateData>;
    /// The value as `Any`, to find its type again.
    fn any(&self) -> &dyn Any;
    /// The value as `Any`, to change.
    fn any_mut(&mut self) -> &mut dyn Any;
}

impl<T: Any + Clone + Send + Sync> StateData for T {
    fn duplicate(&self) -> Box<dyn StateData> {
        Box::new(self.clone())
    }
    fn any(&self) -> &dyn Any {
        self
    }
    fn any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The state of one cycle: one value a type. A plugin keeps its data under a private type of its own, so
/// nobody else can touch it; a public type is a way for plugins to talk.
///
/// ```
/// use rkube_sched::framework::CycleState;
///
/// #[derive(Clone, PartialEq, Debug)]
/// struct Wanted(u32);
///
/// let mut state = CycleState::default();
/// state.write(Wanted(3));
/// assert_eq!(state.read::<Wanted>(), Some(&Wanted(3)));
/// assert_eq!(state.clone().read::<u8>(), None);
/// ```
///
/// A clone shares its values with the original until one of the two changes them.
#[derive(Clone, Default)]
pub struct CycleState {
    // A cycle has a handful of values: a list is quicker than any map.
    entries: Arc<Entries>,
}

#[derive(Default)]
struct Entries(Vec<Box<dyn StateData>>);

impl Clone for Entries {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|entry| (**entry).duplicate()).collect())
    }
}

impl std::fmt::Debug for CycleState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CycleState({} values)", self.entries.0.len())
    }
}

impl CycleState {
    /// Keeps a value, in place of an earlier one of its type.
    pub fn write<T: Any + Clone + Send + Sync>(&mut self, value: T) {
        match self.modify::<T>() {
            Some(slot) => *slot = value,
            None => Arc::make_mut(&mut self.entries).0.push(Box::new(value)),
        }
    }

    /// The value of a type.
    pub fn read<T: Any>(&self) -> Option<&T> {
        self.entries.0.iter().find_map(|entry| (**entry).any().downcast_ref())
    }

    /// The value that PreFilter has kept; for a Filter that is asked alone, outside of a cycle, it is made
    /// now.
    pub fn read_or<T: Any + Clone>(&self, alone: impl FnOnce() -> Option<T>) -> Option<Cow<'_, T>> {
        self.read().map(Cow::Borrowed).or_else(|| alone().map(Cow::Owned))
    }

    /// The value of a type, to change.
    pub fn modify<T: Any>(&mut self) -> Option<&mut T> {
        let place = self.entries.0.iter().position(|entry| (**entry).any().is::<T>())?;
        Arc::make_mut(&mut self.entries).0.get_mut(place).and_then(|entry| (**entry).any_mut().downcast_mut())
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.0.is_empty()
    }
}
