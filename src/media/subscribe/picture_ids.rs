//! Rewrites the picture ids, TL0PICIDX and frame numbers (of dependency descriptors) of one outgoing SSRC, so that they
//! continue across switches of its source. The source is the incoming SSRC that is forwarded at the time.
//!
//! A source's numbers get a constant offset, so that relative references between its frames stay valid: P_DIFF (RFC
//! 9628 section 4.2) and the descriptor's frame differences (AV1 RTP payload specification, appendix A.4). Dropped
//! temporal layers leave gaps in these numbers, which receivers expect. VP8 has no such references: a receiver takes a
//! gap in its picture ids for a picture still to come and holds back pictures that may depend on it (libwebrtc,
//! `RtpVp8RefFinder`, `not_yet_received_frames_`). So the picture ids of VP8, and of no other codec, are renumbered
//! without the dropped pictures.

use crate::media::rtp::codec::Ids;

/// The numbers of one outgoing SSRC.
#[derive(Clone, Copy, Debug, Default)]
pub struct PictureIds {
    picture: Counter,
    tl0_pic_idx: Counter,
    frame_number: Counter,
}

/// One number, kept in 16 bits. The wire carries its low bits.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    /// The highest number sent; `None` before the first.
    last: Option<u16>,
    /// The difference to the source's number; `None` before the source's first.
    offset: Option<u16>,
}

impl PictureIds {
    /// Starts a source, which may be the previous one after a pause: the numbers of the next packet follow the highest
    /// sent.
    pub fn start(&mut self) {
        self.picture.offset = None;
        self.tl0_pic_idx.offset = None;
        self.frame_number.offset = None;
    }

    /// Returns the outgoing ids, with the same fields and widths as the source's. `dropped_pictures` counts the whole
    /// pictures dropped since the start of the source if the codec is VP8; it is 0 for other codecs. The first source
    /// keeps its numbers.
    #[inline]
    pub fn map(&mut self, ids: Ids, dropped_pictures: u16) -> Ids {
        let picture = ids.picture.map(|id| {
            let kept = id.value().wrapping_sub(dropped_pictures);
            id.with(self.picture.map(kept, id.max()))
        });
        let tl0_pic_idx = ids.tl0_pic_idx.map(|index| self.tl0_pic_idx.map(index.into(), 0xff) as u8);
        let frame_number = ids.frame_number.map(|number| self.frame_number.map(number, 0xffff));
        Ids { picture, tl0_pic_idx, frame_number }
    }
}

