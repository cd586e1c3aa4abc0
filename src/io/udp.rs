//! The UDP socket: datagrams in batches both ways, each with the local address it came to or leaves from.
//!
//! libc is called directly: `recvmmsg` and `sendmmsg` move a batch in one call, PKTINFO carries the local address
//! of a socket that is bound to a wildcard, and `UDP_SEGMENT` sends a run of equal datagrams as one (udp(7)).
//! All `unsafe` of the project is here.
#![allow(unsafe_code, reason = "system calls that neither std nor mio offer")]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

use crate::media::profile::VIDEO_PAYLOAD_TYPES;
use crate::server::Transmit;

/// Datagrams taken in one call. More delay the first of the batch, fewer cost more calls.
const RECEIVE_BATCH: usize = 64;

/// Largest datagram that is taken whole; media is below the MTU, and larger ones are nobody's.
const DATAGRAM_BYTES: usize = 2048;

/// Messages of one `sendmmsg`.
const SEND_BATCH: usize = 64;

/// The kernel's limits for one run: segments, and bytes of payload.
const RUN_SEGMENTS: usize = 64;
const RUN_BYTES: usize = 65_000;

/// Datagrams kept while the socket is full, after each turn. Above it the oldest go, video first: late video is
/// worth nothing, and a gap in it is repaired or hidden, one in sound is heard. More add delay, fewer lose bursts.
const QUEUE: usize = 2_048;

/// Datagrams of one turn. A batch of 64 to a thousand subscribers fits; more than that is dropped as it comes.
const QUEUE_OF_A_TURN: usize = 100_000;

/// Runs refused in a row after which the kernel is believed not to segment.
const REFUSED_RUNS: u32 = 64;

/// Socket buffers that are asked for; the system may give less.
const SOCKET_BUFFER: usize = 4 << 20;

/// Control data of one message: PKTINFO of either family and a segment size, with room for alignment.
const CONTROL_BYTES: usize = 128;

/// One bound socket, of one family or both.
pub struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    receive: Box<Receive>,
    queue: Vec<Transmit>,
    segmentation: bool,
    /// Sends in a row that went through only one by one.
    refused_runs: u32,
    /// What was counted.
    pub counters: Counters,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// System calls that sent something.
    pub send_calls: u64,
    /// Messages sent: runs of one datagram or more.
    pub runs: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams dropped because the queue was full or the system refused them.
    pub dropped: u64,
}

/// The memory of one receive batch.
struct Receive {
    payloads: [[u8; DATAGRAM_BYTES]; RECEIVE_BATCH],
    controls: [Control; RECEIVE_BATCH],
    names: [libc::sockaddr_storage; RECEIVE_BATCH],
}

/// Control data, aligned as `cmsghdr` needs it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// One received datagram.
pub struct Datagram<'a> {
    /// Where from.
    pub source: SocketAddr,
    /// The local address it came to.
    pub destination: SocketAddr,
    /// Payload.
    pub contents: &'a [u8],
}

