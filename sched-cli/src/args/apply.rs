//! The words of `apply`.

use clap::Args;

/// How the configuration is taken over.
#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Ask nothing; without a terminal nothing is asked anyway
    #[arg(long, short)]
    pub(crate) yes: bool,
}
