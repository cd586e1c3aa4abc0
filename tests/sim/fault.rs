//! A fault is one named kind of failure that a plan injects. Each occurrence is counted.

use aq_server::media::fault::Site;

/// Defines `Fault` and `Fault::ALL` from one list.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A kind of failure.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)+
        }

        impl Fault {
            pub const ALL: [Fault; [$(stringify!($name)),+].len()] = [$($name),+];
        }
    };
}

faults! {
    // The network, per datagram.
    Lost,
    Duplicated,
    Reordered,
    Delayed,
    Clogged,
    /// In one direction only.
    Partitioned,
    /// Drops all datagrams for a while, in both directions.
    Outage,
    /// The server's machine changes its address.
    Moved,
    Rebound,
    // TCP connections.
    SplitUp,
    SplitDown,
    StalledUp,
    /// The client does not read.
    StalledDown,
    Reset,
    HalfClosed,
    // The server's own sockets.
    SendRefused,
    WriteFailed,
    // Participants.
    Vanished,
    Rejoined,
    Resumed,
    AnsweredLate,
    /// Streams continue with other SSRCs.
    SsrcsChanged,
    // Attackers, by row of the threat table. H1 to H6:
    HugeHead,
    SlowHead,
    TwoLengths,
    NoHttp,
    Traversal,
    ManyConns,
    // W1 to W3, W5:
    BrokenFrame,
    HugeFrame,
    PingFlood,
    CrossSite,
    // S1 to S6:
    BadJson,
    UnaskedAnswer,
    SdpBomb,
    MessageFlood,
    NeverAnswered,
    // I1, I2, D1:
    StrangeCheck,
    ForgedCheck,
    CheckFlood,
    StrangeHello,
    // M1, M2:
    BadPacket,
    Replayed,
    KeyframeStorm,
    // C1, C5:
    ChatFlood,
    NoToken,
    // R6: a panic inside one peer's panic boundary.
    PanicDatagram,
    PanicTimeout,
    PanicDrain,
    PanicOffer,
    PanicAnswer,
    PanicForward,
    PanicRelease,
    PanicResend,
    PanicPadding,
}

use Fault::*;

impl Fault {
    /// Where the server panics, if the fault is a panic.
    pub fn site(self) -> Option<Site> {
        Some(match self {
            PanicDatagram => Site::Datagram,
            PanicTimeout => Site::Timeout,
            PanicDrain => Site::Drain,
            PanicOffer => Site::Offer,
            PanicAnswer => Site::Answer,
            PanicForward => Site::Forward,
            PanicRelease => Site::Release,
            PanicResend => Site::Resend,
            PanicPadding => Site::Padding,
            _ => return None,
        })
    }
}

/// How often each fault occurred.
#[derive(Clone, Debug)]
pub struct Fired([u64; Fault::ALL.len()]);

impl Default for Fired {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Fired {
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    pub fn add(&mut self, other: &Fired) {
        self.0.iter_mut().zip(other.0).for_each(|(all, some)| *all += some);
    }
}
