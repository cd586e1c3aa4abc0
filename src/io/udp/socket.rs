//! The UDP socket with batched system calls: each datagram has the local address it arrived at or is sent from.
//!
//! libc is called directly: `recvmmsg` and `sendmmsg` move a batch in one call, PKTINFO carries the local address of a
//! wildcard socket, and `UDP_SEGMENT` sends a run of equal datagrams as one message (udp(7)). On systems without the
//! batch calls, `recvmsg` and `sendmsg` are called for each message. All `unsafe` code of the project is in this
//! module.
#![allow(unsafe_code, reason = "system calls that neither std nor mio offer")]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket as Options, Type};

use crate::media::transport::datagrams::Segments;

/// Maximum datagrams received in one call. More delay the first of the batch, fewer cost more calls.
const RECEIVE_BATCH: usize = 64;

/// Minimum datagrams that the next call has room for; it doubles when a call used all of its room. Preparing room for
/// 64 costs as much as receiving one.
const SMALL_BATCH: usize = 8;

/// Largest datagram received whole. Media stays below the MTU; larger datagrams are discarded.
const DATAGRAM_BYTES: usize = 2048;

/// Maximum messages sent in one call.
pub const SEND_BATCH: usize = 64;

/// Requested size of the socket buffers in bytes; the system may grant less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Size of one message's control data in bytes: PKTINFO of either family and a segment size, with alignment.
const CONTROL_BYTES: usize = 128;

/// A bound socket, for one address family or both.
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    receive: Box<Receive>,
    /// Datagrams that the next receive has room for.
    room: usize,
    /// Whether the batch calls are used.
    pub batches: bool,
    /// A simulated error for sends to this address, or to all if `None`.
    #[cfg(all(test, target_os = "linux"))]
    pub refusal: Option<(Option<SocketAddr>, libc::c_int)>,
}

/// One message of a batch, laid out as `mmsghdr`.
#[repr(C)]
struct Message {
    head: libc::msghdr,
    length: libc::c_uint,
}

/// The buffers of one receive batch.
struct Receive {
    payloads: [[u8; DATAGRAM_BYTES]; RECEIVE_BATCH],
    controls: [Control; RECEIVE_BATCH],
    names: [libc::sockaddr_storage; RECEIVE_BATCH],
}

/// Control data with the alignment of `cmsghdr`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// One received datagram.
pub struct Datagram<'a> {
    /// The sender's address.
    pub source: SocketAddr,
    /// The local address it arrived at.
    pub destination: SocketAddr,
    /// The payload.
    pub contents: &'a [u8],
}

