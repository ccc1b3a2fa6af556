//! Random choices, keyed by seed, model and epoch.

use bytemuck::cast_slice;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

use crate::device::Device;

/// Shuffles rows into groups `[groups, k]`, without the remaining rows.
pub(super) fn groups(
    rows: &[i64],
    k: usize,
    rng: &mut ChaCha8Rng,
    device: Device,
) -> Result<Tensor, TchError> {
    let mut order = rows.to_vec();
    order.shuffle(rng);
    let groups = order.len() / k;
    let bytes: &[u8] = cast_slice(&order[..groups * k]);
    Tensor::f_from_data_size(bytes, &[groups as i64, k as i64], Kind::Int64)?.f_to_device(device.0)
}

/// The key of the random choices of one training.
pub(super) fn rng_key(seed: u64, stream: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&stream.to_le_bytes());
    key
}

/// The random numbers of augmentation in one epoch.
pub(super) fn augment_rng(seed: u64, stream: u64, epoch: u64) -> ChaCha8Rng {
    let mut key = rng_key(seed, stream);
    key[24] = 1;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(epoch);
    rng
}

/// The seed of libtorch's random numbers in one minibatch.
pub(super) fn dropout_seed(seed: u64, stream: u64, epoch: u64, batch: u64) -> i64 {
    let mut key = rng_key(seed, stream);
    key[24] = 2;
    key[16..24].copy_from_slice(&batch.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(epoch);
    rng.random::<u64>().cast_signed()
}

/// The random numbers of one epoch; 0 is before the first.
pub(super) fn rng(seed: u64, stream: u64, epoch: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::from_seed(rng_key(seed, stream));
    rng.set_stream(epoch);
    rng
}
