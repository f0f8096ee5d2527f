//! UDP with segmentation offload: one system call moves many datagrams. And UDP that knows which of the machine's addresses was
//! asked, and answers from it.
//!
//! Sending goes through socket2's `sendmsg`, which is safe; the control messages (UDP_SEGMENT, traffic class) are built here
//! as bytes. Receiving needs the sender's address, the UDP_GRO segment size and the traffic class in one call, into a
//! buffer that is initialized already, without an allocation: no library offers that.

use socket2::{MsgHdr, SockAddr, Socket};
use std::io::{self, IoSlice};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

/// `linux/udp.h`: size of each segment of a large send.
const UDP_SEGMENT: libc::c_int = 103;
/// `linux/udp.h`: deliver consecutive datagrams of one flow in one receive.
const UDP_GRO: libc::c_int = 104;

/// Bytes of a `cmsghdr`: a `size_t` and two `int`s. Data begins behind it at the same alignment.
const CONTROL_HEADER_BYTES: usize = mem::size_of::<libc::cmsghdr>();
/// Alignment of control messages: that of `size_t` (CMSG_ALIGN).
const CONTROL_ALIGN_BYTES: usize = mem::size_of::<usize>();
/// Room for one control message with up to 8 bytes of data.
const CONTROL_SLOT_BYTES: usize = CONTROL_HEADER_BYTES + 8;
/// Room for the control messages of one call: two are asked for; the rest is reserve for the kernel's padding.
const CONTROL_BYTES: usize = 4 * CONTROL_SLOT_BYTES;

/// What one receive call returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes written to the buffer.
    pub(crate) len_bytes: usize,
    /// Address that sent them; IPv4 senders in IPv4 form.
    pub(crate) sender: IpAddr,
    /// The buffer holds several datagrams of this length, the last possibly shorter; `None` if it holds one.
    pub(crate) segment_bytes: Option<usize>,
    /// DSCP and ECN byte of the IP header.
    pub(crate) traffic_class: u8,
    /// The datagrams were longer than the buffer.
    pub(crate) truncated: bool,
}

/// Sends `parts` as one datagram to `to`, or, with `segment_bytes`, as datagrams of that length of which only the last may be
/// shorter. `traffic_class` is the DSCP and ECN byte of the IP header; 0 is the default and costs nothing.
pub(crate) fn send(
    socket: &Socket,
    to: &SockAddr,
    parts: &[IoSlice<'_>],
    segment_bytes: Option<u16>,
    traffic_class: u8,
) -> io::Result<usize> {
    let mut control = ControlWriter::new();
    if let Some(size) = segment_bytes {
        control.push(libc::SOL_UDP, UDP_SEGMENT, &size.to_ne_bytes());
    }
    if traffic_class != 0 {
        let value = libc::c_int::from(traffic_class).to_ne_bytes();
        if to.is_ipv4() {
            control.push(libc::IPPROTO_IP, libc::IP_TOS, &value);
        } else {
            control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value);
        }
    }
    let message = MsgHdr::new().with_addr(to).with_buffers(parts);
    if control.len == 0 {
        socket.sendmsg(&message, libc::MSG_NOSIGNAL)
    } else {
        socket.sendmsg(&message.with_control(control.bytes()), libc::MSG_NOSIGNAL)
    }
}

/// recvmsg(2): receives one datagram, or several of one flow if the socket has UDP_GRO. Needed because the safe wrappers take
/// uninitialized buffers only, which a reused frame is not, or allocate for control messages.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0u64; CONTROL_BYTES.div_ceil(8)];
    let (len_bytes, sender, truncated, filled) = receive_message(socket, buffer, &mut control)?;
    let mut received = Received { len_bytes, sender: sender.ip(), segment_bytes: None, traffic_class: 0, truncated };
    for (level, kind, data) in ControlMessages(&as_bytes(&control)[..filled]) {
        match (level, kind, data) {
            (libc::SOL_UDP, UDP_GRO, &[a, b, c, d, ..]) => {
                let size = i32::from_ne_bytes([a, b, c, d]);
                received.segment_bytes = usize::try_from(size).ok().filter(|&size| size > 0);
            }
            // IP_TOS comes as one byte (IP_RECVTOS names the option, IP_TOS the message), IPV6_TCLASS as an `int`.
            (libc::IPPROTO_IP, libc::IP_TOS, &[class, ..]) => received.traffic_class = class,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &[a, b, c, d, ..]) => {
                received.traffic_class = i32::from_ne_bytes([a, b, c, d]) as u8;
            }
            _ => {}
        }
    }
    Ok(received)
}

