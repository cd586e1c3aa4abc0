//! The sealed sequence numbers of one SSRC, so that none is sealed twice.

/// Size of the window of sequence numbers below the highest of an SSRC that may still be sealed. str0m drops a
/// publisher's packets that are 100 behind (`MAX_MISORDER`), and rewriting never increases that distance.
pub(super) const WINDOW: u64 = 128;

/// The sealed sequence numbers of one SSRC: the replay list of RFC 3711 section 3.3.2, on the sending side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Highest sequence number plus one.
    end: u64,
    /// Bit n is for `end - 1 - n`. Two halves, because a `u128` would be aligned to 16 bytes.
    sealed: [u64; 2],
}

/// Whether a sequence number was sealed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It was not.
    Fresh,
    /// Below the window, so it may have been sealed.
    Unknown,
    /// It was.
    Sealed,
}

impl Window {
    /// Marks a sequence number as sealed, unless it is below the window.
    #[inline]
    pub fn insert(&mut self, seq_no: u64) -> Freshness {
        if seq_no != self.end {
            return self.insert_out_of_order(seq_no);
        }
        let [low, high] = self.sealed;
        self.sealed = [low << 1 | 1, high << 1 | low >> 63];
        self.end = seq_no + 1;
        Freshness::Fresh
    }

    /// Marks a sequence number that does not follow the highest.
    #[cold]
    fn insert_out_of_order(&mut self, seq_no: u64) -> Freshness {
        let [low, high] = self.sealed;
        let sealed = u128::from(high) << 64 | u128::from(low);
        if seq_no > self.end {
            let ahead = seq_no - self.end + 1;
            let sealed = if ahead < WINDOW { sealed << ahead | 1 } else { 1 };
            self.sealed = [sealed as u64, (sealed >> 64) as u64];
            self.end = seq_no + 1;
            return Freshness::Fresh;
        }
        let behind = self.end - 1 - seq_no;
        if behind >= WINDOW {
            return Freshness::Unknown;
        }
        let (half, bit) = ((behind / 64) as usize, 1 << (behind % 64));
        let freshness = if self.sealed[half] & bit == 0 { Freshness::Fresh } else { Freshness::Sealed };
        self.sealed[half] |= bit;
        freshness
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;

    #[test]
    fn a_number_is_sealed_once_and_none_below_the_window() {
        use Freshness::{Fresh, Sealed, Unknown};
        let steps = [
            (5, Fresh),
            (5, Sealed),
            (3, Fresh),
            (3, Sealed),
            (9, Fresh),
            (5, Sealed),
            (4, Fresh),
            // The window's oldest number, and the ones around it.
            (9 + WINDOW - 1, Fresh),
            (9, Sealed),
            (10, Fresh),
            (8, Unknown),
            // A step beyond the whole window.
            (9 + 2 * WINDOW - 1, Fresh),
            (9 + WINDOW, Fresh),
            (9 + WINDOW - 1, Unknown),
            (1 << 40, Fresh),
            (1 << 40, Sealed),
            ((1 << 40) - 1, Fresh),
        ];
        let mut window = Window::default();
        for (step, (seq_no, expected)) in steps.into_iter().enumerate() {
            assert_eq!(window.insert(seq_no), expected, "step {step}: {seq_no}");
        }
    }

    proptest! {
        #![proptest_config(inputs(512))]

        /// A fresh number was never sealed before, and a number refused as sealed was.
        #[test]
        fn no_steps_seal_a_number_twice(steps in vec((-200..60_i64).prop_map(|step| step.max(-150)), 1..600)) {
            let (mut window, mut sealed, mut highest) = (Window::default(), HashSet::new(), 1_000_u64);
            for ahead in steps {
                let seq_no = highest.saturating_add_signed(ahead);
                highest = highest.max(seq_no);
                match window.insert(seq_no) {
                    Freshness::Fresh => prop_assert!(sealed.insert(seq_no)),
                    Freshness::Sealed => prop_assert!(sealed.contains(&seq_no)),
                    Freshness::Unknown => prop_assert!(highest - seq_no >= WINDOW),
                }
            }
        }
    }
}
