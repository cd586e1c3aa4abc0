//! Replaces the operating system's random numbers by the same sequence in each new thread. They seed std's hash maps
//! and the crate `rand`, which str0m and dimpl use. Only the cryptographic library has its own source.

use std::cell::Cell;

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// Overrides libc's `getrandom`.
///
/// # Safety
/// `buffer` has room for `length` bytes, as in getrandom(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        let drawn = DRAWN.get() + 1;
        DRAWN.set(drawn);
        // SAFETY: the caller guarantees the room.
        unsafe { buffer.add(at).write((drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8) };
    }
    length as isize
}
