//! Sets of workers and slots.

/// A set of workers or slots: bit i stands for worker or slot i. The workers of a systematic code
/// are its slots, 0..k, and then its parities.
pub type Mask = u128;

/// The most workers of a group.
pub const MAX_WORKERS: usize = Mask::BITS as usize;

/// The set of the first `count`.
pub(crate) fn ones(count: usize) -> Mask {
    if count >= MAX_WORKERS { Mask::MAX } else { (1 << count) - 1 }
}
