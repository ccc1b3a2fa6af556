//! What the programs are linked with, and how fast they start.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use object::read::elf::{Dyn, ElfFile64, FileHeader};
use object::{Endianness, elf};
use parm_testkit::{Tool, tool};

/// The programs that users call, which must start without libtorch.
const LIGHT: [&str; 12] = [
    "parm-encode",
    "parm-decode",
    "parm-data",
    "parm-score",
    "parm-compare",
    "parm-plot",
    "parm-report",
    "parm-load",
    "parm-sim",
    "parm-infer",
    "parm-train",
    "parm-serve",
];

/// The libraries that an ELF file asks the loader for.
fn needed(tool: &str) -> Vec<String> {
    let bytes = std::fs::read(tool::folder().join(tool)).expect("the tool is built");
    let file = ElfFile64::<Endianness>::parse(&*bytes).expect("an ELF file");
    let (endian, data) = (file.endian(), &*bytes);
    let sections = file.elf_header().sections(endian, data).expect("sections");
    let (entries, link) = sections.dynamic(endian, data).expect("readable").expect("dynamically linked");
    let strings = sections.strings(endian, data, link).expect("its strings");
    let needed = entries.iter().filter(|entry| entry.d_tag(endian) == elf::DT_NEEDED);
    let name = |entry: &elf::Dyn64<Endianness>| entry.string(endian, strings).expect("a name").to_vec();
    needed.map(|entry| String::from_utf8_lossy(&name(entry)).into_owned()).collect()
}

fn is_libtorch(library: &str) -> bool {
    ["torch", "c10", "cuda"].iter().any(|part| library.contains(part))
}

#[test]
fn light_tools_do_not_link_libtorch() {
    for tool in LIGHT {
        let libraries = needed(tool);
        assert!(!libraries.is_empty(), "{tool}: the test reads the wrong place");
        assert!(!libraries.iter().any(|library| is_libtorch(library)), "{tool} needs {libraries:?}");
    }
    assert!(
        needed("parm-libtorch").iter().any(|library| is_libtorch(library)),
        "the test would not notice libtorch"
    );
}

#[test]
fn the_program_with_libtorch_links_nothing_of_cuda() {
    let libraries = needed("parm-libtorch");
    assert!(!libraries.iter().any(|library| library.contains("cuda")), "it needs {libraries:?}");
}

#[test]
fn light_tools_answer_at_once() {
    for tool in LIGHT {
        assert_quick(tool, "--version");
    }
}

#[test]
fn a_server_without_embedded_models_starts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    let text = r#"{"models": [{"name": "m", "placement": "pooled",
        "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}},
        "instances": [{"remote": {"url": "http://127.0.0.1:9"}}]}]}"#;
    std::fs::write(&config, text).unwrap();
    assert_quick("parm-serve", &format!("--check-config -q {}", config.display()));
}

/// Asserts that a call takes less than 20 ms.
fn assert_quick(tool: &str, arguments: &str) {
    // The best of several: the machine may be busy, the tool may not be slow.
    let best = (0..10)
        .map(|_| {
            let begin = Instant::now();
            let outcome = Tool::new(tool).args(arguments).run();
            assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
            begin.elapsed()
        })
        .min();
    assert!(best < Some(Duration::from_millis(20)), "{tool} {arguments} took {best:?}");
}

/// The names of all crates that a crate of this workspace is linked with.
fn linked(name: &str) -> BTreeSet<String> {
    linked_to_depth(name, "99")
}

/// The names of those that are so few dependencies away.
fn linked_to_depth(name: &str, depth: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut tree = Command::new(cargo);
    tree.args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "-p", name]);
    tree.args(["--depth", depth]);
    let output = tree.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

#[test]
fn no_crate_is_linked_with_what_it_does_not_use() {
    let network = ["tokio", "hyper", "h2", "axum", "tonic"];
    let cases: [(&str, &[&str]); 10] = [
        ("parm", &["tokio", "clap", "tch"]),
        ("parm-engine", &["tokio", "clap", "tch"]),
        ("parm-workload", &network),
        ("parm-config", &network),
        ("parm-sim", &network),
        ("parm-oip", &["clap", "tch", "parm-serving"]),
        ("parm-load", &["tch", "parm-serving"]),
        ("parm-infer", &["tch", "parm-serving"]),
        ("parm-train", &["tch", "tokio"]),
        ("parm-serve", &["tch"]),
    ];
    for (name, without) in cases {
        let linked = linked(name);
        assert!(linked.contains(name) && linked.len() > 5, "{name}: {linked:?}");
        let found: Vec<_> = without.iter().filter(|other| linked.contains(**other)).collect();
        assert!(found.is_empty(), "{name} is linked with {found:?}");
    }
    assert!(linked("parm-serve").contains("axum"), "the list is complete");
    let own = linked_to_depth("parm-engine", "1");
    assert!(own.contains("parm") && !own.contains("rand"), "the engine draws nothing: {own:?}");
}
