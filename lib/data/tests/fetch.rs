//! Downloads from a server on this machine that answers well and badly. No test uses the network.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use parm_data_sets::catalog::{Published, SETS, Set, Sum, find};
use parm_data_sets::fetch::{FetchError, Source, Step, Web, fetch};
use parm_data_sets::{DataError, Fault};
use parm_testkit::Server;
use parm_testkit::server::{Answer, Request, answer};
use tempfile::TempDir;

const CONTENT: &[u8] = b"abc";
const MD5: Sum = Sum::Md5("900150983cd24fb0d6963f7d28e17f72");
const SHA256: Sum = Sum::Sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

fn set<'a>(base: &'a str, files: &'a [Published<'a>]) -> Set<'a> {
    Set { name: "letters", about: "", megabytes: 0, base, files }
}

/// The file of `CONTENT`.
const FILES: &[Published] = &[Published { name: "abc.txt", sum: SHA256 }];

struct Place {
    folder: TempDir,
    source: Source,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let web = Web { timeout: Duration::from_secs(1), base: None, proxy: None };
        Self { source: Source::Web(web, folder.path().join("cache")), folder }
    }

    fn cached(&self, name: &str) -> PathBuf {
        self.folder.path().join("cache/letters").join(name)
    }

    /// Fetches into a new directory, and returns that and the bytes that came.
    fn fetch(&self, set: &Set) -> Result<(PathBuf, u64), DataError> {
        let into = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let mut came = 0;
        fetch(set, &self.source, &into, &mut |step| {
            if let Step::Came(bytes) = step {
                came += bytes;
            }
        })?;
        Ok((into, came))
    }

    fn refused(&self, set: &Set) -> FetchError {
        match self.fetch(set).unwrap_err().fault {
            Fault::Fetch(error) => error,
            other => panic!("{other:?}"),
        }
    }
}

fn bytes(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    Answer::Bytes(answer(status, headers, body))
}

fn content(path: &Path) -> Vec<u8> {
    fs::read(path.join("abc.txt")).unwrap()
}

