//! A change of what is served, as a client asks for it, and what came of it: the same in every dialect
//! that has such a thing.

use dukou_types::{ModelName, Version};

/// What is asked for, before a body or a query is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A model that was unloaded, or lies in a model store, is to be served.
    Load,
    /// A model is no longer to be served.
    Unload,
    /// A file of a model store is to be served under a name.
    Register,
    /// How many instances run a version.
    Scale,
    /// Which version answers requests that name none.
    SetDefault,
    /// A model or a version of it is to be forgotten.
    Unregister,
    /// This list of models is to be served, and nothing else.
    Reload,
}

impl Operation {
    /// As logs and metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
            Self::Register => "register",
            Self::Scale => "scale",
            Self::SetDefault => "set-default",
            Self::Unregister => "unregister",
            Self::Reload => "reload",
        }
    }
}

/// A change of what is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// [`Operation::Load`].
    Load {
        /// The model.
        model: ModelName,
    },
    /// [`Operation::Unload`].
    Unload {
        /// The model.
        model: ModelName,
        /// Whether models that are made of it may go with it.
        dependents: bool,
    },
    /// [`Operation::Register`].
    Register(Registration),
    /// [`Operation::Scale`].
    Scale {
        /// The model.
        model: ModelName,
        /// The version; none: the default one.
        version: Option<Version>,
        /// Instances; 0: it is kept and answers nothing.
        workers: u64,
        /// Whether the asker waits for it.
        wait: bool,
    },
    /// [`Operation::SetDefault`].
    SetDefault {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
    },
    /// [`Operation::Unregister`].
    Unregister {
        /// The model.
        model: ModelName,
        /// The version; none: the default one.
        version: Option<Version>,
    },
    /// [`Operation::Reload`].
    Reload(Vec<Wanted>),
}

/// A file of a model store, to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What it is to be called; none: as its file.
    pub model: Option<ModelName>,
    /// Its file or folder, as the client said it.
    pub location: String,
    /// Instances; none: as the server has it.
    pub workers: Option<u64>,
    /// Rows of one batch; none: as the server has it.
    pub batch_rows: Option<u64>,
    /// How long a batch waits for more, in milliseconds.
    pub batch_delay_ms: Option<u64>,
    /// Whether the asker waits for it.
    pub wait: bool,
}

/// A model of a list that is to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The model.
    pub model: ModelName,
    /// Where it lies, as the client said it; none: where it is known to be.
    pub location: Option<String>,
    /// Which versions.
    pub versions: Wanting,
    /// Alias → version.
    pub labels: Vec<(Version, Version)>,
}

/// Which versions of a model are to be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanting {
    /// All there are.
    All,
    /// So many, those of the largest numbers.
    Latest(usize),
    /// These.
    Only(Vec<Version>),
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is served.
    Loaded {
        /// The model.
        model: ModelName,
    },
    /// It is no longer served.
    Unloaded {
        /// The model.
        model: ModelName,
    },
    /// It is known, and served where it has instances.
    Registered {
        /// The model.
        model: ModelName,
        /// Its default version.
        version: Version,
        /// Its instances.
        workers: u64,
    },
    /// It has so many instances.
    Scaled {
        /// The model.
        model: ModelName,
        /// The version, where one was named.
        version: Option<Version>,
        /// Its instances.
        workers: u64,
    },
    /// Requests that name no version go to this one.
    DefaultSet {
        /// The model.
        model: ModelName,
        /// The version.
        version: Version,
    },
    /// It is forgotten.
    Unregistered {
        /// The model.
        model: ModelName,
    },
    /// The list is served.
    Reloaded,
    /// It goes on while nobody waits.
    Begun,
}

impl Change {
    /// What is asked for.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Load { .. } => Operation::Load,
            Self::Unload { .. } => Operation::Unload,
            Self::Register(_) => Operation::Register,
            Self::Scale { .. } => Operation::Scale,
            Self::SetDefault { .. } => Operation::SetDefault,
            Self::Unregister { .. } => Operation::Unregister,
            Self::Reload(_) => Operation::Reload,
        }
    }

    /// The one model that it is about, where it names one.
    pub const fn model(&self) -> Option<&ModelName> {
        match self {
            Self::Load { model }
            | Self::Unload { model, .. }
            | Self::Scale { model, .. }
            | Self::SetDefault { model, .. }
            | Self::Unregister { model, .. } => Some(model),
            Self::Register(registration) => registration.model.as_ref(),
            Self::Reload(_) => None,
        }
    }

    /// Whether the asker waits for it.
    pub const fn waits(&self) -> bool {
        match self {
            Self::Register(Registration { wait, .. }) | Self::Scale { wait, .. } => *wait,
            _ => true,
        }
    }
}

/// A model and one version of it, as a repository lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The model.
    pub model: &'a str,
    /// The version; none for what has never been loaded.
    pub version: Option<&'a str>,
    /// Whether it answers; none for what has never been loaded.
    pub ready: Option<bool>,
    /// Why it does not.
    pub reason: Option<&'a str>,
}
