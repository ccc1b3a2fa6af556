//! Pages in Chromium, or the browser that CHROMIUM names.

use std::path::Path;
use std::process::Command;

/// What the browser shows of a page after its script ran for a while, and what it complained about. It keeps its own
/// files in `folder`.
///
/// # Panics
/// There is no browser, or it fails.
#[must_use]
pub fn browse(url: &str, folder: &Path, more: &[&str]) -> (String, Vec<String>) {
    let browser = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let data = format!("--user-data-dir={}", folder.display());
    let run = Command::new(&browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--enable-logging=stderr", "--virtual-time-budget=4000", "--hide-scrollbars", &data])
        .args(more)
        .arg(url)
        .output()
        .unwrap_or_else(|error| panic!("{browser}: {error}: expected Chromium, or its name in CHROMIUM"));
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let complaints = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (String::from_utf8(run.stdout).unwrap(), complaints)
}

/// Writes a picture of a page that shows something, of this size, and prints its path.
///
/// # Panics
/// As [`browse`]; the picture is nearly empty.
pub fn picture(url: &str, folder: &Path, shot: &Path, (width, height): (u32, u32), more: Option<&str>) {
    // A picture of an earlier run must not count.
    let _ = std::fs::remove_file(shot);
    let (to, size) = (format!("--screenshot={}", shot.display()), format!("--window-size={width},{height}"));
    let options: Vec<&str> = [to.as_str(), size.as_str()].into_iter().chain(more).collect();
    let _ = browse(url, folder, &options);
    assert!(std::fs::metadata(shot).unwrap().len() > 10_000, "{}", shot.display());
    println!("{}", shot.display());
}