#[test]
fn a_set_is_downloaded_once_checked_and_unpacked() {
    let gzip = |content: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    };
    let digits = gzip(b"digits");
    let digest = <md5::Md5 as sha2::Digest>::digest(&digits);
    let sum = digest.iter().fold(String::new(), |sum, byte| sum + &format!("{byte:02x}"));
    let files =
        [Published { name: "digits.gz", sum: Sum::Md5(&sum) }, Published { name: "abc.txt", sum: MD5 }];
    let server = Server::start(move |request| match request.path.as_str() {
        "/data/digits.gz" => bytes("200 OK", &[("ETag", "\"1\"")], &digits),
        "/data/abc.txt" => bytes("200 OK", &[], CONTENT),
        _ => bytes("404 Not Found", &[], b""),
    });
    let place = Place::new();
    let base = format!("{}/data/", server.url);
    let (into, came) = place.fetch(&set(&base, &files)).unwrap();
    assert_eq!(
        (fs::read(into.join("digits")).unwrap().as_slice(), content(&into).as_slice()),
        (&b"digits"[..], CONTENT)
    );
    assert!(came > CONTENT.len() as u64);
    let kept: Vec<_> =
        fs::read_dir(place.cached("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    let (_, came) = place.fetch(&set(&base, &files)).unwrap();
    assert_eq!((came, server.requests().len()), (0, 2), "the second time nothing is asked for");
    assert!(server.requests()[0].header("user-agent").unwrap().starts_with("parm-data/"));
}

#[test]
fn a_mirror_stands_in_for_the_publisher() {
    let server = Server::start(|_| bytes("200 OK", &[], CONTENT));
    let mut place = Place::new();
    let Source::Web(web, _) = &mut place.source else { unreachable!() };
    web.base = Some(format!("{}/mirror", server.url));
    assert_eq!(content(&place.fetch(&set("http://127.0.0.1:1", FILES)).unwrap().0), CONTENT);
    assert_eq!(server.requests()[0].path, "/mirror/abc.txt");
}

/// A server that cuts off its first answer after a byte, and gives `rest` to what is asked then.
fn cutting(headers: &'static [(&str, &str)], rest: impl Fn(&Request) -> Answer + Send + 'static) -> Server {
    let calls = AtomicUsize::new(0);
    Server::start(move |request| {
        if calls.fetch_add(1, Ordering::Relaxed) > 0 {
            return rest(request);
        }
        bytes("200 OK", &[headers, &[("Content-Length", "3")]].concat(), b"a")
    })
}

/// Downloads in two calls, of which the first is cut off; gives the second request and what came in it.
fn in_two_calls(server: &Server) -> (Request, u64) {
    let place = Place::new();
    let letters = set(&server.url, FILES);
    let error = place.refused(&letters);
    assert!(matches!(error, FetchError::Cut { have: 1, .. }), "{error:?}");
    assert_eq!(fs::read(place.cached("abc.txt.part")).unwrap(), b"a");
    let (into, came) = place.fetch(&letters).unwrap();
    assert_eq!(content(&into), CONTENT);
    assert!(!place.cached("abc.txt.part").exists() && !place.cached("abc.txt.tag").exists());
    (server.requests()[1].clone(), came)
}

#[test]
fn what_was_cut_off_goes_on() {
    let rest = |_: &Request| bytes("206 Partial Content", &[("Content-Range", "bytes 1-2/3")], b"bc");
    let (request, came) = in_two_calls(&cutting(&[("ETag", "\"v1\"")], rest));
    assert_eq!((request.header("range"), request.header("if-range")), (Some("bytes=1-"), Some("\"v1\"")));
    assert_eq!(came, 2);
    // A weak tag does not tell versions apart; a date does.
    let dated: &[_] = &[("ETag", "W/\"v1\""), ("Last-Modified", "Mon, 05 Oct 2026 10:00:00 GMT")];
    let (request, _) = in_two_calls(&cutting(dated, rest));
    assert_eq!(request.header("if-range"), Some("Mon, 05 Oct 2026 10:00:00 GMT"));
    let (request, _) = in_two_calls(&cutting(&[], rest));
    assert_eq!((request.header("range"), request.header("if-range")), (Some("bytes=1-"), None));
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_again() {
    let (_, came) = in_two_calls(&cutting(&[], |_| bytes("200 OK", &[], CONTENT)));
    assert_eq!(came, 3);
}

#[test]
fn a_download_that_was_whole_is_only_checked() {
    let server =
        Server::start(|_| bytes("416 Range Not Satisfiable", &[("Content-Range", "bytes */3")], b""));
    let place = Place::new();
    fs::create_dir_all(place.cached("")).unwrap();
    fs::write(place.cached("abc.txt.part"), CONTENT).unwrap();
    assert_eq!(content(&place.fetch(&set(&server.url, FILES)).unwrap().0), CONTENT);
    // Too long a part is found out, and the next call begins anew.
    let place = Place::new();
    fs::create_dir_all(place.cached("")).unwrap();
    fs::write(place.cached("abc.txt.part"), b"abcd").unwrap();
    assert!(matches!(place.refused(&set(&server.url, FILES)), FetchError::Sum { removed: true, .. }));
    assert!(!place.cached("abc.txt.part").exists());
}

#[test]
fn another_place_than_asked_for_is_refused() {
    let server = cutting(&[], |_| bytes("206 Partial Content", &[("Content-Range", "bytes 0-2/3")], CONTENT));
    let place = Place::new();
    place.refused(&set(&server.url, FILES));
    let error = place.refused(&set(&server.url, FILES));
    assert!(matches!(error, FetchError::Status { status: 206, .. }), "{error:?}");
    assert_eq!(fs::read(place.cached("abc.txt.part")).unwrap(), b"a");
}

#[test]
fn other_content_is_removed() {
    let server = Server::start(|_| bytes("200 OK", &[], b"abd"));
    let place = Place::new();
    for (sum, kind) in [(MD5, "MD5"), (SHA256, "SHA-256")] {
        let files = [Published { name: "abc.txt", sum }];
        let error = place.refused(&set(&server.url, &files));
        let FetchError::Sum { kind: found_kind, found, expected, removed: true } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(*found_kind, kind);
        let message = error.to_string();
        assert!(message.contains(found) && message.contains(expected) && found != expected, "{message}");
        assert_eq!(
            fs::read_dir(place.cached(""))
                .unwrap()
                .filter(|entry| !entry.as_ref().unwrap().path().ends_with("abc.txt.tag"))
                .count(),
            0
        );
    }
    // So is what has gone bad in the cache.
    fs::write(place.cached("abc.txt"), b"abd").unwrap();
    assert!(matches!(place.refused(&set(&server.url, FILES)), FetchError::Sum { removed: true, .. }));
    assert!(!place.cached("abc.txt").exists());
}

#[test]
fn bad_servers_are_named() {
    let place = Place::new();
    let server = Server::start(|_| bytes("404 Not Found", &[], b"no"));
    let error = place.refused(&set(&server.url, FILES));
    assert!(
        matches!(&error, FetchError::Status { url, status: 404 } if url.ends_with("/abc.txt")),
        "{error:?}"
    );
    let server = Server::start(|_| Answer::Bytes(b"I speak no HTTP\r\n\r\n".to_vec()));
    assert!(matches!(place.refused(&set(&server.url, FILES)), FetchError::Http { .. }));
    // Port 1 of this machine, where nobody listens.
    assert!(matches!(place.refused(&set("http://127.0.0.1:1", FILES)), FetchError::Http { .. }));
}

#[test]
fn a_server_that_hangs_is_left() {
    let begin = Instant::now();
    let place = Place::new();
    let server = Server::start(|_| Answer::Hang(Vec::new()));
    let error = place.refused(&set(&server.url, FILES));
    assert!(matches!(error, FetchError::Http { .. }), "{error:?}");
    let server = Server::start(|_| Answer::Hang(answer("200 OK", &[("Content-Length", "3")], b"ab")));
    let error = place.refused(&set(&server.url, FILES));
    assert!(matches!(error, FetchError::Cut { have: 2, .. }), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn two_downloads_do_not_mix() {
    let server = Server::start(|_| bytes("200 OK", &[], CONTENT));
    let place = Place::new();
    fs::create_dir_all(place.cached("")).unwrap();
    let other = File::create(place.cached("abc.txt.part")).unwrap();
    other.lock().unwrap();
    assert!(matches!(place.refused(&set(&server.url, FILES)), FetchError::Busy));
    drop(other);
    assert!(place.fetch(&set(&server.url, FILES)).is_ok());
}

#[test]
fn files_that_are_there_are_checked_and_kept() {
    let mut place = Place::new();
    place.source = Source::Folder(place.folder.path().to_owned());
    let letters = set("http://127.0.0.1:1", FILES);
    assert!(matches!(place.fetch(&letters).unwrap_err().fault, Fault::Io("open", _)));
    let file = place.folder.path().join("abc.txt");
    fs::write(&file, b"abd").unwrap();
    assert!(matches!(place.refused(&letters), FetchError::Sum { removed: false, .. }));
    fs::write(&file, CONTENT).unwrap();
    assert_eq!(content(&place.fetch(&letters).unwrap().0), CONTENT);
}

#[test]
fn the_catalogue_is_sound() {
    for set in SETS {
        assert_eq!(find(set.name).unwrap().name, set.name);
        assert!(set.base.starts_with("http") && !set.base.ends_with('/') && !set.files.is_empty());
        for file in set.files {
            let (sum, length) = match file.sum {
                Sum::Md5(sum) => (sum, 32),
                Sum::Sha256(sum) => (sum, 64),
            };
            let lower = sum.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            assert!(lower && sum.len() == length, "{}", file.name);
        }
    }
    assert!(find("imagenet").is_none());
}
