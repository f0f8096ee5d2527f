//! Opens TAP devices with a virtio-net header and offloads. The plain TAP is opened with the tun-tap crate, which cannot set
//! IFF_VNET_HDR.
//!
//! The device appears in the network namespace of the calling thread and disappears when the file is closed, unless it was made
//! to stay ([`set_persistent`]). One that stayed has no carrier until another file takes it over.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use wire::VIRTIO_HEADER_BYTES;

/// The device that makes TAPs.
pub(crate) const DEVICE: &str = "/dev/net/tun";

// `linux/if_tun.h`. The USO flags came with Linux 6.2, so older headers and libraries lack them.
const TUN_F_CSUM: libc::c_uint = 0x01;
const TUN_F_TSO4: libc::c_uint = 0x02;
const TUN_F_TSO6: libc::c_uint = 0x04;
const TUN_F_TSO_ECN: libc::c_uint = 0x08;
const TUN_F_USO4: libc::c_uint = 0x20;
const TUN_F_USO6: libc::c_uint = 0x40;

/// What is to be done about an interface of that name that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Present {
    /// `EBUSY`.
    Refuse,
    /// Take it over, if it is a TAP that nobody has open; it takes on the offloads that are asked for.
    TakeOver,
}

/// An open TAP with virtio-net header, checksum and TCP offload.
#[derive(Debug)]
pub(crate) struct OffloadTap {
    /// Reads and writes one frame per call, behind a header of [`VIRTIO_HEADER_BYTES`].
    pub(crate) file: File,
    /// UDP super-frames may cross, too (Linux 6.2).
    pub(crate) uso: bool,
}

/// Makes the TAP `name` with a virtio-net header and the most offloads that the kernel grants. The file is non-blocking.
///
/// Errors: `EBUSY` if an interface of that name exists and is refused or in use, `EPERM` without CAP_NET_ADMIN, `EINVAL` for a bad
/// name, an interface that is no TAP, or a kernel without these offloads.
pub(crate) fn open_offload(name: &str, present: Present) -> io::Result<OffloadTap> {
    let file = open_device()?;
    let exclusive = if present == Present::Refuse { libc::IFF_TUN_EXCL } else { 0 };
    set_interface(&file, name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | exclusive)?;
    set_virtio_header_bytes(&file, VIRTIO_HEADER_BYTES as libc::c_int)?;
    let tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
    match set_offload(&file, tso | TUN_F_USO4 | TUN_F_USO6) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            set_offload(&file, tso)?;
            Ok(OffloadTap { file, uso: false })
        }
        other => other.map(|()| OffloadTap { file, uso: true }),
    }
}

/// Opens the TUN device, not yet bound to an interface.
pub(crate) fn open_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(DEVICE)
}

/// TUNSETIFF: gives the file an interface. Needed because no library sets IFF_VNET_HDR and IFF_TUN_EXCL.
fn set_interface(file: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `ifreq` consists of integers, arrays of them and pointers that the kernel does not follow for this request;
    // all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // IFF_TUN_EXCL is bit 15, the sign bit of the field; the kernel reads it as unsigned.
    request.ifr_ifru.ifru_flags = flags as u16 as libc::c_short;
    // SAFETY: the descriptor is open for the duration of the call, and TUNSETIFF reads and writes one `ifreq`, which
    // `request` is.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) })
}

/// TUNSETVNETHDRSZ: sets the length of the virtio-net header. Needed because no library knows it.
fn set_virtio_header_bytes(file: &File, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call, and TUNSETVNETHDRSZ reads one `int`.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &bytes) })
}

/// Has the kernel finish every frame. For a plain TAP, which may have been one with offloads before it was taken over.
pub(crate) fn take_no_offloads(tap: &impl AsRawFd) -> io::Result<()> {
    set_offload(tap, 0)
}

/// TUNSETPERSIST: whether the device stays when its file is closed. Needed because no library knows it.
pub(crate) fn set_persistent(tap: RawFd, persistent: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its argument by value; a descriptor that is no TAP gives an error.
    check(unsafe { libc::ioctl(tap, libc::TUNSETPERSIST, libc::c_ulong::from(persistent)) })
}

/// TUNSETOFFLOAD: tells the kernel which unfinished frames this side takes. Needed because no library knows it.
fn set_offload(file: &impl AsRawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call, and TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
