//! A report in a browser: `make test-page`, which needs Chromium.

use std::fs;
use std::path::Path;

use parm_testkit::Tool;
use parm_testkit::browser::{browse, picture};

#[test]
#[ignore = "needs Chromium: make test-page"]
fn the_page_opens_without_a_network_and_shows_points() {
    let folder = tempfile::tempdir().unwrap();
    let (path, root) = (folder.path(), Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata"));
    for name in ["a", "b"] {
        let study = path.join(name);
        fs::create_dir(&study).unwrap();
        for file in [
            "v0.1.0/compare.json",
            "v0.1.0/load.json",
            "v0.1.0/records.jsonl",
            "v0.1.0/score.json",
            "plots/journal.jsonl",
        ] {
            fs::copy(root.join(file), study.join(Path::new(file).file_name().unwrap())).unwrap();
        }
    }
    let made = Tool::new("parm-report").args("a --against b -o study.html").within(path).run();
    assert_eq!(made.code, 0, "{}", made.stderr);
    let url = format!("file://{}", path.join("study.html").display());
    let browser = path.join("browser");
    // Nothing is fetched: the resolver finds no host.
    let offline = "--host-resolver-rules=MAP * ~NOTFOUND";
    let (page, complaints) = browse(&url, &browser, &["--dump-dom", offline]);
    assert!(complaints.is_empty(), "{complaints:#?}");
    // The script took the texts from the titles of points, and made plots reachable with the keyboard.
    assert!(page.contains("data-hint=\"none: 1, ") && page.contains("tabindex=\"0\""), "{page}");
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, size, more) in [
        ("report", (1200, 2400), None),
        ("report-narrow", (400, 1600), None),
        ("report-dark", (1200, 1600), Some("--force-dark-mode")),
    ] {
        picture(&url, &browser, &shots.join(format!("{name}.png")), size, more);
    }
    let pdf = shots.join("report.pdf");
    let _ = browse(&url, &browser, &[&format!("--print-to-pdf={}", pdf.display())]);
    assert!(fs::read(&pdf).unwrap().starts_with(b"%PDF"), "{}", pdf.display());
}
