//! Downloads with checksums, which are resumed after an interruption.
//!
//! A file is written to `NAME.part`, with the server's ETag or date in `NAME.tag` beside it, and gets its
//! name when its checksum is right. An interrupted download is resumed if the server still has the same file
//! (`Range` and `If-Range`); a server without ranges sends the complete file again.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::Digest;
pub use ureq::Proxy;
use ureq::http::{HeaderMap, StatusCode, header};

use crate::archive::{self, LIMITS};
use crate::catalog::{Published, Set, Sum};
pub use crate::error::FetchError;
use crate::error::{At, DataError, Doing, Fault};

/// The most bytes of a download.
const MAX_BYTES: u64 = 1 << 33;

/// How to reach servers.
#[derive(Clone, Debug)]
pub struct Web {
    /// How long a server may send nothing.
    pub timeout: Duration,
    /// The address of a directory with all files, in place of the published one.
    pub base: Option<String>,
    /// A proxy.
    pub proxy: Option<Proxy>,
}

/// The source of files.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory with the files.
    Folder(PathBuf),
    /// The network, with a directory for downloads.
    Web(Web, PathBuf),
}

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are expected.
    Expect(u64),
    /// Bytes arrived.
    Came(u64),
}

/// Gets the files of a set, checks them and unpacks them into a directory that is empty.
pub fn fetch(set: &Set, source: &Source, into: &Path, watch: &mut dyn FnMut(Step)) -> Result<(), DataError> {
    for file in set.files {
        let path = match source {
            Source::Folder(folder) => {
                let path = folder.join(file.name);
                check(&path, file.sum, false)?;
                path
            }
            Source::Web(web, cache) => web.download(set, file, &cache.join(set.name), watch)?,
        };
        archive::unpack(&path, into, LIMITS)?;
    }
    Ok(())
}

impl Web {
    /// Downloads a file into a directory, unless it exists; returns its path.
    fn download(
        &self,
        set: &Set,
        file: &Published,
        directory: &Path,
        watch: &mut dyn FnMut(Step),
    ) -> Result<PathBuf, DataError> {
        let path = directory.join(file.name);
        if path.exists() {
            return check(&path, file.sum, true).map(|()| path);
        }
        fs::create_dir_all(directory).doing("make").at(directory)?;
        let beside = |ending: &str| directory.join(format!("{}.{ending}", file.name));
        let (part, tag) = (beside("part"), beside("tag"));
        let base = self.base.as_deref().unwrap_or(set.base).trim_end_matches('/');
        let url = format!("{base}/{}", file.name);
        self.transfer(&url, &part, &tag, watch).at(&part)?;
        check(&part, file.sum, true)?;
        fs::rename(&part, &path).doing("rename").at(&part)?;
        fs::remove_file(&tag).or_else(absent).doing("remove").at(&tag)?;
        Ok(path)
    }

    /// Completes `part`.
    fn transfer(&self, url: &str, part: &Path, tag: &Path, watch: &mut dyn FnMut(Step)) -> Result<(), Fault> {
        let mut file = File::options().create(true).append(true).open(part).doing("write")?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(FetchError::Busy.into()),
            // A file system without locks is no reason to stop.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut have = file.metadata().doing("read")?.len();
        let mut request = self.agent().get(url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
            if let Ok(tag) = fs::read_to_string(tag) {
                request = request.header(header::IF_RANGE, tag);
            }
        }
        let failed = |source| FetchError::Http { url: url.into(), source: Box::new(source) };
        let response = request.call().map_err(failed)?;
        let headers = response.headers();
        match response.status() {
            // The file was complete, or differs from the published one; the checksum decides.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
            StatusCode::PARTIAL_CONTENT if goes_on_at(headers, have) => {}
            StatusCode::OK => {
                file.set_len(0).doing("write")?;
                have = 0;
            }
            status => return Err(FetchError::Status { url: url.into(), status: status.as_u16() }.into()),
        }
        match validator(headers) {
            Some(value) => fs::write(tag, value).doing("write")?,
            None => fs::remove_file(tag).or_else(absent).doing("remove")?,
        }
        let body = response.into_body();
        watch(Step::Expect(body.content_length().unwrap_or(0)));
        let mut body = body.into_with_config().limit(MAX_BYTES).reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let cut = |source| FetchError::Cut { url: url.into(), have, source };
            let read = body.read(&mut buffer).map_err(cut)?;
            if read == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..read]).doing("write")?;
            have += read as u64;
            watch(Step::Came(read as u64));
        }
    }

    fn agent(&self) -> ureq::Agent {
        let timeout = Some(self.timeout);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout)
            .proxy(self.proxy.clone())
            .user_agent(concat!("parm-data/", env!("CARGO_PKG_VERSION")));
        config.build().new_agent()
    }
}

/// True if a response continues at the end of the partial file.
fn goes_on_at(headers: &HeaderMap, have: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// The version of a file on the server: a strong ETag, or its date.
fn validator(headers: &HeaderMap) -> Option<&[u8]> {
    let tag = headers.get(header::ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    Some(tag.or(headers.get(header::LAST_MODIFIED))?.as_bytes())
}

/// Removes a file, if it exists.
fn absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Checks the sum of a file; if it is wrong, removes the file on request.
fn check(path: &Path, sum: Sum, remove: bool) -> Result<(), DataError> {
    let (kind, expected, found) = match sum {
        Sum::Md5(expected) => ("MD5", expected, digest::<md5::Md5>(path)),
        Sum::Sha256(expected) => ("SHA-256", expected, digest::<sha2::Sha256>(path)),
    };
    let found = found.at(path)?;
    if found == expected {
        return Ok(());
    }
    if remove {
        fs::remove_file(path).doing("remove").at(path)?;
    }
    Err(FetchError::Sum { kind, found, expected: expected.into(), removed: remove }).at(path)
}

/// The digest of a file, in hexadecimal.
fn digest<D: Digest>(path: &Path) -> Result<String, Fault> {
    use std::fmt::Write;
    let mut file = File::open(path).doing("open")?;
    let (mut digest, mut buffer) = (D::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).doing("read")? {
            0 => break,
            read => digest.update(&buffer[..read]),
        }
    }
    let mut text = String::new();
    for byte in digest.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