impl Socket {
    /// Binds a socket. The IPv6 wildcard receives IPv4 too.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Options::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        // Best effort: the system caps the sizes at its own limits.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        let (level, name) = if addr.is_ipv4() {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        };
        set_option(&socket, level, name, 1)?;
        socket.bind(&addr.into())?;
        let socket: std::net::UdpSocket = socket.into();
        let local = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket);
        Ok(Self {
            socket,
            local,
            receive: Receive::new(),
            room: SMALL_BATCH,
            batches: cfg!(target_os = "linux"),
            #[cfg(all(test, target_os = "linux"))]
            refusal: None,
        })
    }

    /// Returns the bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the socket, for registration with the poll.
    pub fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Returns true if the kernel can split a run into datagrams (Linux 4.18).
    pub fn can_segment(&self) -> bool {
        can_segment(&self.socket)
    }

    /// Makes the kernel refuse runs, as it does on a device without checksum offload.
    #[cfg(all(test, target_os = "linux"))]
    pub fn refuse_runs(&self) {
        set_option(&self.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("Linux has it");
    }

    /// Returns the runs before the first one that `refusal` applies to, or its error if that is the first, as
    /// `sendmmsg` would.
    #[cfg(all(test, target_os = "linux"))]
    fn unrefused<'a>(
        &self,
        runs: impl Iterator<Item = Segments<'a>>,
    ) -> io::Result<impl Iterator<Item = Segments<'a>>> {
        let is_refused = |run: &Segments<'_>| {
            self.refusal.is_some_and(|(remote, _)| remote.is_none_or(|remote| remote == run.route.remote))
        };
        let runs: Vec<_> = runs.take_while(|run| !is_refused(run)).collect();
        match self.refusal {
            Some((_, error)) if runs.is_empty() => Err(io::Error::from_raw_os_error(error)),
            _ => Ok(runs.into_iter()),
        }
    }

    /// Receives at most one batch and calls `handle` with each datagram. Returns true if there may be more.
    ///
    /// # Errors
    /// Fails if the socket is broken. Errors of earlier sends, which ICMP reports here, are ignored.
    pub fn receive(&mut self, mut handle: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        let receive = &mut *self.receive;
        let mut messages = [const { MaybeUninit::<Message>::uninit() }; RECEIVE_BATCH];
        let mut slices = [const { MaybeUninit::<libc::iovec>::uninit() }; RECEIVE_BATCH];
        for index in 0..self.room {
            let slice = libc::iovec { iov_base: receive.payloads[index].as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES };
            // SAFETY: all zeroes is a valid value of this C structure.
            let head = &mut messages[index].write(unsafe { zeroed() }).head;
            head.msg_name = (&raw mut receive.names[index]).cast();
            head.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            head.msg_iov = slices[index].write(slice);
            head.msg_iovlen = 1;
            head.msg_control = receive.controls[index].0.as_mut_ptr().cast();
            head.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every pointer in `messages` points into `receive` or `slices`, which outlive the call, with the
        // lengths given, and the first `self.room` messages were written.
        let (messages, received) = unsafe {
            let messages = written(&mut messages, self.room);
            let received = receive_messages(&self.socket, messages, self.batches);
            (messages, received)
        };
        let received = match received {
            Ok(received) => received,
            Err(error) => return may_be_more(&error).ok_or(error),
        };
        for (index, message) in messages[..received].iter().enumerate() {
            let truncated = message.head.msg_flags & libc::MSG_TRUNC != 0;
            // SAFETY: the kernel filled the header whose control buffer is alive.
            let local = unsafe { local_address(&message.head) };
            let source = to_addr(&receive.names[index]);
            // Drop datagrams from port 0, which cannot be answered.
            let (Some(source), false) = (source.filter(|source| source.port() != 0), truncated) else {
                continue;
            };
            let destination = SocketAddr::new(local.unwrap_or(self.local.ip()).to_canonical(), self.local.port());
            handle(Datagram { source, destination, contents: &receive.payloads[index][..message.length as usize] });
        }
        let was_full = received == self.room;
        self.room = if was_full { (2 * self.room).min(RECEIVE_BATCH) } else { received.max(SMALL_BATCH) };
        Ok(was_full)
    }

    /// Sends up to `SEND_BATCH` runs, which must be single datagrams if the kernel can't segment. Returns how many were
    /// sent.
    ///
    /// # Errors
    /// Fails if the first run could not be sent.
    pub fn send<'a>(&self, runs: impl Iterator<Item = Segments<'a>>) -> io::Result<usize> {
        #[cfg(all(test, target_os = "linux"))]
        let runs = self.unrefused(runs)?;
        let mut messages = [const { MaybeUninit::<Message>::uninit() }; SEND_BATCH];
        let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; SEND_BATCH];
        let mut slices = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_BATCH];
        let mut controls = [const { MaybeUninit::<Control>::uninit() }; SEND_BATCH];
        let v6_socket = self.local.is_ipv6();
        let mut count = 0;
        for (index, run) in runs.take(SEND_BATCH).enumerate() {
            let slice = libc::iovec { iov_base: run.bytes.as_ptr().cast_mut().cast(), iov_len: run.bytes.len() };
            // SAFETY: all zeroes is a valid value of this C structure.
            let head = &mut messages[index].write(unsafe { zeroed() }).head;
            head.msg_namelen = from_addr(run.route.remote, v6_socket, &mut names[index]);
            head.msg_name = names[index].as_mut_ptr().cast();
            head.msg_iov = slices[index].write(slice);
            head.msg_iovlen = 1;
            head.msg_control = controls[index].write(Control([0; CONTROL_BYTES])).0.as_mut_ptr().cast();
            head.msg_controllen = CONTROL_BYTES as _;
            let segment = (run.bytes.len() > run.segment).then_some(run.segment as u16);
            // SAFETY: the control buffer is `CONTROL_BYTES` long, which holds both messages.
            unsafe { write_control(head, run.route.local.ip(), v6_socket, segment) };
            count = index + 1;
        }
        // SAFETY: every pointer in `messages` points into the arrays above or the runs, which outlive the call; the
        // kernel only reads through them, and the first `count` messages were written.
        unsafe { send_messages(&self.socket, written(&mut messages, count), self.batches) }
    }
}