impl Udp {
    /// Binds; an IPv6 wildcard takes IPv4 too.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        // The system caps these at its own limits, which is no error.
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
        // Reading the option tells whether the kernel knows it (Linux 4.18).
        let segmentation = segment_size(&socket).is_ok();
        Ok(Self {
            socket: UdpSocket::from_std(socket),
            local,
            receive: Receive::new(),
            queue: Vec::new(),
            segmentation,
            refused_runs: 0,
            counters: Counters::default(),
        })
    }

    /// The bound address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// For registration with the poll.
    pub fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Takes at most one batch and hands each datagram out. Says whether there may be more.
    ///
    /// # Errors
    /// Those that concern the socket as a whole; what one datagram caused (ICMP errors) is swallowed.
    pub fn receive(&mut self, mut handle: impl FnMut(Datagram<'_>)) -> io::Result<bool> {
        let receive = &mut *self.receive;
        // SAFETY: all zeroes is a valid value of these C structures.
        let (mut headers, mut slices): ([libc::mmsghdr; RECEIVE_BATCH], [libc::iovec; RECEIVE_BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        for index in 0..RECEIVE_BATCH {
            slices[index] =
                libc::iovec { iov_base: receive.payloads[index].as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut receive.names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut slices[index];
            header.msg_iovlen = 1;
            header.msg_control = receive.controls[index].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every pointer in `headers` points into `receive` or `slices`, which outlive the call, with
        // the lengths given.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                RECEIVE_BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        if received < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EAGAIN) => Ok(false),
                // Left behind by an earlier send, or a signal: the next call goes on.
                Some(libc::EINTR | libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH) => Ok(true),
                _ => Err(error),
            };
        }
        let received = received as usize;
        for (index, header) in headers[..received].iter().enumerate() {
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            // SAFETY: the kernel filled the header whose control buffer is alive.
            let local = unsafe { local_address(&header.msg_hdr) };
            let source = to_addr(&receive.names[index]);
            // Port 0 can't be answered.
            let (Some(source), false) = (source.filter(|source| source.port() != 0), truncated) else {
                continue;
            };
            let destination = SocketAddr::new(local.unwrap_or(self.local.ip()).to_canonical(), self.local.port());
            handle(Datagram { source, destination, contents: &receive.payloads[index][..header.msg_len as usize] });
        }
        Ok(received == RECEIVE_BATCH)
    }

    /// Queues a datagram; it leaves with the next `flush`.
    pub fn send(&mut self, transmit: Transmit) {
        if self.queue.len() < QUEUE_OF_A_TURN {
            self.queue.push(transmit);
        } else {
            self.counters.dropped += 1;
        }
    }

    /// Sends what is queued. Says whether everything left; if not, the socket is full, and the poll says when to
    /// go on.
    pub fn flush(&mut self) -> bool {
        let (mut start, mut plain) = (0, false);
        while start < self.queue.len() {
            match self.send_some(start, plain) {
                Ok(sent) => {
                    start += sent;
                    // A device that can't segment says so only now, by refusing what it takes piece by piece
                    // (udp(7)). One such run may be its destination's fault; many in a row are not.
                    self.refused_runs = if plain { self.refused_runs + 1 } else { 0 };
                    self.segmentation &= self.refused_runs < REFUSED_RUNS;
                    plain = false;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::EINTR) => {}
                    // One destination's fault: that datagram is lost, as the network may lose any.
                    _ if plain => {
                        self.counters.dropped += 1;
                        start += 1;
                        plain = false;
                    }
                    // The run as a whole was refused: perhaps its first datagram can leave alone.
                    _ => plain = true,
                },
            }
        }
        self.queue.drain(..start);
        self.shed();
        self.queue.is_empty()
    }

    /// Drops what is above the bound of the queue; to be called in each turn in which nothing is sent.
    pub fn shed(&mut self) {
        let excess = self.queue.len().saturating_sub(QUEUE);
        if excess > 0 {
            self.counters.dropped += excess as u64;
            shed(&mut self.queue, excess);
        }
    }

    /// One system call: runs of equal datagrams to one destination, from `start`; `plain` sends the first alone.
    /// Returns how many left.
    fn send_some(&mut self, start: usize, plain: bool) -> io::Result<usize> {
        // SAFETY: all zeroes is a valid value of these C structures.
        let (mut headers, mut names): ([libc::mmsghdr; SEND_BATCH], [libc::sockaddr_storage; SEND_BATCH]) =
            unsafe { (zeroed(), zeroed()) };
        let mut controls = [Control([0; CONTROL_BYTES]); SEND_BATCH];
        let mut slices = [const { zero_slice() }; SEND_BATCH * 8];
        let mut lengths = [0; SEND_BATCH];
        let (mut messages, mut used_slices, mut next) = (0, 0, start);
        let most = if plain { 1 } else { SEND_BATCH };
        while messages < most && next < self.queue.len() {
            let room = (slices.len() - used_slices).min(RUN_SEGMENTS);
            let length = if self.segmentation && !plain { run_length(&self.queue[next..], room) } else { room.min(1) };
            if length == 0 {
                break;
            }
            let run = &self.queue[next..next + length];
            for transmit in run {
                slices[used_slices + lengths[messages]] = libc::iovec {
                    iov_base: transmit.contents.as_ptr().cast_mut().cast(),
                    iov_len: transmit.contents.len(),
                };
                lengths[messages] += 1;
            }
            let segment = (length > 1).then(|| run[0].contents.len() as u16);
            let header = &mut headers[messages].msg_hdr;
            header.msg_namelen = from_addr(run[0].destination, self.local.is_ipv6(), &mut names[messages]);
            header.msg_name = (&raw mut names[messages]).cast();
            header.msg_iov = &raw mut slices[used_slices];
            header.msg_iovlen = length as _;
            header.msg_control = controls[messages].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
            // SAFETY: the control buffer is `CONTROL_BYTES` long, which holds both messages.
            unsafe { write_control(header, run[0].source.ip(), self.local.is_ipv6(), segment) };
            used_slices += length;
            next += length;
            messages += 1;
        }
        // SAFETY: every pointer in `headers` points into the arrays above or the queue, which outlive the call;
        // the kernel only reads through them.
        let sent = unsafe {
            libc::sendmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                messages as libc::c_uint,
                libc::MSG_DONTWAIT as _,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let datagrams = lengths[..sent as usize].iter().sum();
        self.counters.send_calls += 1;
        self.counters.runs += sent as u64;
        self.counters.sent += datagrams as u64;
        Ok(datagrams)
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

const fn zero_slice() -> libc::iovec {
    libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }
}

/// How many datagrams from the start of the queue can leave as one run: same way, equal size, the last may be
/// shorter.
fn run_length(queue: &[Transmit], room: usize) -> usize {
    let Some(first) = queue.first() else {
        return 0;
    };
    let size = first.contents.len();
    let mut length = 0;
    for transmit in queue.iter().take(room) {
        let same_way = transmit.destination == first.destination && transmit.source == first.source;
        if !same_way || transmit.contents.len() > size || (length + 1) * size > RUN_BYTES {
            break;
        }
        length += 1;
        if transmit.contents.len() < size {
            break;
        }
    }
    length.max(room.min(1))
}

/// Drops `excess` datagrams from the front: video, then whatever there is.
fn shed(queue: &mut Vec<Transmit>, excess: usize) {
    let mut left = excess;
    queue.retain(|transmit| {
        let drops = left > 0 && is_video(&transmit.contents);
        left -= usize::from(drops);
        !drops
    });
    queue.drain(..left);
}

/// A video packet, by its RTP payload type (RFC 3550 section 5.1, RFC 5761 section 4); not RTCP, STUN or DTLS.
fn is_video(contents: &[u8]) -> bool {
    match contents {
        [first, second, ..] => first >> 6 == 2 && VIDEO_PAYLOAD_TYPES.contains(&(second & 0x7f)),
        _ => false,
    }
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

fn segment_size(socket: &impl AsRawFd) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointers are to `value` and its length.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// The local address in a received message's control data.
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

/// Writes where the message leaves from, and the size of its segments.
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
        if let Some(segment) = segment {
            message = libc::CMSG_NXTHDR(header, message);
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

/// Writes an address as the socket's family has it (IPv4 as mapped IPv6 on a dual-stack socket).
fn from_addr(addr: SocketAddr, v6_socket: bool, storage: &mut libc::sockaddr_storage) -> libc::socklen_t {
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
    unsafe { ptr::copy_nonoverlapping(addr.as_ptr().cast::<u8>(), ptr::from_mut(storage).cast(), addr.len() as usize) };
    addr.len()
}

/// Reads an address; IPv4-mapped ones as IPv4.
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
    use std::time::{Duration, Instant};

    use super::*;

    fn transmit(source: SocketAddr, destination: SocketAddr, contents: Vec<u8>) -> Transmit {
        Transmit { proto: str0m::net::Protocol::Udp, source, destination, contents: contents.into() }
    }

    /// Receives until `count` datagrams have come.
    fn receive(udp: &mut Udp, count: usize) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut found = Vec::new();
        while found.len() < count && Instant::now() < deadline {
            udp.receive(|datagram| {
                found.push((datagram.source, datagram.destination, datagram.contents.to_vec()));
            })
            .unwrap();
        }
        found
    }

    /// Frames of video with sound between them, to two destinations.
    fn burst(source: SocketAddr, destinations: [SocketAddr; 2]) -> Vec<Transmit> {
        let mut burst = Vec::new();
        for destination in destinations {
            for (number, length) in [1100, 1100, 1100, 400, 90, 1100, 1100, 1200, 7].into_iter().enumerate() {
                burst.push(transmit(source, destination, vec![number as u8; length]));
            }
        }
        burst
    }

    #[test]
    fn bursts_arrive_whole_and_in_order_with_and_without_segmentation() {
        for segmentation in [true, false] {
            let bind = || Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let (mut sender, mut ann, mut bob) = (bind(), bind(), bind());
            sender.segmentation &= segmentation;
            let segmented = sender.segmentation;
            let local = sender.local_addr();
            let sent = burst(local, [ann.local_addr(), bob.local_addr()]);
            for transmit in burst(local, [ann.local_addr(), bob.local_addr()]) {
                sender.send(transmit);
            }
            assert!(sender.flush());
            for udp in [&mut ann, &mut bob] {
                let expected: Vec<_> =
                    sent.iter().filter(|transmit| transmit.destination == udp.local_addr()).collect();
                let came = receive(udp, expected.len());
                assert_eq!(came.len(), expected.len());
                for ((source, destination, contents), sent) in came.iter().zip(expected) {
                    assert_eq!((*source, *destination), (local, udp.local_addr()));
                    assert_eq!(contents[..], sent.contents[..]);
                }
            }
            assert_eq!(sender.counters.sent, 18);
            assert_eq!(sender.counters.send_calls, 1);
            assert_eq!(sender.counters.runs, if segmented { 8 } else { 18 });
        }
    }

    #[test]
    fn the_answer_leaves_from_the_address_that_was_asked() {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let mut server = Udp::bind(wildcard.parse().unwrap()).unwrap();
            let mut client = Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            for asked in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
                let asked = SocketAddr::new(asked.parse().unwrap(), server.local_addr().port());
                client.send(transmit(client.local_addr(), asked, vec![1; 20]));
                assert!(client.flush());
                let (source, destination, _) = receive(&mut server, 1).remove(0);
                assert_eq!((source, destination), (client.local_addr(), asked), "{wildcard}");
                for _ in 0..2 {
                    server.send(transmit(destination, source, vec![2; 20]));
                }
                assert!(server.flush());
                for (source, ..) in receive(&mut client, 2) {
                    assert_eq!(source, asked, "{wildcard}");
                }
            }
        }
    }

    #[test]
    fn one_bad_destination_harms_nobody_else() {
        let bind = || Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (mut sender, mut ann) = (bind(), bind());
        let local = sender.local_addr();
        sender.send(transmit(local, "127.0.0.1:0".parse().unwrap(), vec![0; 9]));
        sender.send(transmit("192.0.2.99:1".parse().unwrap(), ann.local_addr(), vec![0; 9]));
        sender.send(transmit(local, ann.local_addr(), vec![0; 70_000]));
        sender.send(transmit(local, ann.local_addr(), vec![7; 9]));
        assert!(sender.flush());
        assert_eq!(sender.counters.dropped, 3);
        assert_eq!(receive(&mut ann, 1)[0].2, [7; 9]);
        // Nor does it cost the others their runs.
        let segmented = sender.segmentation;
        for _ in 0..8 {
            sender.send(transmit(local, "127.0.0.1:0".parse().unwrap(), vec![0; 9]));
        }
        let before = sender.counters.runs;
        for _ in 0..4 {
            sender.send(transmit(local, ann.local_addr(), vec![7; 9]));
        }
        assert!(sender.flush());
        assert_eq!(receive(&mut ann, 4).len(), 4);
        assert_eq!(sender.counters.runs - before, if segmented { 1 } else { 4 });
    }

    #[test]
    fn old_video_goes_before_sound() {
        let addr: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let audio = [0x80, 111];
        let video = [0x80, 96];
        let rtcp = [0x80, 200];
        let queue = |kinds: &[[u8; 2]]| -> Vec<Transmit> {
            let numbered = kinds.iter().enumerate();
            numbered.map(|(n, kind)| transmit(addr, addr, vec![kind[0], kind[1], n as u8])).collect()
        };
        let numbers = |queue: &[Transmit]| queue.iter().map(|transmit| transmit.contents[2]).collect::<Vec<_>>();
        let mut mixed = queue(&[audio, video, rtcp, video, audio, video]);
        shed(&mut mixed, 2);
        assert_eq!(numbers(&mixed), [0, 2, 4, 5]);
        shed(&mut mixed, 2);
        assert_eq!(numbers(&mixed), [2, 4]);
    }
}
