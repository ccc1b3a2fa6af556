//! A source that returns few bytes at a time, like a pipe.

use std::io::{self, Read};

/// Returns 1 to `most` bytes a read, and is sometimes interrupted, as a seed decides.
#[derive(Debug)]
pub struct Trickle<R> {
    source: R,
    most: usize,
    state: u64,
}

impl<R> Trickle<R> {
    /// A source that returns at most this many bytes at a time.
    ///
    /// # Panics
    /// If `most` is 0.
    pub fn new(source: R, most: usize, seed: u64) -> Self {
        assert!(most > 0, "a source that gives no bytes has ended");
        Self { source, most, state: seed }
    }

    /// `SplitMix64`: enough to vary sizes.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl<R: Read> Read for Trickle<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.next().is_multiple_of(16) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let size = 1 + (self.next() % self.most as u64) as usize;
        let size = size.min(buffer.len());
        self.source.read(&mut buffer[..size])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_in_small_steps() {
        let content: Vec<u8> = (0..=255).collect();
        let mut trickle = Trickle::new(content.as_slice(), 3, 7);
        let (mut all, mut interrupted) = (Vec::new(), 0);
        loop {
            let mut buffer = [0; 64];
            match trickle.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    assert!(read <= 3);
                    all.extend_from_slice(&buffer[..read]);
                }
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
                    interrupted += 1;
                }
            }
        }
        assert_eq!(all, content);
        assert!(interrupted > 0);
    }
}
