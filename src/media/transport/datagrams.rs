//! Outgoing datagrams in one reused buffer, grouped into runs that one system call can send.

use crate::media::transport::route::Route;

/// The kernel's limits for one run: number of segments, and bytes of payload (udp(7), `UDP_SEGMENT`).
const RUN_SEGMENTS: usize = 64;
const RUN_BYTES: usize = 65_000;

/// Datagrams in sending order.
#[derive(Debug, Default)]
pub struct Datagrams {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Offset in `bytes` of the datagram being written.
    begin: usize,
    len: usize,
}

/// Consecutive datagrams with one route and one size; the last one may be shorter.
#[derive(Clone, Copy, Debug)]
struct Run {
    route: Route,
    start: usize,
    end: usize,
    segment: usize,
    /// The number of further datagrams that fit.
    left: usize,
}

/// A view of consecutive datagrams with one route and one size; the last one may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    /// Their route.
    pub route: Route,
    /// Their contents, one after the other.
    pub bytes: &'a [u8],
    /// Bytes of each datagram except the last, which may be shorter.
    pub segment: usize,
}

impl<'a> Segments<'a> {
    /// Returns the number of datagrams.
    #[allow(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.bytes.len().div_ceil(self.segment)
    }

    /// Returns the datagrams after the first `bytes` bytes, which have to end at a datagram boundary.
    pub fn skip(self, bytes: usize) -> Self {
        Self { bytes: &self.bytes[bytes..], ..self }
    }

    /// Splits the view into views of one datagram each.
    pub fn split(self) -> impl Iterator<Item = Segments<'a>> + Clone {
        self.bytes.chunks(self.segment).map(move |bytes| Segments { bytes, ..self })
    }
}

impl Datagrams {
    /// Appends a datagram.
    pub fn push(&mut self, route: Route, contents: &[u8]) {
        self.bytes.extend_from_slice(contents);
        self.finish(route);
    }

    /// Returns the buffer to append the next datagram's bytes to; call `finish` afterwards.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the datagram that was appended to the buffer. An empty one is ignored.
    pub fn finish(&mut self, route: Route) {
        let (start, end) = (self.begin, self.bytes.len());
        let size = end - start;
        if size == 0 {
            return;
        }
        self.begin = end;
        self.len += 1;
        if let Some(run) = self.runs.last_mut()
            && size <= run.segment
            && run.left > 0
            && end - run.start <= RUN_BYTES
            && run.route == route
        {
            run.end = end;
            // A shorter datagram is the last one.
            run.left = if size < run.segment { 0 } else { run.left - 1 };
            return;
        }
        self.runs.push(Run { route, start, end, segment: size, left: RUN_SEGMENTS - 1 });
    }

    /// Removes what was appended to the buffer since the last `finish`.
    pub fn abandon(&mut self) {
        self.bytes.truncate(self.begin);
    }

    /// Removes all datagrams and keeps the allocation.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
        self.begin = 0;
        self.len = 0;
    }

    /// Returns the number of datagrams.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no datagrams.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the total size in bytes.
    pub fn bytes(&self) -> usize {
        self.begin
    }

    /// Returns the runs, starting with index `first`.
    pub fn runs(&self, first: usize) -> impl ExactSizeIterator<Item = Segments<'_>> + Clone {
        self.runs[first..].iter().map(|run| Segments {
            route: run.route,
            bytes: &self.bytes[run.start..run.end],
            segment: run.segment,
        })
    }

    /// Iterates over the datagrams and their routes.
    pub fn iter(&self) -> impl Iterator<Item = (Route, &[u8])> {
        self.runs(0).flat_map(Segments::split).map(|datagram| (datagram.route, datagram.bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn route(port: u16) -> Route {
        Route { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: SocketAddr::from(([192, 0, 2, 2], 9)) }
    }

    #[test]
    fn runs_have_one_route_and_one_size_and_may_end_with_a_shorter_datagram() {
        let mut datagrams = Datagrams::default();
        let sizes = [(1, 100), (1, 100), (1, 40), (1, 40), (2, 40), (2, 41), (1, 41), (1, 41)];
        for (number, (port, size)) in sizes.into_iter().enumerate() {
            datagrams.push(route(port), &vec![number as u8; size]);
        }
        let runs: Vec<_> = datagrams.runs(0).map(|run| (run.route, run.bytes.len(), run.segment)).collect();
        assert_eq!(
            runs,
            [(route(1), 240, 100), (route(1), 40, 40), (route(2), 40, 40), (route(2), 41, 41), (route(1), 82, 41)]
        );
        let found: Vec<_> = datagrams.iter().map(|(route, contents)| (route, contents[0], contents.len())).collect();
        let pushed = sizes.iter().enumerate().map(|(number, (port, size))| (route(*port), number as u8, *size));
        assert_eq!(found, pushed.collect::<Vec<_>>());
        assert_eq!((datagrams.len(), datagrams.bytes()), (8, 443));
        datagrams.buffer().extend([9; 50]);
        datagrams.abandon();
        datagrams.push(route(1), &[7; 41]);
        assert_eq!(datagrams.iter().last(), Some((route(1), &[7; 41][..])));
        datagrams.clear();
        assert_eq!((datagrams.len(), datagrams.iter().count()), (0, 0));
    }

    #[test]
    fn runs_respect_the_limits_of_the_kernel() {
        let mut datagrams = Datagrams::default();
        for _ in 0..130 {
            datagrams.push(route(1), &[0; 10]);
        }
        assert_eq!(datagrams.runs(0).map(|run| run.bytes.len()).collect::<Vec<_>>(), [640, 640, 20]);
        datagrams.clear();
        for _ in 0..60 {
            datagrams.push(route(1), &[0; 1_200]);
        }
        assert_eq!(datagrams.runs(0).map(|run| run.bytes.len()).collect::<Vec<_>>(), [54 * 1_200, 6 * 1_200]);
    }
}
