//! What a run was called with and what it read, for the reports that describe it: [`MadeBy`].
//!
//! The options are those of clap, with their defaults; what clap cannot know, such as the rate of a recipe, the tool
//! adds by [`Io::resolve`]. Streams are hashed while they are read; files that are read otherwise, such as models, are
//! read once more by [`Io::note_file`].

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueEnum};
use parm::hash::{Hashing, sha256};
use parm::made_by::{MadeBy, MadeFrom};
use serde_json::{Number, Value};

use crate::io::Io;
use crate::version;

/// Options whose values are secrets, as `X-API-Key: VALUE`: of these only the name is kept.
const SECRET: [&str; 1] = ["header"];

/// What the process was called with.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    command: String,
    options: BTreeMap<String, Value>,
}

impl Invocation {
    /// A command line, and the options that clap found in it.
    #[must_use]
    pub fn new(words: impl IntoIterator<Item = OsString>, command: &Command, matches: &ArgMatches) -> Self {
        let (mut command, mut matches) = (command, matches);
        while let Some((name, inner)) = matches.subcommand() {
            let Some(subcommand) = command.find_subcommand(name) else { break };
            (command, matches) = (subcommand, inner);
        }
        let mut secrets = Vec::new();
        let mut options = BTreeMap::new();
        for argument in command.get_arguments() {
            let takes_part = !matches!(
                argument.get_action(),
                ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
            );
            let raw = matches.try_get_raw(argument.get_id().as_str()).ok().flatten();
            let texts = raw.into_iter().flatten().map(|text| text.to_string_lossy().into_owned());
            let mut texts: Vec<String> = texts.collect();
            if argument.get_long().is_some_and(|long| SECRET.contains(&long)) {
                secrets.extend(texts.iter().cloned());
                texts = texts.iter().map(|text| redacted(text)).collect();
            }
            if takes_part {
                options.insert(name(argument), value(argument, texts));
            }
        }
        let words = words.into_iter().map(|word| {
            let word = word.to_string_lossy().into_owned();
            quoted(&secrets.iter().fold(word, |word, secret| word.replace(secret, &redacted(secret))))
        });
        Self { command: words.collect::<Vec<_>>().join(" "), options }
    }
}

/// The name of an option without its dashes, or that of a positional argument in the help.
fn name(argument: &Arg) -> String {
    let value_name = || Some(argument.get_value_names()?.first()?.to_string());
    let id = || argument.get_id().to_string();
    let long = argument.get_long().map(str::to_owned);
    long.or_else(|| value_name().filter(|_| argument.is_positional())).unwrap_or_else(id)
}

/// The value of an option: a list if it may be given several times or has several parts, null if there is none.
fn value(argument: &Arg, texts: Vec<String>) -> Value {
    let mut values = texts.into_iter().map(|text| single(argument.get_value_parser(), text)).peekable();
    let is_list =
        matches!(argument.get_action(), ArgAction::Append) || argument.get_value_delimiter().is_some();
    if is_list && values.peek().is_some() { values.collect() } else { values.next().unwrap_or_default() }
}

/// A number or a truth value where the option takes one, otherwise text.
fn single(parser: &ValueParser, text: String) -> Value {
    let takes = |types: &[TypeId]| types.iter().any(|of| parser.type_id() == *of);
    let integer = || text.parse::<u64>().ok().map(Value::from);
    let float = || Number::from_f64(text.parse().ok()?).map(Value::from);
    let known = if takes(&[TypeId::of::<bool>()]) {
        text.parse().ok().map(Value::Bool)
    } else if takes(&[
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<NonZeroUsize>(),
    ]) {
        integer()
    } else if takes(&[TypeId::of::<f64>()]) {
        float()
    } else {
        None
    };
    known.unwrap_or(Value::String(text))
}

