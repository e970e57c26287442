//! What an agent is to do.

use memorygate_client::{LearningContext, TimeMs};

/// Actions that a task may name.
pub const ACTIONS_MAX: usize = 256;

/// A task, and what may be done about it.
///
/// ```
/// use memorygate_agents::{Action, Task};
/// use memorygate_client::{LearningContext, domain};
///
/// let context = LearningContext::new("checkout pods restart every night")
///     .domain(domain::INFRASTRUCTURE);
/// let task = Task::new(context)
///     .action(Action::new("raise-memory-limit").described("Raise the container's memory limit"))
///     .action(Action::new("roll-back").described("Go back to the last good revision"));
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Task {
    /// The task's words, and on whose behalf it is done.
    pub context: LearningContext,
    /// What may be chosen. Empty: whatever was done in past cases.
    pub actions: Vec<Action>,
    /// What past cases did may be chosen beside the actions that are named.
    pub open: bool,
    /// Each action is right or wrong by itself: several may be, or none. Otherwise one of them is what is
    /// needed, and that another one worked speaks against it.
    pub independent: bool,
    /// When it came up; now if unset.
    pub at: Option<TimeMs>,
}

/// Something that can be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    pub name: String,
    /// In the words of a task: it is what is known of an action that was never tried.
    pub description: String,
    /// How well it fits the task, 0 to 1, where whoever sets the task can tell. Unset: as well as its
    /// description does, which the memory is asked about.
    pub fit: Option<f32>,
}

impl Task {
    pub fn new(context: LearningContext) -> Self {
        Self {
            context,
            ..Self::default()
        }
    }

    #[must_use]
    pub fn action(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }

    /// See [`Task::open`].
    #[must_use]
    pub fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// See [`Task::independent`].
    #[must_use]
    pub fn independent(mut self) -> Self {
        self.independent = true;
        self
    }

    #[must_use]
    pub fn at(mut self, at: TimeMs) -> Self {
        self.at = Some(at);
        self
    }
}

impl Action {
    /// Described by its name.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            description: name.replace(['-', '_'], " "),
            name,
            fit: None,
        }
    }

    /// See [`Action::fit`].
    #[must_use]
    pub fn fitting(mut self, fit: f32) -> Self {
        self.fit = Some(fit.clamp(0.0, 1.0));
        self
    }

    #[must_use]
    pub fn described(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }
}
