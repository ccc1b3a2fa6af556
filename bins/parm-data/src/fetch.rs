//! Downloads of public data sets.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parm_cli::options::Common;
use parm_cli::signals::TemporaryFile;
use parm_cli::tools::data::Fetch;
use parm_cli::{Io, Progress, Usage};
use parm_data_sets::catalog::{self, SETS, Set};
use parm_data_sets::fetch::{self, Proxy, Source, Step, Web};

/// Fetches a set, or lists them; returns the line that --verbose prints.
pub(crate) fn fetch(options: &Fetch, common: &Common, io: &mut Io) -> Result<String> {
    let (Some(name), Some(output), false) = (&options.name, &options.output, options.list) else {
        return list(io);
    };
    let set = catalog::find(name).ok_or_else(|| {
        let names: Vec<_> = SETS.iter().map(|set| set.name).collect();
        Usage::error(format!("found the set '{name}', expected one of {}", names.join(", ")))
    })?;
    let source = if let Some(folder) = &options.from {
        Source::Folder(folder.clone())
    } else {
        let cache = options.cache.clone().or_else(|| io.cache.clone());
        let no_cache = || Usage::error("found no home directory for downloads: name one with --cache");
        let web = Web {
            timeout: Duration::from_secs(options.timeout),
            base: options.base_url.clone(),
            // The environment is read here, where the tool decides to use the network at all.
            proxy: Proxy::try_from_env(),
        };
        Source::Web(web, cache.ok_or_else(no_cache)?)
    };
    into_place(set, &source, output, &Progress::new(common, io, "bytes", Some(0)))?;
    Ok(format!("fetched {name} to {}", output.display()))
}

fn list(io: &mut Io) -> Result<String> {
    let line = |set: &Set| format!("{:<16} {:>5} MB  {}\n", set.name, set.megabytes, set.about);
    let text: String = SETS.iter().map(line).collect();
    io.print(&text)?;
    Ok(format!("listed {} sets", SETS.len()))
}

/// Unpacks a set beside `output`, and renames it when it is complete.
fn into_place(set: &Set, source: &Source, output: &Path, progress: &Progress) -> Result<()> {
    let name = || output.display();
    match fs::read_dir(output).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => bail!("{}: found files in it, expected an empty directory or none", name()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{}: cannot open", name())),
    }
    let parent = output.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("{}: cannot create", parent.display()))?;
    let temporary = tempfile::Builder::new()
        .prefix(".parm-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .with_context(|| format!("{}: cannot create a directory in it", parent.display()))?;
    let _removed_on_signal = TemporaryFile::new(temporary.path());
    fetch::fetch(set, source, temporary.path(), &mut |step| match step {
        Step::Expect(bytes) => progress.expect(bytes),
        Step::Came(bytes) => progress.advance(bytes),
    })?;
    fs::rename(temporary.path(), output).with_context(|| format!("{}: cannot create", name()))?;
    // It was renamed, and must not be removed.
    let _ = temporary.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parm_data_sets::catalog::{Published, Sum};

    #[test]
    fn a_set_comes_into_place_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let sum = Sum::Md5("900150983cd24fb0d6963f7d28e17f72");
        let files = [Published { name: "abc.txt", sum }, Published { name: "more.txt", sum }];
        let set = Set { name: "letters", about: "", megabytes: 0, base: "", files: &files };
        let progress = Progress::new(
            &Common::default(),
            &Io::new("parm-data", &[][..], vec![], vec![]),
            "bytes",
            Some(0),
        );
        fs::create_dir(at("from")).unwrap();
        fs::write(at("from/abc.txt"), "abc").unwrap();
        let install = |to: &str| into_place(&set, &Source::Folder(at("from")), &at(to), &progress);
        assert!(install("to").is_err(), "the second file is missing");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the first file was removed");
        fs::write(at("from/more.txt"), "abc").unwrap();
        fs::create_dir(at("empty")).unwrap();
        for to in ["deep/to", "empty"] {
            install(to).unwrap();
            assert_eq!(fs::read_to_string(at(to).join("more.txt")).unwrap(), "abc");
        }
        assert_eq!(fs::read_dir(at("deep")).unwrap().count(), 1);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode("deep/to"), mode("deep"), "as any other directory");
        assert!(install("empty").is_err(), "it is not empty any more");
    }
}
