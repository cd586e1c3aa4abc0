//! Linear regression of the times of packets over their bytes, whose slope gives a bitrate.

/// A least-squares fit of times in microseconds over the bytes before each packet. It is less sensitive to jitter
/// than the times of the first and the last packet.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Regression {
    /// The first time, modulo 2^32.
    pub start: u32,
    /// The last time, relative to `start`.
    pub last: f64,
    /// Sums over the packets: their number, the bytes before them, their times, and squares and products of these.
    pub count: f64,
    pub bytes: f64,
    pub times: f64,
    pub squares: f64,
    pub products: f64,
}

impl Regression {
    /// Adds a packet.
    pub fn push(&mut self, bytes: u32, micros: u32) {
        if self.count == 0.0 {
            self.start = micros;
        }
        let (bytes, time) = (f64::from(bytes), f64::from(micros.wrapping_sub(self.start) as i32));
        self.last = time;
        self.count += 1.0;
        self.bytes += bytes;
        self.times += time;
        self.squares += bytes * bytes;
        self.products += bytes * time;
    }

    /// Returns the slope in bits per second; `None` if no time passes.
    pub fn rate_bps(&self) -> Option<f64> {
        let under = self.count * self.products - self.bytes * self.times;
        let over = self.count * self.squares - self.bytes * self.bytes;
        (under > 0.0).then(|| 8e6 * over / under)
    }
}
