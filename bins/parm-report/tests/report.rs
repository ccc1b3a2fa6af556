//! `parm-report` as a process.

use std::fs;
use std::path::Path;

use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

fn report(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-report").args(arguments).within(folder).run()
}

fn page(folder: &Path, arguments: &str) -> String {
    String::from_utf8(report(folder, arguments).output()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The report of parm-score with one score and its interval.
fn score(value: f64) -> String {
    format!(
        r#"{{"format":1,"scores":[{{"score":"A_d","top":1,"value":{value},"low":{},"high":{},"rows":9}}],
            "made_by":{{"version":"0.2.0","commit":"abc1234","command":"parm-score <x>.npy",
                "options":{{"k":2,"top":null}},"inputs":[{{"name":"x.npy","sha256":"00ff"}}]}}}}"#,
        value - 0.02,
        value + 0.02
    )
}

fn load(p99: f64) -> String {
    format!(r#"{{"format":1,"runs":[{{"rate":100,"latency_ms":{{"median":5,"p99":{p99},"p99.9":null}}}}]}}"#)
}

/// An experiment with files of every kind, and some that are none.
fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    write(path, "all/scores/score.json", &score(0.8));
    write(path, "all/load.json", &load(20.0));
    write(
        path,
        "all/code/run/metrics.jsonl",
        "{\"epoch\":1,\"train_loss\":2.5,\"A_d\":0.5}\n{\"epoch\":2,\"train_loss\":1.5,\"A_d\":0.6}\n",
    );
    write(path, "all/code/code.json", r#"{"format":2,"code":"sum","k":2,"r":1}"#);
    write(path, "all/code/test.json", r#"{"run":"a","k":2,"A_d":0.5,"settings":null}"#);
    write(
        path,
        "all/advice.json",
        r#"{"format":1,"candidates":[{"name":"none","instances":3,"A_o":0.9,"median_ms":1,"p99.9_ms":9}]}"#,
    );
    for (from, to) in [
        ("v0.1.0/compare.json", "compare.json"),
        ("v0.1.0/records.jsonl", "records.jsonl"),
        ("v0.1.0/sim.json", "sim.json"),
        ("plots/journal.jsonl", "journal.jsonl"),
    ] {
        fs::copy(root.join(from), path.join("all").join(to)).unwrap();
    }
    write(path, "all/broken.json", "{");
    write(path, "all/notes.txt", "x");
    write(path, "all/other.json", "{\"a\":1}");
    write(path, "all/.hidden/score.json", "{");
    folder
}

#[test]
fn every_result_has_a_section_with_a_plot_and_its_numbers() {
    let folder = stage();
    let page = page(folder.path(), "all");
    for (name, kind) in [
        ("scores/score.json", "scores"),
        ("load.json", "latencies"),
        ("sim.json", "latencies"),
        ("code/run/metrics.jsonl", "training"),
        ("code/code.json", "code"),
        ("code/test.json", "run of a sweep"),
        ("advice.json", "advice"),
        ("compare.json", "comparison of codes"),
        ("records.jsonl", "records of requests"),
        ("journal.jsonl", "journal of the serving core"),
    ] {
        let heading = format!("<h2><code>{name}</code> <span class=\"soft\">{kind}</span></h2>");
        assert!(page.contains(&heading), "{heading} in {page}");
    }
    assert_eq!(page.matches("<figure>").count(), page.matches("<summary>Numbers").count());
    assert!(page.matches("<svg").count() >= 10 && page.contains("class=\"point\""));
    // What made it is escaped, and the options that were not given are left out.
    assert!(page.contains("parm-score &lt;x&gt;.npy") && page.contains("abc1234") && page.contains("00ff"));
    assert!(!page.contains("<th scope=\"row\">top</th>"));
    assert!(page.contains("broken.json</code>: not read: malformed JSON"), "{page}");
    assert!(!page.contains(".hidden/"));
    let outside = ["http:", "https:", "src=", "@import", "url("];
    let page = page.replace("http://www.w3.org/2000/svg", "");
    assert!(outside.iter().all(|word| !page.contains(word)), "it refers to nothing");
    assert_eq!(page, self::page(folder.path(), "all").replace("http://www.w3.org/2000/svg", ""));
}

#[test]
fn seeds_are_compared_in_pairs_and_single_results_by_their_intervals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (seed, (new, old)) in (1..).zip([(0.80, 0.75), (0.70, 0.66), (0.90, 0.84)]) {
        write(path, &format!("new/seed-{seed}/score.json"), &score(new));
        write(path, &format!("old/seed-{seed}/score.json"), &score(old));
    }
    write(path, "new/load.json", &load(20.0));
    write(path, "old/load.json", &load(30.0));
    let compared = page(path, "new --against old --title A&B");
    assert!(compared.contains("<title>A&amp;B</title>"));
    assert!(compared.contains("1 better, 2 no interval."), "{compared}");
    let row = compared.split("<tr><td>A_d</td>").nth(1).unwrap().split("</tr>").next().unwrap();
    // The differences 0.05, 0.04 and 0.06: 0.05 ± 4.303 · 0.01 / √3.
    for expected in
        ["<td class=\"n\">3</td>", ">0.8000<", ">0.7500<", ">0.05000<", ">0.02516 to 0.07484<", ">better<"]
    {
        assert!(row.contains(expected), "{expected} in {row}");
    }
    let worse = page(path, "old --against new");
    assert!(worse.contains("1 worse, 2 no interval."), "{worse}");
    // One pair: 0.8 ± 0.02 and 0.79 ± 0.02.
    write(path, "one/score.json", &score(0.80));
    write(path, "other/score.json", &score(0.79));
    let open = page(path, "one --against other");
    assert!(open.contains("1 no difference shown") && open.contains("−0.01828 to 0.03828"), "{open}");
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let folder = stage();
    let path = folder.path();
    fs::create_dir(path.join("empty")).unwrap();
    write(path, "else/else.json", &score(0.5));
    for (call, code, message) in [
        ("missing", 1, "missing: cannot read"),
        ("empty", 1, "empty: found no results, expected JSON of parm's tools"),
        ("all --against empty", 1, "empty: found no results"),
        ("all --against else", 1, "all and else: found no results of the same file names in both"),
        ("all/load.json", 1, "all/load.json: cannot read"),
        ("", 2, "DIR"),
    ] {
        let refused = report(path, &format!("{call} -o out.html"));
        assert!(refused.code == code && refused.stderr.contains(message), "{call}: {}", refused.stderr);
        assert!(!path.join("out.html").exists() && refused.stdout.is_empty(), "{call}");
    }
    let full = report(path, "all -o /dev/full");
    assert!(full.code == 1 && full.stderr.contains("No space left on device"), "{}", full.stderr);
}