impl Counter {
    /// Maps one number. `mask` has the bits that the number has on the wire.
    fn map(&mut self, number: u16, mask: u16) -> u16 {
        let Self { last, offset } = *self;
        let follow = || last.map_or(0, |last| last.wrapping_add(1).wrapping_sub(number));
        let offset = *self.offset.insert(offset.unwrap_or_else(follow));
        let out = number.wrapping_add(offset);
        let last = last.unwrap_or(out.wrapping_sub(1));
        // A difference of more than half a cycle means a late packet.
        let ahead = out.wrapping_sub(last) & mask;
        self.last = Some(if ahead <= mask / 2 { last.wrapping_add(ahead) } else { last });
        out & mask
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::media::inputs;
    use crate::media::rtp::codec::PictureId;

    const fn ids(picture: PictureId, tl0_pic_idx: u8, frame_number: u16) -> Ids {
        Ids { picture: Some(picture), tl0_pic_idx: Some(tl0_pic_idx), frame_number: Some(frame_number) }
    }

    const NONE: Ids = Ids { picture: None, tl0_pic_idx: None, frame_number: None };

    /// A step of a story: whether another source starts, the incoming ids, pictures dropped, the expected outgoing ids.
    type Step = (bool, Ids, u16, Ids);

    fn play(name: &str, story: &[Step]) {
        let mut picture_ids = PictureIds::default();
        for (index, (starts, ids, dropped, expected)) in story.iter().enumerate() {
            if *starts {
                picture_ids.start();
            }
            assert_eq!(picture_ids.map(*ids, *dropped), *expected, "{name}, step {index}");
        }
    }

    #[test]
    fn numbers_continue_across_a_switch() {
        use PictureId::{Long, Short};
        let picture = |id| Ids { picture: Some(id), ..NONE };
        let stories: [(&str, &[Step]); 11] = [
            (
                "the first keeps its numbers, the second follows",
                &[
                    (true, ids(Long(100), 7, 60_000), 0, ids(Long(100), 7, 60_000)),
                    (false, ids(Long(101), 7, 60_001), 0, ids(Long(101), 7, 60_001)),
                    (true, ids(Long(9), 200, 5), 0, ids(Long(102), 8, 60_002)),
                    (false, ids(Long(9), 200, 5), 0, ids(Long(102), 8, 60_002)),
                    (false, ids(Long(11), 201, 8), 0, ids(Long(104), 9, 60_005)),
                    (true, ids(Long(101), 7, 60_001), 0, ids(Long(105), 10, 60_006)),
                ],
            ),
            (
                "late packets keep their numbers, and the next source follows the highest",
                &[
                    (true, ids(Long(100), 7, 10), 0, ids(Long(100), 7, 10)),
                    (false, ids(Long(104), 8, 14), 0, ids(Long(104), 8, 14)),
                    (false, ids(Long(102), 7, 12), 0, ids(Long(102), 7, 12)),
                    (true, ids(Long(0), 0, 0), 0, ids(Long(105), 9, 15)),
                    (false, ids(Long(0x7fff), 0xff, 0xffff), 0, ids(Long(104), 8, 14)),
                    (true, ids(Long(3), 3, 3), 0, ids(Long(106), 10, 16)),
                ],
            ),
            (
                "all numbers roll over at the switch",
                &[
                    (true, ids(Long(0x7fff), 0xff, 0xffff), 0, ids(Long(0x7fff), 0xff, 0xffff)),
                    (true, ids(Long(50), 50, 50), 0, ids(Long(0), 0, 0)),
                    (false, ids(Long(51), 51, 51), 0, ids(Long(1), 1, 1)),
                ],
            ),
            (
                "each source rolls over at its own number after the switch",
                &[
                    (true, ids(Long(0x7ffd), 0xfd, 0xfffd), 0, ids(Long(0x7ffd), 0xfd, 0xfffd)),
                    (true, ids(Long(0x7fff), 0xff, 0xffff), 0, ids(Long(0x7ffe), 0xfe, 0xfffe)),
                    (false, ids(Long(0), 0, 0), 0, ids(Long(0x7fff), 0xff, 0xffff)),
                    (false, ids(Long(1), 1, 1), 0, ids(Long(0), 0, 0)),
                    (true, ids(Long(9), 9, 9), 0, ids(Long(1), 1, 1)),
                ],
            ),
            (
                "seven bits roll over at the switch",
                &[
                    (true, picture(Short(0x7f)), 0, picture(Short(0x7f))),
                    (true, picture(Short(5)), 0, picture(Short(0))),
                    (false, picture(Short(0x7f)), 0, picture(Short(0x7a))),
                    (false, picture(Short(6)), 0, picture(Short(1))),
                ],
            ),
            (
                "seven bits are the low ones of fifteen",
                &[
                    (true, picture(Long(0x12fe)), 0, picture(Long(0x12fe))),
                    (true, picture(Short(0x7e)), 0, picture(Short(0x7f))),
                    (false, picture(Short(0x7f)), 0, picture(Short(0x00))),
                    (false, picture(Short(0)), 0, picture(Short(0x01))),
                    (true, picture(Long(77)), 0, picture(Long(0x1302))),
                ],
            ),
            (
                "a source goes from seven bits to fifteen where it rolls over, and back",
                &[
                    (true, picture(Long(0x100)), 0, picture(Long(0x100))),
                    (true, picture(Short(0x7f)), 0, picture(Short(0x01))),
                    (false, picture(Long(0x80)), 0, picture(Long(0x102))),
                    (false, picture(Short(0x01)), 0, picture(Short(0x03))),
                    (true, picture(Long(9)), 0, picture(Long(0x104))),
                ],
            ),
            (
                "a source without ids between two that have them",
                &[
                    (true, ids(Long(100), 7, 10), 0, ids(Long(100), 7, 10)),
                    (true, NONE, 0, NONE),
                    (false, NONE, 5, NONE),
                    (true, ids(Long(3), 3, 3), 0, ids(Long(101), 8, 11)),
                ],
            ),
            (
                "ids that first appear after the start of their source",
                &[
                    (true, ids(Long(100), 7, 10), 0, ids(Long(100), 7, 10)),
                    (true, NONE, 0, NONE),
                    (false, picture(Short(50)), 0, picture(Short(101))),
                    (false, ids(Short(51), 30, 9), 0, ids(Short(102), 8, 11)),
                ],
            ),
            (
                "VP8 pictures are numbered without the dropped ones",
                &[
                    (true, ids(Long(0x7ffe), 7, 10), 0, ids(Long(0x7ffe), 7, 10)),
                    (false, ids(Long(0), 8, 12), 1, ids(Long(0x7fff), 8, 12)),
                    (false, ids(Long(4), 9, 16), 4, ids(Long(0), 9, 16)),
                    // Late, from before the last dropped pictures.
                    (false, ids(Long(0), 8, 12), 1, ids(Long(0x7fff), 8, 12)),
                    (true, ids(Long(900), 1, 1), 0, ids(Long(1), 10, 17)),
                    (false, ids(Long(902), 2, 3), 1, ids(Long(2), 11, 19)),
                ],
            ),
            (
                "any number of dropped pictures",
                &[
                    (true, picture(Short(1)), 0, picture(Short(1))),
                    (false, picture(Short(2)), 0xffff, picture(Short(3))),
                    (true, picture(Long(0)), 0x8000, picture(Long(4))),
                ],
            ),
        ];
        for (name, story) in stories {
            play(name, story);
        }
    }

    /// Picture id, TL0PICIDX and frame number.
    type Numbers = (u16, u8, u16);

    fn after((picture, tl0_pic_idx, frame): Numbers, by: Numbers) -> Numbers {
        (picture.wrapping_add(by.0) & 0x7fff, tl0_pic_idx.wrapping_add(by.1), frame.wrapping_add(by.2))
    }

    /// The first numbers of a source, then for each picture whether it is sent, and the distance back to a picture that
    /// arrives again late.
    fn any_source() -> impl Strategy<Value = (Numbers, Vec<(bool, usize)>)> {
        let picture = (prop::bool::weighted(0.6), prop_oneof![5 => Just(0), 1 => 1..4_usize]);
        ((0..0x8000_u16, any::<u8>(), any::<u16>()), vec(picture, 1..100))
    }

    proptest! {
        #![proptest_config(inputs(512))]

        /// Sent pictures are numbered consecutively across switches of the source, whatever is dropped. The other
        /// numbers keep their distances.
        #[test]
        fn any_sources_yield_consecutive_pictures(sources in vec(any_source(), 1..20)) {
            let all = |(picture, tl0_pic_idx, frame): Numbers| ids(PictureId::Long(picture), tl0_pic_idx, frame);
            let mut picture_ids = PictureIds::default();
            let mut highest: Option<Numbers> = None;
            for (first, pictures) in sources {
                picture_ids.start();
                let first_out = highest.map_or(first, |highest| after(highest, (1, 1, 1)));
                let mut sent = Vec::new();
                for (picture, (is_sent, late)) in (0..).zip(pictures) {
                    // A source starts with a picture that is sent.
                    if !is_sent && picture > 0 {
                        continue;
                    }
                    let (count, tl0) = (sent.len() as u16, (picture / 4) as u8);
                    let incoming = all(after(first, (picture, tl0, picture)));
                    let dropped = picture - count;
                    let out = after(first_out, (count, tl0, picture));
                    prop_assert_eq!(picture_ids.map(incoming, dropped), all(out));
                    highest = Some(out);
                    sent.push((incoming, dropped, out));
                    if let Some((incoming, dropped, out)) = sent.iter().rev().nth(late) {
                        prop_assert_eq!(picture_ids.map(*incoming, *dropped), all(*out), "late");
                    }
                }
            }
        }
    }
}