/// A header without its value.
fn redacted(header: &str) -> String {
    format!("{}: …", header.split(':').next().unwrap_or_default())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The inputs that were opened until now, by their paths.
type Inputs = Arc<Mutex<Vec<(PathBuf, MadeFrom)>>>;

/// What an [`Io`] knows of its run.
#[derive(Default)]
pub(crate) struct Provenance {
    invocation: Invocation,
    /// None if inputs are not recorded.
    inputs: Option<Inputs>,
}

impl From<Invocation> for Provenance {
    fn from(invocation: Invocation) -> Self {
        Self { invocation, inputs: None }
    }
}

fn edit<T>(inputs: &Inputs, change: impl FnOnce(&mut Vec<(PathBuf, MadeFrom)>) -> T) -> T {
    change(&mut inputs.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Adds an input, and returns its place; none if it is a file that is there already.
fn add(inputs: &Inputs, path: &Path, pipe: bool) -> Option<usize> {
    edit(inputs, |inputs| {
        if !pipe && inputs.iter().any(|(known, _)| known == path) {
            return None;
        }
        inputs.push((path.to_owned(), MadeFrom { name: path.display().to_string(), sha256: None, pipe }));
        Some(inputs.len() - 1)
    })
}

impl Io {
    /// Records the inputs from now on, for [`made_by`](Self::made_by). Hashing takes time: tools call this only if they
    /// write a report.
    pub fn record_inputs(&mut self) {
        self.provenance.inputs.get_or_insert_default();
    }

    /// Replaces the value of an option by what the tool makes of it, such as a default that depends on the data.
    pub fn resolve(&mut self, option: &str, value: impl Into<Value>) {
        self.provenance.invocation.options.insert(option.to_owned(), value.into());
    }

    /// As [`resolve`](Self::resolve), by a word that the option takes.
    pub fn resolve_choice(&mut self, option: &str, value: &impl ValueEnum) {
        self.resolve(option, value.to_possible_value().map(|value| value.get_name().to_owned()));
    }

    /// Records a file that is not read as a stream, such as a model, or all files of a folder, such as a code
    /// directory. Reads them; one that cannot be read has no hash.
    pub fn note_file(&self, path: &Path) {
        let Some(inputs) = &self.provenance.inputs else { return };
        let mut files = vec![path.to_owned()];
        if let Ok(entries) = fs::read_dir(path) {
            files =
                entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| file.is_file()).collect();
            files.sort();
        }
        for file in files {
            let pipe = file.exists() && !file.is_file();
            add(inputs, &file, pipe);
            // What is read from a pipe is lost to the tool; the tool itself says which file cannot be read.
            if !pipe {
                let _ = self.sha256(&file);
            }
        }
    }

    /// SHA-256 of a file, which is recorded. A file that was read already is not read again.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn sha256(&self, path: &Path) -> Result<String> {
        let inputs = self.provenance.inputs.clone().unwrap_or_default();
        let known =
            |inputs: &mut Vec<(PathBuf, MadeFrom)>| inputs.iter().position(|(known, _)| known == path);
        let place = add(&inputs, path, false).or_else(|| edit(&inputs, known));
        let hash = edit(&inputs, |inputs| inputs.get(place?)?.1.sha256.clone());
        if let Some(hash) = hash {
            return Ok(hash);
        }
        let hash = sha256(path).with_context(|| format!("{}: cannot read", path.display()))?;
        edit(&inputs, |inputs| {
            if let Some((_, input)) = place.and_then(|place| inputs.get_mut(place)) {
                input.sha256 = Some(hash.clone());
            }
        });
        Ok(hash)
    }

    /// A stream that is recorded under this path, if inputs are. `pipe` says that it cannot be read again.
    pub(crate) fn recorded(
        &self,
        path: &Path,
        pipe: bool,
        source: impl Read + Send + 'static,
    ) -> Box<dyn Read + Send> {
        let place =
            self.provenance.inputs.as_ref().and_then(|inputs| Some((add(inputs, path, pipe)?, inputs)));
        let Some((place, inputs)) = place else { return Box::new(source) };
        let inputs = Arc::clone(inputs);
        Box::new(Hashing::new(source, move |hash| {
            edit(&inputs, |inputs| inputs[place].1.sha256 = Some(hash));
        }))
    }

    /// What the report of this run says of it. Files that were not read to their end are read here.
    #[must_use]
    pub fn made_by(&self) -> MadeBy {
        let Invocation { command, options } = self.provenance.invocation.clone();
        let inputs = self.provenance.inputs.as_ref().map(|inputs| edit(inputs, |inputs| inputs.clone()));
        let input = |(path, mut input): (PathBuf, MadeFrom)| {
            if input.sha256.is_none() && !input.pipe {
                input.sha256 = sha256(&path).ok();
            }
            input
        };
        let inputs = inputs.unwrap_or_default().into_iter().map(input).collect();
        MadeBy { version: version::VERSION.to_owned(), commit: version::commit(), command, options, inputs }
    }
}

/// True unless it is a regular file.
pub(crate) fn is_pipe(file: &File) -> bool {
    !file.metadata().is_ok_and(|data| data.is_file())
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::CommandFactory;
    use serde_json::json;

    use super::*;
    use crate::input::Input;
    use crate::tools::load::Load;
    use crate::tools::score::Score;
    use crate::tools::sim::Sim;
    use crate::tools::train::Train;
    use parm::npy::Window;

    fn invocation<T: CommandFactory>(words: &[&str]) -> Invocation {
        let mut command = T::command();
        let matches = command.try_get_matches_from_mut(words).unwrap();
        Invocation::new(words.iter().map(OsString::from), &command, &matches)
    }

    #[test]
    fn every_option_has_its_value_whether_it_is_given_or_a_default() {
        let options =
            invocation::<Score>(&["parm-score", "--labels", "y.npy", "-f", "0.25", "-k", "4"]).options;
        for (name, value) in [
            ("labels", json!("y.npy")),
            ("unavailable-fraction", json!(0.25)),
            ("k", json!(4)),
            ("r", json!(1)),
            ("top", json!([1, 2, 5, 10, 20])),
            ("seed", json!(0)),
            ("json", json!(false)),
            ("available", json!(null)),
            ("PREDICTIONS.npy", json!("-")),
            ("progress", json!("auto")),
        ] {
            assert_eq!(options.get(name), Some(&value), "{name}");
        }
        let all = Score::command().get_arguments().count();
        assert_eq!(options.len(), all, "{options:?}");
    }

    #[test]
    fn a_subcommand_has_its_own_options_and_those_of_all_tools() {
        let words =
            ["parm-train", "base", "--data", "x.npy", "--labels", "y.npy", "-o", "m", "--seed", "7", "-v"];
        let options = invocation::<Train>(&words).options;
        for (name, value) in [
            ("seed", json!(7)),
            ("verbose", json!(true)),
            ("validation", json!("0.1")),
            ("model", json!("mlp")),
            ("hidden", json!(null)),
            ("epochs", json!(null)),
        ] {
            assert_eq!(options.get(name), Some(&value), "{name}");
        }
        let advise =
            ["parm-sim", "advise", "c.json", "--accuracy", "a", "--accuracy", "b", "--rates", "100,200"];
        let options = invocation::<Sim>(&advise).options;
        let lists = ["accuracy", "rate"].map(|name| &options[name]);
        assert_eq!(lists, [&json!(["a", "b"]), &json!([100.0, 200.0])]);
    }

    #[test]
    fn the_command_line_is_quoted_for_a_shell() {
        let words = ["parm-score", "--labels", "it's y.npy", "a-b_c.npy"];
        assert_eq!(invocation::<Score>(&words).command, r"parm-score --labels 'it'\''s y.npy' a-b_c.npy");
    }

    #[test]
    fn keys_in_headers_are_not_kept() {
        for header in [&["--header", "X-API-Key: secret"][..], &["--header=Authorization:secret"]] {
            let words = [&["parm-load", "http://x", "-m", "m", "--rate", "1"], header].concat();
            let Invocation { command, options } = invocation::<Load>(&words);
            let text = format!("{command} {options:?}");
            assert!(!text.contains("secret"), "{text}");
            let name = header[header.len() - 1].trim_start_matches("--header=").split(':').next().unwrap();
            assert_eq!(options["header"], json!([format!("{name}: …")]));
            assert!(command.contains(&format!("{name}: …")), "{command}");
        }
    }

    fn io(stdin: &'static [u8]) -> Io {
        Io::new("parm-test", stdin, io::sink(), io::sink())
    }

    /// More than is read at once, and its SHA-256.
    static ZEROS: &[u8] = &[0; 1 << 20];
    const HASH: &str = "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58";

    #[test]
    fn inputs_are_hashed_as_they_are_read_and_in_full_if_they_are_not_read_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["read", "half", "noted"].map(|name| folder.path().join(name));
        for path in &paths {
            fs::write(path, ZEROS).unwrap();
        }
        let mut io = io(ZEROS);
        io.record_inputs();
        let [read, half, noted] = paths.clone();
        for (input, bytes) in
            [(Input::Stdin, 2 << 20), (Input::Path(read.clone()), 2 << 20), (Input::Path(half), 1)]
        {
            input.bytes(&mut io, Window::Normal).unwrap().take(bytes).read_to_end(&mut Vec::new()).unwrap();
        }
        io.note_file(&noted);
        // What was read is not read again.
        fs::write(&read, "other").unwrap();
        assert_eq!(io.sha256(&read).unwrap(), HASH);
        let inputs = io.made_by().inputs;
        let names = paths.map(|path| path.display().to_string());
        let expected = [("-", true), (&*names[0], false), (&*names[1], false), (&*names[2], false)]
            .map(|(name, pipe)| MadeFrom { name: name.into(), sha256: Some(HASH.into()), pipe });
        assert_eq!(inputs, expected);
    }

    #[test]
    fn a_pipe_that_is_not_read_to_its_end_has_no_hash() {
        let mut io = io(ZEROS);
        io.record_inputs();
        Input::Stdin.bytes(&mut io, Window::Normal).unwrap().read_exact(&mut [0; 1]).unwrap();
        assert_eq!(io.made_by().inputs, [MadeFrom { name: "-".into(), sha256: None, pipe: true }]);
    }

    #[test]
    fn a_folder_is_noted_file_by_file_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["code.json", "b", "run/metrics.jsonl"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, ZEROS).unwrap();
        }
        let mut io = io(b"");
        io.record_inputs();
        io.note_file(folder.path());
        io.note_file(folder.path());
        io.note_file(&folder.path().join("missing"));
        let inputs = io.made_by().inputs;
        let found: Vec<_> = inputs
            .iter()
            .map(|input| (input.name.rsplit('/').next().unwrap(), input.sha256.as_deref()))
            .collect();
        assert_eq!(found, [("b", Some(HASH)), ("code.json", Some(HASH)), ("missing", None)]);
    }

    #[test]
    fn inputs_are_not_hashed_unless_a_report_is_written() {
        let mut io = io(ZEROS);
        Input::Stdin.bytes(&mut io, Window::Normal).unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(io.made_by().inputs, []);
    }
}