impl Receive {
    fn new() -> Box<Self> {
        let mut memory = Box::<Self>::new_uninit();
        // SAFETY: all zeroes is a valid value of arrays of bytes and of `sockaddr_storage`, and every byte is
        // written.
        unsafe {
            ptr::write_bytes(memory.as_mut_ptr(), 0, 1);
            memory.assume_init()
        }
    }
}

/// Returns whether there may be more to receive after an error, or `None` if the socket is broken.
fn may_be_more(error: &io::Error) -> Option<bool> {
    match error.raw_os_error()? {
        // Out of memory: the datagrams stay in the socket, and an immediate retry would fail again.
        libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS => Some(false),
        // A signal, or an ICMP error of an earlier send. The call has cleared it.
        libc::EINTR
        | libc::ECONNREFUSED
        | libc::EHOSTUNREACH
        | libc::EHOSTDOWN
        | libc::ENETUNREACH
        | libc::ENETDOWN
        | libc::EMSGSIZE
        | libc::EPROTO
        | libc::ENOPROTOOPT => Some(true),
        _ => None,
    }
}

/// Returns the first `count` messages.
///
/// # Safety
/// They were written.
unsafe fn written(messages: &mut [MaybeUninit<Message>], count: usize) -> &mut [Message] {
    // SAFETY: the caller's promise; `MaybeUninit<T>` has the layout of `T`.
    unsafe { &mut *(ptr::from_mut(&mut messages[..count]) as *mut [Message]) }
}

/// Receives into the messages and returns how many were received.
///
/// # Safety
/// The pointers in the heads are valid for the stated lengths.
unsafe fn receive_messages(socket: &UdpSocket, messages: &mut [Message], batches: bool) -> io::Result<usize> {
    let fd = socket.as_raw_fd();
    #[cfg(target_os = "linux")]
    if batches {
        let head = messages.as_mut_ptr().cast();
        // SAFETY: the caller's promise; `Message` is laid out as `mmsghdr`.
        let received =
            unsafe { libc::recvmmsg(fd, head, messages.len() as _, libc::MSG_DONTWAIT as _, ptr::null_mut()) };
        return if received < 0 { Err(io::Error::last_os_error()) } else { Ok(received as usize) };
    }
    let _ = batches;
    one_by_one(messages, |message| {
        // SAFETY: the caller's promise.
        unsafe { libc::recvmsg(fd, &raw mut message.head, libc::MSG_DONTWAIT) }
    })
}

/// Sends the messages and returns how many were sent.
///
/// # Safety
/// The pointers in the heads are valid for the stated lengths.
unsafe fn send_messages(socket: &UdpSocket, messages: &mut [Message], batches: bool) -> io::Result<usize> {
    let fd = socket.as_raw_fd();
    #[cfg(target_os = "linux")]
    if batches {
        let head = messages.as_mut_ptr().cast();
        // SAFETY: the caller's promise; `Message` is laid out as `mmsghdr`.
        let sent = unsafe { libc::sendmmsg(fd, head, messages.len() as _, libc::MSG_DONTWAIT as _) };
        return if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) };
    }
    let _ = batches;
    one_by_one(messages, |message| {
        // SAFETY: the caller's promise.
        unsafe { libc::sendmsg(fd, &raw const message.head, libc::MSG_DONTWAIT) }
    })
}

/// Emulates a batch call: stops at the first failure, which is returned only if no message succeeded before it.
fn one_by_one(messages: &mut [Message], mut call: impl FnMut(&mut Message) -> libc::ssize_t) -> io::Result<usize> {
    for (index, message) in messages.iter_mut().enumerate() {
        let length = call(message);
        if length < 0 {
            let error = io::Error::last_os_error();
            return if index == 0 { Err(error) } else { Ok(index) };
        }
        message.length = length as libc::c_uint;
    }
    Ok(messages.len())
}

