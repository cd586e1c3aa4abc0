//! A fault is one named way in which a plan lets something go wrong, counted each time that it does.

use aq_server::media::fault::Site;

/// Lists the faults once, for the type and for whoever walks all of them.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// Where something can fail.
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
    // The network, datagram by datagram.
    Lost,
    Duplicated,
    Reordered,
    Delayed,
    Clogged,
    /// One way only.
    Partitioned,
    /// No datagram passes for a while, in either direction.
    Outage,
    /// The server's machine gets another address.
    Moved,
    Rebound,
    // A TCP connection.
    SplitUp,
    SplitDown,
    StalledUp,
    /// The reader is too slow.
    StalledDown,
    Reset,
    HalfClosed,
    // The server's own sockets.
    SendRefused,
    WriteFailed,
    // People.
    Vanished,
    Rejoined,
    Resumed,
    AnsweredLate,
    /// Streams go on with other SSRCs.
    SsrcsChanged,
    // Attackers, by the rows of the table of threats. H1 to H6:
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
    // R6: a panic behind the fence of one peer.
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
    /// Where the server panics.
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

/// How often each fault happened.
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
