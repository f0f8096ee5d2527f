//! Raw sockets of one interface (packet(7)): frames that the kernel sees as well, with a virtio-net header in front.
//!
//! Reading and writing goes through socket2, which is safe; here is what makes the socket.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use wire::MacAddr;

// `linux/if_packet.h`.
const PACKET_ADD_MEMBERSHIP: libc::c_int = 1;
const PACKET_DROP_MEMBERSHIP: libc::c_int = 2;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const PACKET_MR_MULTICAST: libc::c_ushort = 0;

/// Opens a raw socket that receives nothing until it is bound. Every frame has a header of [`wire::VIRTIO_HEADER_BYTES`].
///
/// Errors: `EPERM` without CAP_NET_RAW.
pub(crate) fn open() -> io::Result<Socket> {
    let socket = Socket::new_raw(Domain::PACKET, Type::RAW.nonblocking(), None)?;
    super::udp::set_option(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    // Linux 4.20; on older kernels the filter alone keeps out what this machine sends.
    let _ = super::udp::set_option(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    Ok(socket)
}

/// Binds a raw socket to an interface: from here on it receives that interface's frames, of all ethertypes.
pub(crate) fn bind(socket: &Socket, index: u32) -> io::Result<()> {
    // SAFETY: `try_init` hands out storage that is zeroed and large and aligned enough for any address, of which a `sockaddr_ll`
    // is one; it is filled in whole, and its length is set.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, len| {
            storage.cast::<libc::sockaddr_ll>().write(libc::sockaddr_ll {
                sll_family: libc::AF_PACKET as libc::c_ushort,
                sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
                sll_ifindex: index as libc::c_int,
                sll_hatype: 0,
                sll_pkttype: 0,
                sll_halen: 0,
                sll_addr: [0; 8],
            });
            *len = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            Ok(())
        })
    }?;
    socket.bind(&address)
}

/// Has the interface take frames for the multicast address `mac`, or stop.
///
/// setsockopt(2) with a `packet_mreq`; needed because socket2 does not offer it.
pub(crate) fn set_membership(socket: &Socket, index: u32, mac: MacAddr, member: bool) -> io::Result<()> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac.0);
    let request = libc::packet_mreq {
        mr_ifindex: index as libc::c_int,
        mr_type: PACKET_MR_MULTICAST,
        mr_alen: 6,
        mr_address: address,
    };
    let name = if member { PACKET_ADD_MEMBERSHIP } else { PACKET_DROP_MEMBERSHIP };
    // SAFETY: the descriptor is open for the duration of the call, and the pointer refers to one `packet_mreq`, whose length is
    // given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            (&raw const request).cast(),
            mem::size_of_val(&request) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
