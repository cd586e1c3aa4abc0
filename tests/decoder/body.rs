//! The body of a synthetic frame, after its codec's headers: its source, its number, and the numbers of the frames that
//! it refers to.

const MAGIC: [u8; 4] = [0xa9, 0x5e, 0x4d, 0x17];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Its source. A different one indicates a switch.
    pub stream: u32,
    pub frame: u32,
    pub references: Vec<u32>,
}

impl Body {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(MAGIC);
        out.extend(self.stream.to_be_bytes());
        out.extend(self.frame.to_be_bytes());
        out.push(self.references.len() as u8);
        self.references.iter().for_each(|frame| out.extend(frame.to_be_bytes()));
    }

    /// Finds the body in the first packet of a frame. Real frames have none.
    pub fn find(payload: &[u8]) -> Option<Self> {
        let at = payload.windows(4).position(|window| window == MAGIC)? + 4;
        let word = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let count = usize::from(*payload.get(at + 8)?);
        let references = (0..count).map(|index| word(at + 9 + 4 * index)).collect::<Option<_>>()?;
        Some(Self { stream: word(at)?, frame: word(at + 4)?, references })
    }
}
