//! Bytes from an HTTP client.

use aq_server::web::http::{Body, BodyReader, Framing, MAX_BODY, MAX_HEAD, Method, Refusal, Request};

use crate::world::World;

/// Sends request heads in pieces, whose size the first byte chooses.
pub fn http_head(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    match Request::parse(bytes) {
        Ok(Some((request, length))) => {
            assert!(length <= bytes.len() && length <= MAX_HEAD);
            assert!(request.path.starts_with('/') && Method::ALL.contains(&request.method));
            if let Body::Unread(framing) = request.body {
                let pieces = bytes[length..].chunks(usize::from(*size).max(1));
                assert_eq!(read_body(framing, pieces), read_body(framing, [&bytes[length..]].into_iter()));
            }
            // A complete head does not depend on the bytes after it.
            let (again, same) =
                Request::parse(&bytes[..length]).expect("the head is valid").expect("the head is complete");
            assert_eq!((again, same), (request, length));
            assert_eq!(Request::parse(&bytes[..length - 1]), Ok(None), "a head is not complete before its last byte");
        }
        Ok(None) => assert!(bytes.len() < MAX_HEAD),
        Err(refusal) => assert!((400..506).contains(&refusal.status())),
    }
    let mut world = World::take(false);
    let client = world.connect();
    for piece in bytes.chunks(usize::from(*size).max(1) * 8) {
        world.data(client, piece);
    }
    world.end(client, true);
    let inbox = &world.clients[client].inbox;
    if !inbox.is_empty() && !world.clients[client].is_upgraded() {
        assert!(inbox.starts_with(b"HTTP/1.1 "), "the response is HTTP");
        let status = str::from_utf8(&inbox[9..12]).ok().and_then(|status| status.parse().ok()).unwrap_or(0);
        assert!((200..500).contains(&status) || status == 505, "status {status} for an error of the client");
    }
    world.finish();
}

/// Reads a body. Returns it and the number of bytes that it took, or `None` if it is not complete.
fn read_body<'a>(
    framing: Framing,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    let mut reader = BodyReader::new(framing);
    let mut taken = 0;
    for piece in pieces {
        taken += reader.handle_data(piece)?;
    }
    let is_complete = reader.is_complete();
    let body = reader.into_bytes();
    assert!(body.len() <= MAX_BODY.min(taken));
    Ok(is_complete.then_some((body, taken)))
}
