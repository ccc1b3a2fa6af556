//! `parm-train export` as a process.

use std::fs;
use std::path::Path;
use std::process::Command;

use parm_testkit::npy::{f4, f4_values};
use parm_testkit::{Tool, safetensors, tool};

#[test]
fn a_full_disk_is_an_error_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let weights = vec![0.5; 300 * 100];
    fs::write(path.join("m.safetensors"), safetensors::linear(&[300], 100, &weights)).unwrap();
    let ended = Tool::new("parm-train").args("export m.safetensors -o /dev/full").within(path).run();
    assert!(ended.code == 1 && ended.stderr.contains("/dev/full"), "{}", ended.stderr);
    // A limit of the system on the size of files stands for a full disk. The model is saved whole before.
    let program = tool::folder().join("parm-train");
    for places in ["-o m.pt", "--triton models"] {
        let limited = format!("ulimit -f 8; exec \"$0\" export m.safetensors {places}");
        let ended =
            Command::new("sh").args(["-c", &limited]).arg(&program).current_dir(path).output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), message.lines().count()), (Some(1), 1), "{places}: {message}");
        assert!(message.contains("File too large"), "{places}: {message}");
    }
    assert_eq!(fs::read_dir(path.join("models/m/1")).unwrap().count(), 0);
    let mut left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["m.safetensors", "models"]);
}

#[test]
fn an_export_goes_where_its_name_leads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("m.safetensors"), safetensors::linear(&[2], 1, &[1., 1.])).unwrap();
    std::os::unix::fs::symlink("there.pt", path.join("link.pt")).unwrap();
    let export = |to: &str| {
        Tool::new("parm-train").args("export m.safetensors -o").arg(to).within(path).run().output()
    };
    assert_eq!(export("link.pt"), b"");
    assert!(path.join("link.pt").is_symlink() && path.join("there.pt").is_file());
    fs::write(path.join("stream.pt"), export("-")).unwrap();
    for model in ["there.pt", "stream.pt"] {
        let call = Tool::new("parm-infer").args("--threads 1 -m").arg(model).within(path);
        assert_eq!(f4_values(&call.stdin(f4(&[1, 2], &[1., 2.])).run().output()), [3.]);
    }
}

#[test]
fn exported_models_answer_as_the_models_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let weights = [1., 1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 10.];
    fs::write(path.join("b.safetensors"), safetensors::linear(&[2, 2], 3, &weights)).unwrap();
    fs::write(path.join("x.npy"), f4(&[3, 2, 2], &[1., 2., 3., 4., 5., 6., 7., 8., 9., 0., -1., -2.]))
        .unwrap();
    let infer = |model: &str| {
        Tool::new("parm-infer").args("--threads 1 x.npy -m").arg(model).within(path).run().output()
    };
    let export = |options: &str| Tool::new("parm-train").args("export").args(options).within(path).run();
    let ended = export("b.safetensors -v -o b.pt");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "parm-train: b.pt: written\n"));
    assert_eq!(infer("b.pt"), infer("b.safetensors"));

    assert_eq!(export("b.safetensors --triton models").output(), b"");
    assert_eq!(infer("models/b/1/model.pt"), infer("b.safetensors"));
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    let config = "name: \"b\"\nplatform: \"pytorch_libtorch\"\nmax_batch_size: 256\ninput [\n  {\n    name: \
                  \"INPUT__0\"\n    data_type: TYPE_FP32\n    dims: [2, 2]\n  }\n]\noutput [\n  {\n    name: \
                  \"OUTPUT__0\"\n    data_type: TYPE_FP32\n    dims: [3]\n  }\n]\n";
    assert_eq!(read("models/b/config.pbtxt"), config);
    let python = "b.safetensors --triton models --name b --backend python --max-batch 8";
    assert_eq!(export(python).output(), b"");
    let config = config.replace("platform: \"pytorch_libtorch\"", "backend: \"python\"");
    assert_eq!(read("models/b/config.pbtxt"), config.replace("256", "8"));
    assert!(read("models/b/1/model.py").contains("class TritonPythonModel"));
    // The other backend leaves nothing of this one.
    assert_eq!(export("b.safetensors --triton models").output(), b"");
    assert!(!path.join("models/b/1/model.py").exists());

    // A state dict does not say the shape of queries, and an MLP takes any of the right size.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models");
    let [state, script] =
        ["mlp.safetensors", "linear.pt"].map(|name| script.join(name).display().to_string());
    let warned = export(&format!("{state} --query-shape 2,3 -o state.pt"));
    assert!(
        warned.code == 0 && warned.stderr.contains("taken to be relu (--activation"),
        "{}",
        warned.stderr
    );
    // TorchScript stays TorchScript.
    assert_eq!(export(&format!("{script} -o again.pt")).output(), b"");
    assert_eq!(infer("again.pt"), infer(&script));
    let state = format!("{state} --activation relu");
    assert_eq!(export(&format!("{state} --query-shape 2,3 -o state.pt")).output(), b"");
    for (options, code, found, expected) in [
        (format!("{state} -o new.pt"), 1, "found a model without the shape of its queries", "--query-shape"),
        (format!("{state} --query-shape 7 -o new.pt"), 1, "cannot be multiplied", ""),
        ("b.safetensors -o new.safetensors".into(), 1, "found the extension .safetensors", "expected .pt: "),
        ("b.safetensors -o new.pt2".into(), 1, "found the extension .pt2, expected .pt: ", "as TorchScript"),
        (format!("{script} -o new.pt2"), 1, "found the extension .pt2, expected .pt: ", "as TorchScript"),
        (
            "b.safetensors --query-shape 4 -o new.pt".into(),
            1,
            "found queries of shape [4]",
            "expected [2, 2]",
        ),
        (
            format!("{script} --triton models"),
            1,
            "linear.pt: found a model without the shape",
            "--query-shape",
        ),
        ("none.safetensors -o new.pt".into(), 1, "none.safetensors", "No such file"),
        ("b.safetensors -o none/new.pt".into(), 1, "none/new.pt: cannot create", "No such file"),
        ("b.safetensors --triton x.npy".into(), 1, "x.npy/b/1", "Not a directory"),
        ("b.safetensors".into(), 2, "required", "--output"),
        ("b.safetensors -o new.pt --triton models".into(), 2, "cannot be used with", ""),
        ("b.safetensors -o new.pt --name n".into(), 2, "--name <NAME>", "cannot be used with"),
        ("b.safetensors --triton models --name ../n".into(), 2, "found '../n'", "expected letters"),
        ("b.safetensors --triton models --max-batch 0".into(), 2, "invalid value '0'", ""),
    ] {
        let ended = export(&options);
        let line = &ended.stderr;
        assert!(ended.code == code && line.contains(found) && line.contains(expected), "{options}: {line}");
        let is_written = ["new.pt", "new.pt2", "new.safetensors"].map(|name| path.join(name).exists());
        assert!(is_written == [false; 3] && !line.contains("panicked"), "{options}");
    }
}
