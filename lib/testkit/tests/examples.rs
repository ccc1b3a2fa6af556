//! Every example in the README and the man pages, run as it stands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use parm_testkit::tool;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// The ```sh blocks of a Markdown file.
fn of_markdown(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// The .EX blocks of a man page that call a tool, perhaps in a loop, or after writing what it reads.
fn of_man(text: &str) -> Vec<String> {
    let blocks = text.split(".EX\n").skip(1);
    let plain = |block: &str| block.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\");
    let blocks = blocks.map(|block| plain(block.split(".EE").next().unwrap_or_default()));
    blocks
        .filter(|block| ["parm-", "for ", "cat > "].iter().any(|word| block.trim_start().starts_with(word)))
        .collect()
}

/// Runs each block in a folder with the files that examples name.
fn run(name: &str, blocks: &[String]) {
    assert!(!blocks.is_empty(), "{name} has examples");
    let folder = tempfile::tempdir().unwrap();
    let bash = |script: &str| {
        let path = format!("{}:{}", tool::folder().display(), std::env::var("PATH").unwrap());
        let mut bash = Command::new("bash");
        // Servers that an example started would hold the pipes if it fails.
        let script = format!("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n{script}");
        bash.args(["-eu", "-o", "pipefail", "-c", &script]).current_dir(folder.path()).env("PATH", path);
        bash.output().unwrap()
    };
    let mut stage = format!("source '{}'", root().join("testdata/examples.sh").display());
    // Their sessions train the code, or the model as well.
    match name {
        "parm.7" => stage += "; rm -r code",
        "parm-examples.7" => stage += "; rm -r code base.*",
        _ => {}
    }
    for script in std::iter::once(&stage).chain(blocks) {
        let output = bash(script);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}:\n{script}\n{out}{err}");
    }
}

#[test]
fn readme() {
    let blocks = of_markdown(&fs::read_to_string(root().join("README.md")).unwrap());
    // It trains a code in the place of the one that is there for other pages.
    run("README.md", &[vec!["rm -r code".to_owned()], blocks].concat());
}

#[test]
fn man_pages() {
    let mut pages = 0;
    for entry in fs::read_dir(root().join("man")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Most subcommands have the examples of their tool.
        let own =
            path.extension().is_some_and(|extension| extension == "1") && path.with_extension("inc").exists();
        if own || ["parm.7", "parm-examples.7", "parm-scale.7"].contains(&name.as_str()) {
            run(&name, &of_man(&fs::read_to_string(&path).unwrap()));
            pages += 1;
        }
    }
    assert_eq!(pages, 16);
}

/// The words of a block that end as names of files in the current folder do, each with the word before it.
fn files(block: &str) -> Vec<(String, String)> {
    const ENDINGS: [&str; 9] =
        [".npy", ".npz", ".json", ".jsonl", ".safetensors", ".pt", ".pt2", ".csv", ".gz"];
    let text = block.replace("\\\n", " ").replace("> ", " > ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_file = |word: &str| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        plain && ENDINGS.iter().any(|ending| word.ends_with(ending))
    };
    let before = std::iter::once("").chain(words.iter().copied());
    before
        .zip(&words)
        .filter(|(_, word)| is_file(word))
        .map(|(a, b)| (a.to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn every_file_that_an_example_reads_is_made_or_described() {
    let man = root().join("man");
    let described = fs::read_to_string(man.join("parm-examples.7")).unwrap().replace("\\-", "-");
    for entry in fs::read_dir(&man).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "inc") {
            continue;
        }
        let mut made: Vec<String> = Vec::new();
        for block in of_man(&fs::read_to_string(&path).unwrap()) {
            for (before, file) in files(&block) {
                let is_written = [">", "-o", "--output", "--records", "--journal", "--confidence", "--kept"]
                    .contains(&&*before)
                    || (before == "--data" && file.strip_suffix(".csv").is_some())
                    || before.starts_with("--trace-events")
                    || before.starts_with("--calibrate")
                    || before.ends_with("-out")
                    || before.ends_with("--solved")
                    // Of parm-plot; others read a stream.
                    || (before == "--data" && file.split('.').next_back() == Some("csv"));
                let is_known = is_written || made.contains(&file) || described.contains(&file);
                assert!(is_known, "{}: {file} comes from nowhere:\n{block}", path.display());
                made.push(file);
            }
        }
    }
}
