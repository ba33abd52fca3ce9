//! Job kinds: a name, typed parameters with their JSON Schema, and a factory.
//!
//! Must not know: concrete kinds.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::channel::Channel;
use crate::job::Job;

type Build = dyn Fn(&Map<String, Value>) -> Result<Box<dyn Job>, ParamError> + Send + Sync;

/// One kind of job.
#[derive(Clone)]
pub struct JobKind {
    about: &'static str,
    default_attempts: u32,
    schema: Value,
    build: Arc<Build>,
}

impl std::fmt::Debug for JobKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobKind").field("about", &self.about).finish_non_exhaustive()
    }
}

impl JobKind {
    /// What it does, in one line.
    #[must_use]
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// The attempts a schedule of this kind gets when it does not say.
    #[must_use]
    pub const fn default_attempts(&self) -> u32 {
        self.default_attempts
    }

    /// The JSON Schema of its parameters.
    #[must_use]
    pub const fn schema(&self) -> &Value {
        &self.schema
    }

    /// Makes a job from parameters.
    ///
    /// # Errors
    /// When the parameters do not fit the kind.
    pub fn build(&self, params: &Map<String, Value>) -> Result<Box<dyn Job>, ParamError> {
        (self.build)(params)
    }
}

type BuildChannel = dyn Fn(&Map<String, Value>) -> Result<Arc<dyn Channel>, ParamError> + Send + Sync;

/// One kind of channel.
#[derive(Clone)]
pub struct ChannelKind {
    about: &'static str,
    schema: Value,
    build: Arc<BuildChannel>,
}

impl std::fmt::Debug for ChannelKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChannelKind").field("about", &self.about).finish_non_exhaustive()
    }
}

impl ChannelKind {
    /// How it reaches people, in one line.
    #[must_use]
    pub const fn about(&self) -> &'static str {
        self.about
    }

    /// The JSON Schema of its parameters.
    #[must_use]
    pub const fn schema(&self) -> &Value {
        &self.schema
    }

    /// Makes a channel from parameters.
    ///
    /// # Errors
    /// When the parameters do not fit the kind.
    pub fn build(&self, params: &Map<String, Value>) -> Result<Arc<dyn Channel>, ParamError> {
        (self.build)(params)
    }
}

/// Reads typed parameters; an error names the place.
fn typed<P: DeserializeOwned>(params: &Map<String, Value>) -> Result<P, ParamError> {
    serde_path_to_error::deserialize(Value::Object(params.clone()))
        .map_err(|error| ParamError::new(error.path().to_string(), error.inner().to_string()))
}

/// Parameters that do not fit their kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if path.is_empty() || path == "." { String::new() } else { format!("params.{path}: ") })]
pub struct ParamError {
    path: String,
    message: String,
}

impl ParamError {
    /// An error at `path` (with dots; empty for the whole).
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// Where, with dots.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The job kinds that a scheduler can run, and the kinds of channels by which it tells people.
///
/// ```
/// use sched_core::{Job, JobError, Output, Registry, RunContext, async_trait};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Params { who: String }
///
/// struct Greet(Params);
///
/// #[async_trait]
/// impl Job for Greet {
///     async fn run(&self, _: &RunContext) -> Result<Output, JobError> {
///         Ok(Output::summary(format!("hello {}", self.0.who)))
///     }
/// }
///
/// let mut registry = Registry::new();
/// registry.register("greet", "Says hello", |params: Params| Ok(Greet(params)));
/// let error = registry.check("greet", &serde_json::Map::new()).unwrap_err();
/// assert_eq!(error.to_string(), "missing field `who`");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<String, JobKind>,
    channels: BTreeMap<String, ChannelKind>,
}

impl Registry {
    /// No kinds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind with three attempts by default; a kind of the same name is replaced.
    pub fn register<P, J, F>(&mut self, kind: &str, about: &'static str, factory: F)
    where
        P: DeserializeOwned + JsonSchema,
        J: Job + 'static,
        F: Fn(P) -> Result<J, ParamError> + Send + Sync + 'static,
    {
        self.register_with_attempts(kind, about, 3, factory);
    }

    /// Adds a kind whose schedules get `attempts` attempts when they do not say.
    pub fn register_with_attempts<P, J, F>(&mut self, kind: &str, about: &'static str, attempts: u32, factory: F)
    where
        P: DeserializeOwned + JsonSchema,
        J: Job + 'static,
        F: Fn(P) -> Result<J, ParamError> + Send + Sync + 'static,
    {
        let schema = schemars::schema_for!(P).to_value();
        let build = move |params: &Map<String, Value>| -> Result<Box<dyn Job>, ParamError> {
            Ok(Box::new(factory(typed(params)?)?))
        };
        let kind_entry = JobKind { about, default_attempts: attempts, schema, build: Arc::new(build) };
        self.kinds.insert(kind.to_owned(), kind_entry);
    }

    /// Adds a kind of channel; one of the same name is replaced.
    pub fn register_channel<P, C, F>(&mut self, kind: &str, about: &'static str, factory: F)
    where
        P: DeserializeOwned + JsonSchema,
        C: Channel + 'static,
        F: Fn(P) -> Result<C, ParamError> + Send + Sync + 'static,
    {
        let schema = schemars::schema_for!(P).to_value();
        let build = move |params: &Map<String, Value>| -> Result<Arc<dyn Channel>, ParamError> {
            Ok(Arc::new(factory(typed(params)?)?))
        };
        self.channels.insert(kind.to_owned(), ChannelKind { about, schema, build: Arc::new(build) });
    }

    /// The kind of channel of this name.
    ///
    /// # Errors
    /// When there is none; the message names a near one.
    pub fn channel_kind(&self, name: &str) -> Result<&ChannelKind, ParamError> {
        self.channels.get(name).ok_or_else(|| {
            let known = self.channels.keys().map(String::as_str);
            ParamError::new("", format!("no kind of channel `{name}`{}", crate::suggest::near(name, known)))
        })
    }

    /// Every kind of channel, in the order of names.
    pub fn channel_kinds(&self) -> impl Iterator<Item = (&str, &ChannelKind)> {
        self.channels.iter().map(|(name, kind)| (name.as_str(), kind))
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// When there is none; the message names a near one.
    pub fn kind(&self, name: &str) -> Result<&JobKind, ParamError> {
        self.kinds.get(name).ok_or_else(|| {
            let known = self.kinds.keys().map(String::as_str);
            ParamError::new("", format!("no job kind `{name}`{}", crate::suggest::near(name, known)))
        })
    }

    /// Every kind, in the order of names.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &JobKind)> {
        self.kinds.iter().map(|(name, kind)| (name.as_str(), kind))
    }

    /// Checks parameters without running anything.
    ///
    /// # Errors
    /// When there is no such kind, or the parameters do not fit it.
    pub fn check(&self, kind: &str, params: &Map<String, Value>) -> Result<(), ParamError> {
        self.kind(kind)?.build(params).map(drop)
    }
}
