//! Mirrored requests: copies that go to further backends, whose answers nobody sees.
//!
//! The request itself never waits for its copies. A copy's body comes through a short queue; a backend that does not take it as fast
//! as the client sends it loses its copy.

use super::answer::AnswerBody;
use super::attempts::{AttemptLimits, Attempted, Attempts};
use super::backend::Length;
use super::choice::Group;
use super::forward::Outgoing;
use super::upload::{Upload, UploadProgress};
use super::worker::Worker;
use bytes::Bytes;
use http_body::Body;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of a body that may wait for a mirror: at the usual 8 KiB each, 256 KiB.
const PIECES_MAX: usize = 32;
/// Bytes of an answer that are read so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What a mirrored request may take, so that it does not stay for ever.
const TIME_MAX: Duration = Duration::from_secs(60);

/// Starts a copy of `outgoing`, whose body is not there yet, to one of each group. Returns where its body is to be copied to.
pub(super) fn start(
    worker: &Rc<Worker>,
    outgoing: &Outgoing,
    groups: Vec<Rc<Group>>,
) -> Vec<mpsc::Sender<Option<Bytes>>> {
    let mut copies = Vec::new();
    for group in groups {
        let upload = if outgoing.length == Length::None {
            Upload::Empty
        } else {
            let (pieces, waiting) = mpsc::channel(PIECES_MAX);
            copies.push(pieces);
            Upload::Copy(waiting)
        };
        let copy = Outgoing {
            method: outgoing.method.clone(),
            path: outgoing.path.clone(),
            host: outgoing.host.clone(),
            headers: outgoing.headers.clone(),
            description: None,
            length: outgoing.length,
            upload,
            progress: Rc::<UploadProgress>::default(),
            upgrade: None,
        };
        let (worker, mirroring) = (worker.clone(), worker.clone());
        worker.spawn_mirror(async move {
            let mirrored = mirroring.clock.within(TIME_MAX, mirror(&mirroring, group, copy)).await;
            if !matches!(mirrored, Ok(true)) {
                mirroring.counters().mirrors_dropped.count();
            }
        });
    }
    copies
}

async fn mirror(worker: &Rc<Worker>, group: Rc<Group>, outgoing: Outgoing) -> bool {
    let attempts = Attempts::new(worker, group, None, AttemptLimits::none());
    match attempts.run(outgoing, &mut Attempted::default()).await {
        Ok(answer) => {
            drain(answer.into_body()).await;
            true
        }
        Err(_) => false,
    }
}

async fn drain(body: AnswerBody) {
    let mut body = pin!(body);
    let mut bytes = 0;
    while let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > ANSWER_BYTES_MAX {
            return;
        }
    }
}
