//! WebSocket frames: their encoding, and where they begin and end in the client's bytes (RFC 6455 section 5.2).

use std::sync::Arc;

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Encodes a text message as one frame, which can be queued to several connections.
pub fn encode_text(text: &str) -> Arc<[u8]> {
    encode_data(Data::Text, text.as_bytes())
}

/// Encodes a binary message as one frame.
pub fn encode_binary(bytes: &[u8]) -> Arc<[u8]> {
    encode_data(Data::Binary, bytes)
}

fn encode_data(kind: Data, payload: &[u8]) -> Arc<[u8]> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    encode(OpCode::Data(kind), payload, &mut frame);
    frame.into()
}

/// Appends one final, unmasked frame (RFC 6455 section 5.2).
pub(super) fn encode(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | u8::from(opcode));
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// The fields of a frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) is_final: bool,
    opcode: OpCode,
    pub(super) length: u64,
}

impl FrameHeader {
    pub(super) fn is_data(self) -> bool {
        matches!(self.opcode, OpCode::Data(_))
    }

    pub(super) fn is_close(self) -> bool {
        self.opcode == OpCode::Control(Control::Close)
    }
}

/// The position in the client's stream of frames.
#[derive(Debug, Default)]
pub(super) struct FrameCursor {
    /// The frame header so far: two bytes, up to eight of length, four of mask.
    bytes: [u8; 14],
    filled: usize,
    head: Option<FrameHeader>,
    /// Payload bytes of this frame that have not arrived yet.
    remaining: u64,
}

/// The result of one `advance`, which never passes the end of a frame.
pub(super) struct Step {
    pub(super) length: usize,
    pub(super) begun: Option<FrameHeader>,
    pub(super) ended: Option<FrameHeader>,
}

impl FrameCursor {
    pub(super) fn advance(&mut self, data: &[u8]) -> Step {
        let mut length = 0;
        let mut begun = None;
        if self.head.is_none() {
            while self.filled < self.header_length() {
                let Some(&byte) = data.get(length) else {
                    return Step { length, begun, ended: None };
                };
                self.bytes[self.filled] = byte;
                self.filled += 1;
                length += 1;
            }
            let head = self.parse_header();
            self.remaining = head.length;
            self.head = Some(head);
            begun = Some(head);
        }
        let left = data.len() - length;
        let payload = usize::try_from(self.remaining).map_or(left, |remaining| remaining.min(left));
        self.remaining -= payload as u64;
        length += payload;
        let mut ended = None;
        if self.remaining == 0 {
            ended = self.head.take();
            self.filled = 0;
        }
        Step { length, begun, ended }
    }

    /// The length of the frame header, as far as the bytes so far determine it.
    fn header_length(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let mask = if self.bytes[1] & 0x80 != 0 { 4 } else { 0 };
        2 + self.extended_length() + mask
    }

    fn extended_length(&self) -> usize {
        match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn parse_header(&self) -> FrameHeader {
        let extended = &self.bytes[2..2 + self.extended_length()];
        let length = match extended {
            [] => u64::from(self.bytes[1] & 0x7f),
            bytes => bytes.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)),
        };
        FrameHeader { is_final: self.bytes[0] & 0x80 != 0, opcode: OpCode::from(self.bytes[0] & 0x0f), length }
    }
}
