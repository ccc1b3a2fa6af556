//! Sizes that readers refuse, which their errors name.

/// The most pixels that a picture may have: 2²⁶, which as RGB take 192 MiB.
pub(crate) const MAX_PIXELS: u64 = 1 << 26;

/// The most bytes of the file of a picture.
pub(crate) const MAX_BYTES: u64 = 1 << 28;

/// Samples a second of a clip.
pub const RATE: u32 = 16_000;

/// Samples of a frame of a clip's spectrogram.
pub const WINDOW: usize = 320;

/// The fewest samples of a clip that can be reflected.
pub(crate) const LEAST: usize = WINDOW / 2 + 1;
