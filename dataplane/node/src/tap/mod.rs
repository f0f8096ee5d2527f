//! A TAP of either kind: one read or one write per frame, which may be a super-frame on the offload kind.
//!
//! What the other kind cannot take is finished here: super-frames are cut and partial checksums computed before they are
//! written to a plain TAP. A [`Tap`] removes its interface when it is dropped, unless it is persistent.

use crate::sys::tap::{self, OffloadTap, Present};
use crate::{TapKind, TapMode};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use switch::DropReason;
use tun_tap::{Iface, Mode};
use wire::{Frame, Offload, SegmentPlan, Segmentation, SegmentationKind, VIRTIO_HEADER_BYTES};

/// An open TAP.
pub(crate) enum Tap {
    /// With a virtio-net header.
    Offload(OffloadTap),
    /// Without.
    Plain(Iface),
}

/// What reading a TAP gave.
pub(crate) enum Received {
    /// The frame was filled.
    Frame,
    /// Nothing waits; an event will tell when something does.
    Nothing,
    /// Something was read that is not a frame.
    Bad(DropReason),
    /// The read failed; an event will tell when it is worth another try.
    Failed,
    /// The device does not exist any more.
    Gone,
}

/// Why a frame was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendError {
    /// What to count.
    pub(crate) reason: DropReason,
    /// The device does not exist any more.
    pub(crate) gone: bool,
}

impl Tap {
    /// Makes the TAP `name` in the network namespace of the calling thread.
    pub(crate) fn open(name: &str, mode: TapMode) -> io::Result<Tap> {
        Tap::open_or(name, mode, Present::Refuse)
    }

    /// Takes over the TAP `name` that an ended process has left in the network namespace of the calling thread, or makes it.
    ///
    /// Errors: `EBUSY` if a process has it open, `EINVAL` if an interface of that name is no TAP.
    pub(crate) fn take_over(name: &str, mode: TapMode) -> io::Result<Tap> {
        Tap::open_or(name, mode, Present::TakeOver)
    }

    fn open_or(name: &str, mode: TapMode, present: Present) -> io::Result<Tap> {
        if mode != TapMode::Plain {
            match tap::open_offload(name, present) {
                Ok(tap) => return Ok(Tap::Offload(tap)),
                Err(error) if mode == TapMode::Auto && offload_is_unknown(&error) => {}
                Err(error) => return Err(error),
            }
        }
        // tun-tap opens by path and panics on nothing, but it cannot say which step failed; opening the device first keeps
        // "absent" and "denied" apart from a refused interface.
        drop(tap::open_device()?);
        let iface = Iface::without_packet_info(name, Mode::Tap)?;
        iface.set_non_blocking()?;
        tap::take_no_offloads(&iface)?;
        Ok(Tap::Plain(iface))
    }

    /// Whether the interface is to stay when this value is dropped, for a process that takes it over.
    pub(crate) fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        tap::set_persistent(self.raw_fd(), persistent)
    }

    /// Which kind it is.
    pub(crate) fn kind(&self) -> TapKind {
        match self {
            Tap::Offload(_) => TapKind::Offload,
            Tap::Plain(_) => TapKind::Plain,
        }
    }

    /// The descriptor to poll.
    pub(crate) fn raw_fd(&self) -> RawFd {
        match self {
            Tap::Offload(tap) => tap.file.as_raw_fd(),
            Tap::Plain(iface) => iface.as_raw_fd(),
        }
    }

    /// Reads the next frame that the attached side sent.
    pub(crate) fn receive(&self, frame: &mut Frame) -> Received {
        let (header_bytes, result) = match self {
            Tap::Offload(tap) => (VIRTIO_HEADER_BYTES, (&tap.file).read(frame.receive_area(VIRTIO_HEADER_BYTES))),
            Tap::Plain(iface) => (0, iface.recv(frame.receive_area(0))),
        };
        let len = match result {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            Err(error) if is_gone(&error) => return Received::Gone,
            Err(_) => return Received::Failed,
        };
        if len < header_bytes {
            return Received::Bad(DropReason::Truncated);
        }
        frame.received(header_bytes, len);
        if header_bytes == 0 {
            return Received::Frame;
        }
        let header = *frame.headroom_mut(VIRTIO_HEADER_BYTES).first_chunk().expect("as long as was asked for");
        match Offload::from_virtio(&header, frame.bytes()) {
            Ok(offload) => {
                frame.offload = offload;
                Received::Frame
            }
            Err(malformed) => Received::Bad(malformed.into()),
        }
    }

    /// Writes a frame to the attached side. `scratch` is used for segments; it is grown once and kept by the caller.
    pub(crate) fn send(&self, frame: &mut Frame, scratch: &mut Vec<u8>) -> Result<(), SendError> {
        match (self, frame.offload.segmentation) {
            (Tap::Plain(_), Some(_)) => self.send_segments(frame, scratch),
            (Tap::Offload(OffloadTap { uso: false, .. }), Some(Segmentation { kind: SegmentationKind::Udp, .. })) => {
                self.send_segments(frame, scratch)
            }
            (Tap::Plain(iface), None) => {
                wire::complete_checksum(frame).map_err(refused)?;
                check(iface.send(frame.bytes()))
            }
            (Tap::Offload(tap), _) => {
                let mut header = [0; VIRTIO_HEADER_BYTES];
                frame.offload.write_virtio(frame.bytes(), &mut header).map_err(refused)?;
                frame.headroom_mut(VIRTIO_HEADER_BYTES).copy_from_slice(&header);
                check((&tap.file).write(frame.with_header(VIRTIO_HEADER_BYTES)))
            }
        }
    }

    /// Cuts a super-frame and writes its segments one by one. After the first that is not taken the rest is given up: the
    /// queue is full, or the device is gone.
    fn send_segments(&self, frame: &Frame, scratch: &mut Vec<u8>) -> Result<(), SendError> {
        let plan = SegmentPlan::new(frame.bytes(), &frame.offload).ok_or(refused(wire::Malformed::BadOffload))?;
        for index in 0..plan.count() {
            let payload = plan.payload(index);
            scratch.clear();
            scratch.resize(VIRTIO_HEADER_BYTES + plan.header_len(), 0);
            plan.write_header(index, &mut scratch[VIRTIO_HEADER_BYTES..]);
            scratch.extend_from_slice(&frame.bytes()[payload]);
            check(match self {
                Tap::Plain(iface) => iface.send(&scratch[VIRTIO_HEADER_BYTES..]),
                Tap::Offload(tap) => (&tap.file).write(scratch),
            })?;
        }
        Ok(())
    }
}

fn refused(malformed: wire::Malformed) -> SendError {
    SendError { reason: malformed.into(), gone: false }
}

fn check(result: io::Result<usize>) -> Result<(), SendError> {
    let Err(error) = result else { return Ok(()) };
    let reason = match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TransmitQueueFull,
        Some(libc::EINVAL) => DropReason::BadOffload,
        // EIO is what a TAP says whose link is down.
        _ => DropReason::DeviceGone,
    };
    Err(SendError { reason, gone: is_gone(&error) })
}

/// Whether the error says that the interface behind the descriptor was deleted. The descriptor never recovers. (Removing a
/// namespace does not do that: the open TAP keeps it alive.)
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::ENXIO | libc::ENODEV | libc::EBADF))
}

/// Whether the kernel refused because it does not know virtio-net headers or offloads on TAPs.
fn offload_is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOSYS))
}

#[cfg(test)]
mod tests;
