//! DEL while no node process is there (P08, B12): the interface is removed from the sandbox if that still exists, and a note is left for the
//! node process that comes next. It always succeeds: a runtime that cannot delete a sandbox keeps it for ever.

use crate::agent::{self, Unanswered};
use crate::api::{Del, Removed};
use crate::{link, mark};
use std::path::Path;

/// Ends an attachment without a node process; tells on standard error what could not be done.
pub(crate) fn del(socket: &Path, del: &Del, netns: &Path) {
    let Del { container_id, ifname } = del;
    if let Err(error) = mark::leave(socket, container_id, ifname) {
        tell(&format!(
            "no note about it could be left ({error}): its addresses are free when the node process starts and finds its \
             network namespace gone"
        ));
    }
    // A node process that has come since may have looked for notes before this one was left.
    if matches!(agent::post::<Removed>(socket, "/v1/cni/del", del), Ok(_) | Err(Unanswered::Refused(_))) {
        mark::take_back(socket, container_id, ifname);
        return;
    }
    if !netns.as_os_str().is_empty()
        && let Err(error) = link::remove(netns, ifname)
    {
        tell(&format!("interface {ifname} in {} stays until that is gone: {error}", netns.display()));
    }
}

fn tell(what: &str) {
    eprintln!("podplane-cni: no node process is there, {what}");
}
