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

/// The .EX blocks of a man page that call a tool.
fn of_man(text: &str) -> Vec<String> {
    let blocks = text.split(".EX\n").skip(1);
    let plain = |block: &str| block.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\");
    let blocks = blocks.map(|block| plain(block.split(".EE").next().unwrap_or_default()));
    blocks.filter(|block| block.trim_start().starts_with("parm-")).collect()
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
    if name == "parm.7" {
        // Its session trains the code itself.
        stage += "; rm -r code";
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