/// A datagram, and at which address of this machine it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Bytes written to the buffer.
    pub(crate) len_bytes: usize,
    /// Who sent it.
    pub(crate) sender: SocketAddr,
    /// The address that it was sent to.
    pub(crate) address: IpAddr,
}

/// Receives one datagram of a socket that [`tell_destination`] was called for; `None` if it was longer than the buffer or the
/// kernel did not say where it arrived.
pub(crate) fn receive_asked(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<Asked>> {
    let mut control = [0u64; CONTROL_BYTES.div_ceil(8)];
    let (len_bytes, sender, truncated, filled) = receive_message(socket, buffer, &mut control)?;
    let address = ControlMessages(&as_bytes(&control)[..filled]).find_map(|message| match message {
        // `in_pktinfo`: interface, local address, destination of the header. `in6_pktinfo`: address, interface.
        (libc::IPPROTO_IP, libc::IP_PKTINFO, data) => {
            let octets: [u8; 4] = data.get(8..12)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data) => {
            let octets: [u8; 16] = data.get(..16)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        _ => None,
    });
    Ok(address.filter(|_| !truncated).map(|address| Asked { len_bytes, sender, address }))
}

/// Sends a datagram that comes from `from`, one of this machine's addresses, whatever the socket is bound to.
pub(crate) fn send_from(socket: &Socket, from: IpAddr, to: SocketAddr, datagram: &[u8]) -> io::Result<usize> {
    let mut control = ControlWriter::new();
    match from {
        IpAddr::V4(from) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&from.octets());
            control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        IpAddr::V6(from) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&from.octets());
            control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
    }
    let (to, parts) = (SockAddr::from(to), [IoSlice::new(datagram)]);
    let message = MsgHdr::new().with_addr(&to).with_buffers(&parts).with_control(control.bytes());
    socket.sendmsg(&message, libc::MSG_NOSIGNAL)
}

/// Has the kernel say at which of the machine's addresses a datagram arrived.
pub(crate) fn tell_destination(socket: &Socket, ipv4: bool) -> io::Result<()> {
    if ipv4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    }
}

/// recvmsg(2): bytes received, sender, whether the buffer was too short, bytes of control messages.
fn receive_message(
    socket: &Socket,
    buffer: &mut [u8],
    control: &mut [u64],
) -> io::Result<(usize, SocketAddr, bool, usize)> {
    // SAFETY: `sockaddr_storage` and `msghdr` consist of integers and pointers; all zeroes (null pointers, length 0) is a
    // valid value of both.
    let (mut address, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { mem::zeroed() };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen = mem::size_of_val(&address) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(control) as _;
    // SAFETY: the descriptor is open for the duration of the call. Every pointer in `message` refers to a local, to `buffer` or
    // to `control`, is writable for the length given beside it, and outlives the call; the kernel keeps none of them.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast, reason = "the field is 32 bits wide in musl")]
    let filled = (message.msg_controllen as usize).min(mem::size_of_val(control));
    Ok((len as usize, sender(&address), message.msg_flags & libc::MSG_TRUNC != 0, filled))
}

/// Receives consecutive datagrams of one flow in one call, where the kernel can.
pub(crate) fn enable_gro(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, UDP_GRO, 1)
}

/// Never lets the kernel fragment what is sent: a datagram above the known path MTU is refused with `EMSGSIZE`.
pub(crate) fn forbid_fragmentation(socket: &Socket, ipv4: bool) -> io::Result<()> {
    if ipv4 {
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    } else {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1)
    }
}

