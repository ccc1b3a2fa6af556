//! How the programs that need libtorch find it, and what they say where it is missing: they are copied as an
//! installation, from which the path of the build tree's libtorch is removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use parm_testkit::{safetensors, tool};
use tempfile::TempDir;

const PROGRAMS: [&str; 3] = ["parm-infer", "parm-train", "parm-serve"];

/// What a message about libtorch ends with.
const MEND: &str = "-m pip install 'torch==2.11.*'\n";

/// An installation, with a model and configurations of parm-serve in its folder.
struct Installed(TempDir);

impl Installed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for folder in ["bin", "lib/parm"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for program in PROGRAMS {
            fs::copy(tool::folder().join(program), root.join("bin").join(program)).unwrap();
        }
        let program = root.join("lib/parm/parm-libtorch");
        fs::copy(tool::folder().join("parm-libtorch"), &program).unwrap();
        let forget = Path::new(env!("CARGO_MANIFEST_DIR")).join("../torch/forget-build");
        assert!(Command::new(forget).arg(program).status().unwrap().success());
        fs::write(root.join("model"), safetensors::linear(&[4], 3, &[0.5; 12])).unwrap();
        let instances = [
            ("embedded", r#""files": {"deployed": "model"}, "instances": [{"embedded": {}}]"#),
            ("remote", r#""instances": [{"remote": {"url": "http://127.0.0.1:9"}}]"#),
        ];
        for (kind, instances) in instances {
            let text = format!(r#"{{"models": [{{"name": "m", "placement": "pooled", {instances}}}]}}"#);
            fs::write(root.join(kind).with_extension("json"), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, program: &str, arguments: &str) -> Output {
        let mut command = Command::new(self.path().join("bin").join(program));
        command.args(arguments.split_whitespace()).current_dir(self.path()).env_remove("LD_LIBRARY_PATH");
        command.output().unwrap()
    }

    /// The only line that a call says before it fails.
    fn refusal(&self, program: &str, arguments: &str) -> String {
        let output = self.run(program, arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), message.lines().count()), (Some(1), 1), "{message}");
        assert!(message.starts_with(&format!("{program}: ")), "{message}");
        message
    }

    /// Where a package `torch` is in the environment of Python 3.11.
    fn package_place(&self) -> PathBuf {
        let packages = self.path().join("lib/python3.11/site-packages");
        fs::create_dir_all(&packages).unwrap();
        packages.join("torch")
    }

    /// Makes the folder of that package.
    fn package(&self) -> PathBuf {
        let package = self.package_place();
        fs::create_dir_all(package.join("lib")).unwrap();
        package
    }
}

/// The libtorch of the build.
fn libtorch() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.libtorch/torch");
    std::env::var("LIBTORCH").map_or(own, PathBuf::from).canonicalize().unwrap()
}

#[test]
fn help_versions_and_wrong_options_need_no_libtorch() {
    let installed = Installed::new();
    fs::remove_file(installed.path().join("lib/parm/parm-libtorch")).unwrap();
    for program in PROGRAMS {
        for (arguments, code) in [("--help", 0), ("--version", 0), ("--no-such-option", 2), ("", 2)] {
            let output = installed.run(program, arguments);
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{program} {arguments}: {message}");
        }
    }
    assert_eq!(installed.run("parm-serve", "--check-config remote.json").status.code(), Some(0));
    let message = installed.refusal("parm-infer", "-m model");
    assert!(message.contains("found no parm-libtorch in "), "{message}");
}

#[test]
fn a_missing_libtorch_is_one_line_with_the_command_that_installs_it() {
    let installed = Installed::new();
    let calls = [
        ("parm-infer", "--describe -m model"),
        ("parm-train", "base --data x.npy --labels y.npy -o m"),
        ("parm-serve", "--check-config embedded.json"),
    ];
    for (program, arguments) in calls {
        let message = installed.refusal(program, arguments);
        assert!(message.contains("found no libtorch_cpu.so") && message.ends_with(MEND), "{message}");
    }
    // The Python of the environment is named.
    let python = installed.path().join("bin/python3");
    fs::write(&python, "").unwrap();
    let message = installed.refusal("parm-infer", "--describe -m model");
    assert!(message.ends_with(&format!("{} {MEND}", python.canonicalize().unwrap().display())), "{message}");
}

#[test]
fn another_release_of_libtorch_is_one_line_with_the_command_that_replaces_it() {
    let installed = Installed::new();
    let package = installed.package();
    // To list libraries, the loader needs no more of one than that it is a library.
    fs::copy(libtorch().join("lib/libc10.so"), package.join("lib/libtorch_cpu.so")).unwrap();
    fs::write(package.join("version.py"), "__all__ = []\n__version__ = '2.12.1+cu130'\n").unwrap();
    let message = installed.refusal("parm-infer", "--describe -m model");
    assert!(message.contains("found PyTorch 2.12.1+cu130 in ") && message.ends_with(MEND), "{message}");
}

#[test]
fn a_libtorch_that_lacks_a_library_is_one_line_with_its_name() {
    let installed = Installed::new();
    let package = installed.package();
    symlink(libtorch().join("lib/libtorch_cpu.so"), package.join("lib/libtorch_cpu.so")).unwrap();
    let message = installed.refusal("parm-infer", "--describe -m model");
    assert!(
        message.contains("found no libc10.so, which libtorch needs") && message.ends_with(MEND),
        "{message}"
    );
}

#[test]
fn libtorch_is_found_in_the_environment_of_any_python() {
    let installed = Installed::new();
    let folders: Vec<String> = (10..=14)
        .map(|minor| format!("lib/python3.{minor}/site-packages"))
        .chain(["lib/python3.11/dist-packages".to_owned(), String::new()])
        .collect();
    for folder in folders {
        let package = installed.path().join(&folder).join("torch");
        fs::create_dir_all(package.parent().unwrap()).unwrap();
        symlink(libtorch(), &package).unwrap();
        let output = installed.run("parm-infer", "--describe -m model");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{folder}: {message}");
        fs::remove_file(package).unwrap();
    }
    let message = installed.refusal("parm-infer", "--describe -m model");
    assert!(message.ends_with(MEND), "{message}");
}

#[test]
fn the_version_has_the_commit_that_the_installation_names() {
    let installed = Installed::new();
    let version = env!("CARGO_PKG_VERSION");
    let says = |program: &str| String::from_utf8(installed.run(program, "--version").stdout).unwrap();
    assert_eq!(says("parm-infer"), format!("parm-infer {version}\n"));
    let share = installed.path().join("share/parm");
    fs::create_dir_all(&share).unwrap();
    for (text, commit) in [("\n", ""), ("1234abc-dirty\n", " (commit 1234abc-dirty)")] {
        fs::write(share.join("commit"), text).unwrap();
        for program in PROGRAMS {
            assert_eq!(says(program), format!("{program} {version}{commit}\n"));
        }
    }
}

#[test]
fn a_verbose_version_tells_the_libtorch_and_the_gpu() {
    let installed = Installed::new();
    let says = |arguments: &str| {
        let output = installed.run("parm-train", arguments);
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let version = format!("parm-train {}", env!("CARGO_PKG_VERSION"));
    let without = says("--version --verbose");
    assert_eq!((without.len(), &without[0], &*without[2]), (3, &version, "GPU: none"));
    assert!(without[1].starts_with("libtorch: found no libtorch_cpu.so"), "{without:?}");
    assert!(format!("{}\n", without[1]).ends_with(MEND), "{without:?}");
    symlink(libtorch(), installed.package_place()).unwrap();
    for arguments in ["--version --verbose", "-v --version", "-vV", "-Vv"] {
        let with = says(arguments);
        let library = libtorch().join("lib/libtorch_cpu.so").canonicalize().unwrap();
        assert!(with[1].starts_with("libtorch 2.11"), "{arguments}: {with:?}");
        assert!(with[1].ends_with(&format!(" ({})", library.display())), "{arguments}: {with:?}");
        assert!(
            with.len() == 3 && with[0] == version && with[2].starts_with("GPU: "),
            "{arguments}: {with:?}"
        );
    }
}
