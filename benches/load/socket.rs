//! A UDP socket for many participants: it has several local addresses, and the kernel's timestamp of each arrival.
//!
//! On loopback the timestamp is taken within the sender's system call, so that a late read by the generator does not add
//! to the delay.

use std::io::{self, ErrorKind, IoSlice};
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::SystemTime;

use socket2::{MsgHdr, SockAddr, SockRef};

/// Datagrams received in one call.
const BATCH: usize = 64;

/// Maximum size of a received datagram in bytes.
const DATAGRAM_BYTES: usize = 2_048;

/// Bytes of control data per message: local address, timestamp and number of drops.
const CONTROL_BYTES: usize = 128;

/// Requested size of the receive and send buffers in bytes; the system may grant less.
const BUFFER_BYTES: usize = 8 << 20;

/// One bound socket.
pub struct Socket {
    socket: UdpSocket,
    port: u16,
    memory: Box<Memory>,
    /// Datagrams dropped at its full receive buffer since it was created.
    pub overflowed: u32,
}

/// One received datagram.
pub struct Datagram<'a> {
    /// Source address.
    pub source: SocketAddr,
    /// Local destination address.
    pub destination: SocketAddr,
    /// Arrival time in nanoseconds, as in [`wall_nanos`].
    pub at: u64,
    /// Payload.
    pub contents: &'a [u8],
}

/// The buffers for one receive batch.
struct Memory {
    payloads: [[u8; DATAGRAM_BYTES]; BATCH],
    controls: [[u64; CONTROL_BYTES / 8]; BATCH],
    names: [libc::sockaddr_in; BATCH],
    slices: [libc::iovec; BATCH],
    headers: [libc::mmsghdr; BATCH],
}

impl Socket {
    /// Binds to any port of an address.
    ///
    /// # Errors
    /// The system refuses, mostly because too many files are open.
    pub fn bind(ip: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((ip, 0))?;
        let port = socket.local_addr()?.port();
        let _ = SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES);
        let _ = SockRef::from(&socket).set_send_buffer_size(BUFFER_BYTES);
        socket.set_nonblocking(true)?;
        set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL)?;
        Ok(Self { socket, port, memory: Memory::new(), overflowed: 0 })
    }

    /// Receives at most one batch and calls `handle` with each datagram. Returns true if there was one.
    pub fn receive(&mut self, mut handle: impl FnMut(Datagram<'_>)) -> bool {
        let memory = &mut *self.memory;
        // SAFETY: every pointer in `headers` points into `memory`, which is boxed and lives as long as the socket.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                memory.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        // An error here may stem from an earlier send, and is ignored.
        let Ok(received) = usize::try_from(received) else { return false };
        for index in 0..received {
            let header = &mut memory.headers[index];
            let name = memory.names[index];
            let source = SocketAddrV4::new(u32::from_be(name.sin_addr.s_addr).into(), u16::from_be(name.sin_port));
            // SAFETY: the kernel has just filled this header, whose control buffer is alive.
            let control = unsafe { read_control(&header.msg_hdr) };
            let length = header.msg_len as usize;
            (header.msg_hdr.msg_namelen, header.msg_hdr.msg_controllen) = (NAME_BYTES, CONTROL_BYTES as _);
            self.overflowed = control.overflowed.unwrap_or(self.overflowed);
            handle(Datagram {
                source: source.into(),
                destination: (control.local, self.port).into(),
                at: control.at,
                contents: &memory.payloads[index][..length],
            });
        }
        received > 0
    }

    /// Sends datagrams of one size, of which the last may be shorter, in one call.
    pub fn send(&self, source: Ipv4Addr, destination: SocketAddr, run: &[IoSlice<'_>]) {
        let mut control = Vec::with_capacity(64);
        let [a, b, c, d] = source.octets();
        put_control(&mut control, libc::IPPROTO_IP, libc::IP_PKTINFO, &[0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0]);
        if run.len() > 1 {
            put_control(&mut control, libc::SOL_UDP, libc::UDP_SEGMENT, &(run[0].len() as u16).to_ne_bytes());
        }
        let name = SockAddr::from(destination);
        let message = MsgHdr::new().with_addr(&name).with_buffers(run).with_control(&control);
        let socket = SockRef::from(&self.socket);
        while let Err(error) = socket.sendmsg(&message, 0) {
            match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                // The server has ended, so that an earlier datagram was refused.
                ErrorKind::ConnectionRefused => return,
                _ => panic!("{source} can't send to {destination}: {error}"),
            }
        }
    }

    /// Returns the bound port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the size of the receive buffer in bytes, as the kernel counts them.
    pub fn buffer_bytes(&self) -> usize {
        SockRef::from(&self.socket).recv_buffer_size().unwrap_or_default()
    }
}

/// Returns nanoseconds since 1970, on the clock of the kernel's arrival timestamps.
pub fn wall_nanos() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("the clock is set").as_nanos() as u64
}

const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

impl Memory {
    fn new() -> Box<Self> {
        // SAFETY: all zeroes is a valid value of arrays of numbers and of these C structures.
        let mut memory: Box<Self> = unsafe { Box::new(zeroed()) };
        let whole = &mut *memory;
        for index in 0..BATCH {
            whole.slices[index] =
                libc::iovec { iov_base: whole.payloads[index].as_mut_ptr().cast(), iov_len: DATAGRAM_BYTES };
            let header = &mut whole.headers[index].msg_hdr;
            header.msg_name = (&raw mut whole.names[index]).cast();
            header.msg_namelen = NAME_BYTES;
            header.msg_iov = &raw mut whole.slices[index];
            header.msg_iovlen = 1;
            header.msg_control = whole.controls[index].as_mut_ptr().cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        memory
    }
}

struct Received {
    local: Ipv4Addr,
    at: u64,
    overflowed: Option<u32>,
}

/// # Safety
/// The kernel must have written the header's control buffer.
unsafe fn read_control(header: &libc::msghdr) -> Received {
    let mut received = Received { local: Ipv4Addr::UNSPECIFIED, at: 0, overflowed: None };
    // SAFETY: the macros stay within the control buffer, and the kernel writes data of the type's size.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    received.local = u32::from_be(info.ipi_addr.s_addr).into();
                }
                (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS) => {
                    let at: libc::timespec = ptr::read_unaligned(data.cast());
                    received.at = at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64;
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    received.overflowed = Some(ptr::read_unaligned(data.cast()));
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    received
}

/// Appends one control message (cmsg(3)): length, level, type, data, padded to a word.
fn put_control(control: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    let word = size_of::<usize>();
    let head = word + 2 * size_of::<i32>();
    control.extend((head + data.len()).to_ne_bytes());
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(data);
    control.resize(control.len().next_multiple_of(word), 0);
}

fn set_option(socket: &UdpSocket, level: i32, name: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to a live integer of the length given.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), size_of_val(&on) as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
