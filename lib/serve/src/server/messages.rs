//! Where the messages of a gRPC body begin and end.

use tonic::Status;

/// The bytes before a gRPC message: the compression flag, and the length.
pub(super) const PREFIX: usize = 5;

/// Where the messages of a gRPC body begin and end.
pub(super) struct Messages {
    limit: usize,
    prefix: [u8; PREFIX],
    /// The received bytes of the next prefix.
    have: usize,
    /// The missing bytes of the present message.
    left: usize,
}

impl Messages {
    /// Messages of at most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, prefix: [0; PREFIX], have: 0, left: 0 }
    }

    /// True if no message has begun that has not ended.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Takes note of the next bytes of the body.
    pub(super) fn see(&mut self, mut data: &[u8]) -> Result<(), Status> {
        loop {
            let of_message = self.left.min(data.len());
            self.left -= of_message;
            data = &data[of_message..];
            if data.is_empty() {
                return Ok(());
            }
            let of_prefix = (PREFIX - self.have).min(data.len());
            self.prefix[self.have..self.have + of_prefix].copy_from_slice(&data[..of_prefix]);
            self.have += of_prefix;
            data = &data[of_prefix..];
            if self.have == PREFIX {
                let [flag, length @ ..] = self.prefix;
                (self.have, self.left) = (0, u32::from_be_bytes(length) as usize);
                if flag > 1 {
                    let text = format!("found {flag} before a message, expected 0 or 1");
                    return Err(Status::invalid_argument(text));
                }
                if self.left > self.limit {
                    return Err(Status::resource_exhausted(format!(
                        "found a message of {} bytes, expected at most {}",
                        self.left, self.limit
                    )));
                }
            }
        }
    }
}