fn set_option(socket: &impl AsRawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_os = "linux")]
fn can_segment(socket: &impl AsRawFd) -> bool {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers are to `value` and its length.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw mut value).cast(), &raw mut length)
    };
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn can_segment(_: &impl AsRawFd) -> bool {
    false
}

/// Returns the local address in a received message's control data.
///
/// # Safety
/// The header was filled by `recvmmsg` and its control buffer is alive.
unsafe fn local_address(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the caller's promise; CMSG_* stay within `msg_controllen`.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => message = libc::CMSG_NXTHDR(header, message),
            }
        }
        None
    }
}

/// Writes the source address and the segment size into the control data.
///
/// # Safety
/// `msg_control` points to `msg_controllen` zeroed bytes, enough for both messages.
unsafe fn write_control(header: &mut libc::msghdr, source: IpAddr, v6_socket: bool, segment: Option<u16>) {
    // SAFETY: the caller's promise; CMSG_NXTHDR stays within the buffer, and each write is within the space
    // that CMSG_LEN states.
    unsafe {
        let mut used = 0;
        let mut message = libc::CMSG_FIRSTHDR(header);
        if v6_socket {
            let mut info: libc::in6_pktinfo = zeroed();
            info.ipi6_addr.s6_addr = to_v6(source).octets();
            used += put(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        } else if let IpAddr::V4(source) = source {
            let mut info: libc::in_pktinfo = zeroed();
            info.ipi_spec_dst.s_addr = u32::from(source).to_be();
            used += put(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        #[cfg(target_os = "linux")]
        if let Some(segment) = segment {
            if used > 0 {
                message = libc::CMSG_NXTHDR(header, message);
            }
            used += put(message, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        header.msg_controllen = used as _;
    }
}

/// Fills one control message and returns the space it takes.
///
/// # Safety
/// `message` points into a zeroed control buffer with room for it.
unsafe fn put<T>(message: *mut libc::cmsghdr, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(size_of::<T>() as libc::c_uint) as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
        libc::CMSG_SPACE(size_of::<T>() as libc::c_uint) as usize
    }
}

fn to_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Writes an address in the socket's family (IPv4 as IPv4-mapped IPv6 on a dual-stack socket).
fn from_addr(addr: SocketAddr, v6_socket: bool, storage: &mut MaybeUninit<libc::sockaddr_storage>) -> libc::socklen_t {
    let addr = if v6_socket {
        let (flow, scope) = match addr {
            SocketAddr::V6(v6) => (v6.flowinfo(), v6.scope_id()),
            SocketAddr::V4(_) => (0, 0),
        };
        SocketAddr::V6(SocketAddrV6::new(to_v6(addr.ip()), addr.port(), flow, scope))
    } else {
        addr
    };
    let addr = socket2::SockAddr::from(addr);
    // SAFETY: `SockAddr` keeps a whole `sockaddr_storage`.
    unsafe { ptr::copy_nonoverlapping(addr.as_ptr().cast::<u8>(), storage.as_mut_ptr().cast(), addr.len() as usize) };
    addr.len()
}

/// Reads an address; IPv4-mapped IPv6 becomes IPv4.
fn to_addr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let storage = ptr::from_ref(storage);
    // SAFETY: the kernel wrote a `sockaddr_in` or `sockaddr_in6`, as the family says.
    unsafe {
        match libc::c_int::from((*storage).ss_family) {
            libc::AF_INET => {
                let addr = &*storage.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(addr.sin_port)).into())
            }
            libc::AF_INET6 => {
                let addr = &*storage.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
                let port = u16::from_be(addr.sin6_port);
                Some(match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddrV4::new(v4, port).into(),
                    None => SocketAddrV6::new(ip, port, 0, addr.sin6_scope_id).into(),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_datagram_and_temporary_errors_do_not_end_the_socket() {
        let cases = [
            (libc::EAGAIN, Some(false)),
            (libc::ENOMEM, Some(false)),
            (libc::EINTR, Some(true)),
            (libc::ECONNREFUSED, Some(true)),
            (libc::EPROTO, Some(true)),
            (libc::ENOSYS, None),
            (libc::EBADF, None),
        ];
        for (code, expected) in cases {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(may_be_more(&error), expected, "{error}");
        }
    }
}
