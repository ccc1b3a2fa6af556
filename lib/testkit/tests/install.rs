//! `make install`: what is installed runs from anywhere, without the build tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

#[test]
fn installed_tools_run_without_the_build_tree() {
    let folder = tempfile::tempdir().unwrap();
    let libtorch = std::env::var("LIBTORCH").map_or_else(|_| root().join(".libtorch/torch"), PathBuf::from);
    let install = |destination: &Path, link: &str| {
        let output = Command::new("make")
            .args(["install-files", "PREFIX=/usr", &format!("DESTDIR={}", destination.display())])
            .arg(format!("LINK_LIBTORCH={link}"))
            .current_dir(root())
            .env("LIBTORCH", &libtorch)
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let destination = folder.path().join("stage");
    install(&destination, "");
    for file in [
        "usr/share/man/man1/parm-encode.1",
        "usr/share/man/man7/parm.7",
        "usr/share/man/man5/parm-formats.5",
        "usr/share/bash-completion/completions/parm-train",
        "usr/share/zsh/site-functions/_parm-infer",
        "usr/share/fish/vendor_completions.d/parm-score.fish",
    ] {
        assert!(destination.join(file).exists(), "{file}");
    }

    // The loader takes libtorch from what was installed, not from where it was built.
    let ldd = Command::new("ldd").arg(destination.join("usr/lib/parm/parm-libtorch")).output().unwrap();
    let ldd = String::from_utf8_lossy(&ldd.stdout).into_owned();
    // Addresses are hexadecimal, and may spell c10 as well.
    let is_torch =
        |line: &&str| ["libtorch", "libc10"].iter().any(|name| line.trim_start().starts_with(name));
    let torch: Vec<_> = ldd.lines().filter(is_torch).collect();
    assert!(!torch.is_empty(), "{ldd}");
    let inside = fs::canonicalize(&destination).unwrap().display().to_string();
    for line in torch {
        let path = line.split("=> ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let real = fs::canonicalize(path).unwrap_or_default().display().to_string();
        assert!(real.starts_with(&inside), "{line}");
    }

    // A pipe, from another folder and after a move of the whole installation; with the build tree and
    // its libtorch hidden, where this process may do that.
    let moved = folder.path().join("elsewhere");
    fs::rename(&destination, &moved).unwrap();
    let digits = root().join("testdata/digits");
    let script = format!(
        "parm-train base --data {0}/train.npy --labels {0}/train-labels.npy --epochs 1 --threads 1 --force -o m.safetensors && \
         parm-encode --code sum -k 2 {0}/test.npy | parm-infer -m m.safetensors | parm-data info",
        digits.display()
    );
    let run = |binaries: &Path, hidden: &[PathBuf]| {
        let hide = |path: &PathBuf| format!("mount -t tmpfs none '{}' && ", path.display());
        let hide = hidden.iter().map(hide).collect::<Vec<_>>().concat();
        let may_hide =
            Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
        let mut shell = Command::new(if may_hide { "unshare" } else { "env" });
        let output = shell
            .args(if may_hide { ["-m", "bash"].as_slice() } else { ["bash"].as_slice() })
            .args(["-eu", "-o", "pipefail", "-c", &(if may_hide { hide } else { String::new() } + &script)])
            .current_dir(folder.path())
            .env("PATH", format!("{}:/usr/bin:/bin", binaries.display()))
            .env_remove("LD_LIBRARY_PATH")
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains("240 rows of f4[10]"), "{out}{err}");
    };
    run(&moved.join("usr/bin"), &[root().join("target"), libtorch.clone()]);

    // Programs and what they write name the commit, if there is one.
    let commit = fs::read_to_string(moved.join("usr/share/parm/commit")).unwrap();
    let commit = Some(commit.trim()).filter(|commit| !commit.is_empty());
    let version = Command::new(moved.join("usr/bin/parm-encode")).arg("--version").output().unwrap();
    let expected = commit.map_or_else(String::new, |commit| format!(" (commit {commit})"));
    let expected = format!("parm-encode {}{expected}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
    let made_by = fs::read(folder.path().join("m.run/made_by.json")).unwrap();
    let made_by: serde_json::Value = serde_json::from_slice(&made_by).unwrap();
    assert_eq!(made_by["made_by"]["commit"].as_str(), commit);

    let linked = folder.path().join("linked");
    install(&linked, "1");
    assert!(fs::symlink_metadata(linked.join("usr/lib/parm/libtorch_cpu.so")).unwrap().is_symlink());
    run(&linked.join("usr/bin"), &[root().join("target")]);
}
