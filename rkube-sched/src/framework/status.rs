//! What a plugin answers.

use std::{borrow::Cow, fmt};

use smallvec::SmallVec;

/// The kind of an answer. The names and their meaning are those of kube-scheduler's framework.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// Go on.
    #[default]
    Success,
    /// The plugin failed; the pod is tried again after a backoff.
    Error,
    /// The pod cannot run there now; removing other pods might help.
    Unschedulable,
    /// The pod cannot run there, and removing other pods does not help.
    UnschedulableAndUnresolvable,
    /// Permit only: the binding waits.
    Wait,
    /// The plugin has nothing to say about this pod: PreFilter and PreScore skip Filter and Score with
    /// it, Bind leaves the pod to the next binder.
    Skip,
    /// The pod waits for something outside of the scheduler; it goes to no backoff when that arrives.
    Pending,
}

/// An answer: a code, the reasons as users see them, and the plugin that gave it.
///
/// A success, and a refusal with one fixed text, need no memory of their own: a scan makes one answer a
/// node.
///
/// ```
/// use rkube_sched::framework::{Code, Status};
///
/// let status = Status::unschedulable("Insufficient cpu").with("Insufficient memory");
/// assert!(status.is_rejected());
/// assert_eq!(status.message(), "Insufficient cpu, Insufficient memory");
/// assert!(Status::success().is_success());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    code: Code,
    plugin: Option<&'static str>,
    reasons: SmallVec<[Cow<'static, str>; 1]>,
}

impl Status {
    /// Go on.
    pub fn success() -> Self {
        Self::default()
    }

    /// Nothing to say.
    pub fn skip() -> Self {
        Self::new(Code::Skip)
    }

    /// An answer without a reason.
    pub fn new(code: Code) -> Self {
        Self { code, ..Self::default() }
    }

    /// The plugin failed.
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Error).with(reason)
    }

    /// Refused; removing other pods might help.
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unschedulable).with(reason)
    }

    /// Refused; removing other pods does not help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::UnschedulableAndUnresolvable).with(reason)
    }

    /// Waits for something outside of the scheduler.
    pub fn pending(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Pending).with(reason)
    }

    /// Adds a reason.
    #[must_use]
    pub fn with(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// Names the plugin that gave the answer, unless it is named already.
    #[must_use]
    pub fn from_plugin(mut self, plugin: &'static str) -> Self {
        self.plugin.get_or_insert(plugin);
        self
    }

    /// Changes the code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// The kind of the answer.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The plugin that gave it.
    pub fn plugin(&self) -> Option<&'static str> {
        self.plugin
    }

    /// The reasons, as users see them.
    pub fn reasons(&self) -> impl ExactSizeIterator<Item = &str> {
        self.reasons.iter().map(AsRef::as_ref)
    }

    /// The reasons in one line.
    pub fn message(&self) -> String {
        self.reasons.join(", ")
    }

    /// Whether to go on.
    pub fn is_success(&self) -> bool {
        self.code == Code::Success
    }

    /// Whether the plugin has nothing to say.
    pub fn is_skip(&self) -> bool {
        self.code == Code::Skip
    }

    /// Whether the pod was refused: unschedulable (both forms) or pending.
    pub fn is_rejected(&self) -> bool {
        matches!(self.code, Code::Unschedulable | Code::UnschedulableAndUnresolvable | Code::Pending)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.reasons.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(reason)?;
        }
        Ok(())
    }
}
