//! Archives, honest and hostile.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use parm_data_sets::Fault;
use parm_data_sets::archive::{ArchiveError, LIMITS, Limits, unpack};
use tar::{Builder, EntryType, Header};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An entry of this name, exactly.
fn entry(kind: EntryType, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    let bytes = builder.into_inner().unwrap();
    // Without the end, so that more can follow.
    bytes[..bytes.len() - 1024].to_vec()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, name, "", content)
}

/// Unpacks an archive of these entries; gives what was made, with contents, or what was refused.
fn untar(entries: &[Vec<u8>], limits: Limits) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("x.tar.gz");
    fs::write(&archive, gzip(&[entries.concat(), vec![0; 1024]].concat())).unwrap();
    let into = folder.path().join("deep/into");
    fs::create_dir_all(&into).unwrap();
    let outcome = unpack(&archive, &into, limits);
    let outside = fs::read_dir(folder.path()).unwrap().count()
        + fs::read_dir(folder.path().join("deep")).unwrap().count();
    assert_eq!(outside, 3, "nothing is made outside");
    match outcome {
        Ok(()) => Ok(walk(&into, "")),
        Err(error) => match error.fault {
            Fault::Archive(fault) => {
                assert_eq!(error.path, archive);
                Err(fault)
            }
            other => panic!("{other:?}"),
        },
    }
}

fn walk(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            found.extend(walk(&path, &format!("{name}/")));
        } else {
            found.push((name, fs::read(path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn honest_archives_are_unpacked() {
    let entries = [
        entry(EntryType::Directory, "./", "", b""),
        entry(EntryType::Directory, "a/", "", b""),
        entry(EntryType::XGlobalHeader, "pax_global_header", "", b"20 comment=whatever\n"),
        file("./a/x", b"one"),
        file("b/c/y", b"two"),
    ];
    let expected = [("a/x".to_owned(), b"one".to_vec()), ("b/c/y".to_owned(), b"two".to_vec())];
    assert_eq!(untar(&entries, LIMITS).unwrap(), expected);
}

#[test]
fn hostile_archives_are_refused() {
    let refused = |entries: &[Vec<u8>]| untar(entries, LIMITS).unwrap_err();
    for name in ["../x", "a/../../x", "/tmp/parm-hostile", "a/b/../../../x"] {
        assert_eq!(refused(&[file(name, b"x")]), ArchiveError::Outside(name.into()));
        let directory = entry(EntryType::Directory, name, "", b"");
        assert_eq!(refused(&[directory]), ArchiveError::Outside(name.into()));
    }
    let kind = |name: &str, kind| ArchiveError::Kind { entry: name.into(), kind };
    assert_eq!(refused(&[entry(EntryType::Symlink, "a", "/etc", b"")]), kind("a", "link"));
    assert_eq!(refused(&[entry(EntryType::Link, "a", "/etc/passwd", b"")]), kind("a", "link"));
    assert_eq!(refused(&[entry(EntryType::Symlink, "a", "b", b"")]), kind("a", "link"), "even inside");
    assert_eq!(refused(&[entry(EntryType::Fifo, "a", "", b"")]), kind("a", "pipe"));
    assert_eq!(refused(&[entry(EntryType::Char, "a", "", b"")]), kind("a", "device"));
    assert_eq!(refused(&[file("a", b"1"), file("./a", b"2")]), ArchiveError::Twice("./a".into()));
}

#[test]
fn what_an_archive_makes_is_bounded() {
    let entries = [file("a", &[0; 600]), file("b", &[0; 600])];
    assert!(untar(&entries, Limits { bytes: 1200, entries: 2 }).is_ok());
    let bytes = untar(&entries, Limits { bytes: 1199, entries: 2 }).unwrap_err();
    assert_eq!(bytes, ArchiveError::TooLarge(1199));
    let count = untar(&entries, Limits { bytes: 1200, entries: 1 }).unwrap_err();
    assert_eq!(count, ArchiveError::TooMany(1));
    // Refused by what its header declares, before any of it is written.
    let mut large = file("a", b"");
    large[124..136].copy_from_slice(b"77777777777\0");
    let mut header = Header::from_byte_slice(&large[..512]).clone();
    header.set_cksum();
    assert!(matches!(
        untar(&[header.as_bytes().to_vec()], Limits { bytes: 1000, entries: 9 }),
        Err(ArchiveError::TooLarge(1000))
    ));
}

/// Unpacks one file of this name.
fn one(name: &str, bytes: &[u8], limits: Limits) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("into");
    fs::create_dir(&into).unwrap();
    fs::write(folder.path().join(name), bytes).unwrap();
    unpack(&folder.path().join(name), &into, limits).map_err(|error| error.fault)?;
    Ok(walk(&into, ""))
}

#[test]
fn files_are_unpacked_by_the_ending_of_their_name() {
    let content = b"some content".to_vec();
    assert_eq!(one("x-ubyte.gz", &gzip(&content), LIMITS).unwrap(), [("x-ubyte".into(), content.clone())]);
    assert_eq!(one("x.txt", &content, LIMITS).unwrap(), [("x.txt".into(), content.clone())]);
    let mut tar = file("x", &content);
    tar.extend([0; 1024]);
    assert_eq!(one("x.tgz", &gzip(&tar), LIMITS).unwrap(), [("x".into(), content.clone())]);
    let bounded = one("x.gz", &gzip(&content), Limits { bytes: 11, entries: 9 });
    assert!(matches!(bounded, Err(Fault::Archive(ArchiveError::TooLarge(11)))));
    assert!(one("x.gz", &gzip(&content), Limits { bytes: 12, entries: 9 }).is_ok());
}

#[test]
fn truncated_archives_are_refused() {
    let content: Vec<u8> = (0..5000_u32).map(|i| (i * i % 251) as u8).collect();
    let whole = gzip(&content);
    for cut in [0, 5, 100, whole.len() - 4] {
        let error = one("x.gz", &whole[..cut], LIMITS);
        assert!(matches!(error, Err(Fault::Io("unpack", _))), "cut at {cut}: {error:?}");
    }
    let tar = file("x", &content);
    for cut in [100, 512, 600, 4000] {
        let error = one("x.tar.gz", &gzip(&tar[..cut]), LIMITS);
        let expected = matches!(
            error,
            Err(Fault::Io("read" | "unpack", _) | Fault::Archive(ArchiveError::Truncated { .. }))
        );
        assert!(expected, "cut at {cut}: {error:?}");
    }
    let error = one("x.tar.gz", &gzip(&tar[..600]), LIMITS);
    println!("{error:?}");
    let whole = gzip(&tar);
    assert!(matches!(one("x.tar.gz", &whole[..whole.len() - 9], LIMITS), Err(Fault::Io(..))));
}