/// Asks for a receive buffer of `bytes`: beyond the system's limit if this process may, else up to it.
pub(crate) fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    match set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes as libc::c_int) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => socket.set_recv_buffer_size(bytes),
        other => other,
    }
}

/// Asks for a send buffer of `bytes`: beyond the system's limit if this process may, else up to it.
pub(crate) fn set_send_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    match set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes as libc::c_int) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => socket.set_send_buffer_size(bytes),
        other => other,
    }
}

/// The path MTU that the kernel knows for the connected `socket`, in bytes of the outer IP packet.
pub(crate) fn path_mtu(socket: &Socket, ipv4: bool) -> io::Result<u32> {
    let mtu = if ipv4 {
        get_option(socket, libc::IPPROTO_IP, libc::IP_MTU)?
    } else {
        get_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU)?
    };
    Ok(mtu.unsigned_abs())
}

/// getsockopt(2) for options that are an `int`. Needed for the option above, which socket2 does not offer.
fn get_option(socket: &Socket, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the descriptor is open for the duration of the call, and the pointers refer to one `int` and to its length.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// setsockopt(2) for options that are an `int`. Needed for the options above, which socket2 does not offer.
pub(super) fn set_option(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call, and the pointer refers to one `int`, whose length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The address that recvmsg filled in. Needed because the kernel gives it as an untyped `sockaddr_storage`.
fn sender(address: &libc::sockaddr_storage) -> SocketAddr {
    match libc::c_int::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is larger and as strictly aligned, holds a `sockaddr_in`.
            let v4 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            SocketAddr::new(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into(), u16::from_be(v4.sin_port))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, for a `sockaddr_in6`.
            let v6 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in6>() };
            let address = IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)).to_canonical();
            SocketAddr::new(address, u16::from_be(v6.sin6_port))
        }
        _ => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    }
}

/// The bytes of the control buffer, which is made of `u64`s so that it is aligned as `cmsghdr` asks.
fn as_bytes(words: &[u64]) -> &[u8] {
    // SAFETY: `u64`s have no padding, any byte is valid, and the length in bytes is that of the array.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), mem::size_of_val(words)) }
}

/// The control messages that a receive filled in: level, kind, data.
struct ControlMessages<'a>(&'a [u8]);

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (libc::c_int, libc::c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.0.split_at_checked(CONTROL_HEADER_BYTES)?;
        let word = |at: usize| i32::from_ne_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (len, _) = header.split_at(CONTROL_ALIGN_BYTES);
        let len = usize::from_ne_bytes(len.try_into().expect("a size_t"));
        let data = len.checked_sub(CONTROL_HEADER_BYTES).and_then(|data_len| rest.get(..data_len))?;
        self.0 = rest.get(data.len().next_multiple_of(CONTROL_ALIGN_BYTES)..).unwrap_or(&[]);
        Some((word(CONTROL_ALIGN_BYTES), word(CONTROL_ALIGN_BYTES + 4), data))
    }
}

/// Control messages of one send call, as the bytes that the kernel reads.
struct ControlWriter {
    bytes: [u8; 2 * CONTROL_SLOT_BYTES],
    len: usize,
}

impl ControlWriter {
    fn new() -> ControlWriter {
        ControlWriter { bytes: [0; 2 * CONTROL_SLOT_BYTES], len: 0 }
    }

    /// Appends one message; two fit of at most 8 bytes of data, or one of at most 24.
    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let slot = &mut self.bytes[self.len..];
        slot[..CONTROL_ALIGN_BYTES].copy_from_slice(&(CONTROL_HEADER_BYTES + data.len()).to_ne_bytes());
        slot[CONTROL_ALIGN_BYTES..CONTROL_ALIGN_BYTES + 4].copy_from_slice(&level.to_ne_bytes());
        slot[CONTROL_ALIGN_BYTES + 4..CONTROL_HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
        slot[CONTROL_HEADER_BYTES..CONTROL_HEADER_BYTES + data.len()].copy_from_slice(data);
        self.len += CONTROL_HEADER_BYTES + data.len().next_multiple_of(CONTROL_ALIGN_BYTES);
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
