//! WebSocket framing and SDP parsing for the clients of benches.

/// Returns the kind and text of each m-line of an SDP.
pub fn sections(sdp: &str) -> impl Iterator<Item = (&str, &str)> {
    sdp.split("\r\nm=").skip(1).map(|section| (section.split(' ').next().unwrap_or_default(), section))
}

/// Returns a masked text frame (RFC 6455 section 5.2), with a mask of zeroes.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Takes one server frame out of a buffer: opcode and payload.
pub fn take_frame(inbox: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (&first, &second) = (inbox.first()?, inbox.get(1)?);
    let (head, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes([*inbox.get(2)?, *inbox.get(3)?]))),
        127 => (10, u64::from_be_bytes(inbox.get(2..10)?.try_into().expect("8 bytes")) as usize),
        length => (2, usize::from(length)),
    };
    let payload = inbox.get(head..head + length)?.to_vec();
    inbox.drain(..head + length);
    Some((first & 0x0f, payload))
}
