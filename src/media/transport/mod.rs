//! From datagrams to authentic packets and back: addresses, keys and the buffer of outgoing datagrams.
//!
//! In: datagrams with their addresses, and packets to encrypt. Out: the peer that a datagram belongs to, the addresses
//! to which media may be sent, decrypted RTCP, and datagrams grouped for the kernel.
//!
//! Never here: a send to an address without consent, two packets encrypted under one sequence number of an SSRC, or the
//! meaning of a packet's payload.

pub mod addresses;
pub mod allowance;
pub mod checks;
pub mod datagrams;
pub mod demux;
pub mod dtls;
pub mod opening;
pub mod phase;
pub mod route;
pub mod srtp;
