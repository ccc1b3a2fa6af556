//! SHA-256 of files and streams, as `sha256sum` prints it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// The file system's.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            read => hasher.update(&block[..read]),
        }
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A stream that is hashed while it is read.
pub struct Hashing<R, F> {
    source: R,
    /// None after the end.
    running: Option<(Sha256, F)>,
}

impl<R: Read, F: FnOnce(String)> Hashing<R, F> {
    /// `at_end` gets the hash when the stream has been read to its end.
    pub fn new(source: R, at_end: F) -> Self {
        Self { source, running: Some((Sha256::new(), at_end)) }
    }
}

impl<R: Read, F: FnOnce(String)> Read for Hashing<R, F> {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(block)?;
        match self.running.take() {
            Some((hasher, at_end)) if read == 0 && !block.is_empty() => {
                at_end(hexadecimal(&hasher.finalize()));
            }
            Some((mut hasher, at_end)) => {
                hasher.update(&block[..read]);
                self.running = Some((hasher, at_end));
            }
            None => {}
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `abc`, of FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_stream_has_the_hash_of_its_bytes_when_it_has_been_read_to_its_end() {
        let mut found = None;
        let mut stream = Hashing::new(&b"abc"[..], |hash| found = Some(hash));
        let mut two = [0; 2];
        stream.read_exact(&mut two).unwrap();
        assert_eq!(stream.read(&mut []).unwrap(), 0);
        stream.read_to_end(&mut Vec::new()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        drop(stream);
        assert_eq!(found.as_deref(), Some(ABC));
    }

    #[test]
    fn a_stream_that_was_read_in_part_has_no_hash() {
        let mut stream = Hashing::new(&b"abc"[..], |hash| panic!("{hash}"));
        stream.read_exact(&mut [0; 3]).unwrap();
    }

    #[test]
    fn a_file_has_the_hash_of_its_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(sha256(file.path()).unwrap(), ABC);
    }
}
