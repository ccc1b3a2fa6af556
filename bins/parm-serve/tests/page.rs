//! The status page in a browser: `make test-page`, which needs Chromium.

mod common;

use std::path::Path;

use common::{Server, ask, infer};
use parm_testkit::browser::{browse, picture};
use parm_testkit::wait::until;

/// Three good instances, one that fails, one for parity queries; and a model whose only instance cannot be
/// reached.
const CONFIG: &str = r#"{"models": [{"name": "<toy>", "deadline_ms": 5000, "attempts": 5,
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}}, "answer": {"when": "grace", "ms": 30},
    "ejection": {"failures": 2, "slowness": 1000, "probe_ms": 60000},
    "instances": [
        {"synthetic": {"count": 2, "behavior": {"service": {"distribution": "constant", "ms": 2}}}, "roles": ["deployed"]},
        {"synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 200}}}, "roles": ["deployed"]},
        {"synthetic": {"behavior": {"errors": 1}}, "roles": ["deployed"]},
        {"synthetic": {}, "roles": ["parity-0"]}]},
  {"name": "lonely", "inputs": [{"name": "x", "datatype": "FP32", "shape": [2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    "instances": [{"remote": {"url": "http://127.0.0.1:1"}, "roles": ["deployed"]}]}]}"#;

/// The number above a caption.
fn figure<'a>(page: &'a str, name: &str) -> &'a str {
    let (before, _) = page.split_once(&format!("</b><span>{name}</span>")).unwrap_or_else(|| {
        panic!("no figure '{name}' in {page}");
    });
    before.rsplit('>').next().unwrap()
}

/// The cells of the row of an instance.
fn row<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let (_, row) = page.split_once(&format!("<td>{name}</td>")).unwrap_or_else(|| {
        panic!("no row '{name}' in {page}");
    });
    let cells = row.split_once("</tr>").unwrap().0.split("</td>");
    cells.filter_map(|cell| cell.rsplit('>').next()).collect()
}

/// The value of a line of the metrics that begins so.
fn metric(text: &str, start: &str) -> f64 {
    let found = text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start}"));
    found.rsplit(' ').next().unwrap().parse().unwrap()
}

fn number(text: &str) -> f64 {
    text.replace([',', '%', ' '], "").parse().unwrap_or_else(|error| panic!("'{text}': {error}"))
}

#[test]
#[ignore = "needs Chromium: make test-page"]
fn the_page_shows_what_the_metrics_say_and_asks_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, CONFIG).unwrap();
    let server = Server::start(&config, &[]);
    let of_toy = "/v2/models/%3Ctoy%3E";
    until("readiness", || ask(server.http, "GET", &format!("{of_toy}/ready"), "").0 == 200);
    std::thread::scope(|scope| {
        for client in 0..4 {
            scope.spawn(move || {
                for query in 0..100 {
                    let answer = infer(server.http, "%3Ctoy%3E", &format!("{client}, {query}"));
                    assert_eq!(answer, Ok(f64::from(client + query)));
                }
            });
        }
    });
    let is_over = || !server.ask("GET", "/status.json", "").1.contains("\"running\":1");
    until("the end of all calls", is_over);

    let url = format!("http://{}/", server.http);
    let (page, complaints) = browse(&url, &folder.path().join("browser"), &["--dump-dom"]);
    assert!(complaints.is_empty(), "{complaints:#?}");
    let metrics = server.ask("GET", "/metrics", "").1;
    let of =
        |name: &str, more: &str| metric(&metrics, &format!("{name}{{model=\"<toy>\",version=\"1\"{more}"));
    assert_eq!(of("nv_inference_count", ""), 400.0);
    assert_eq!(figure(&page, "queries"), "400");
    let rebuilt = of("parm_answers_total", ",how=\"reconstructed\"");
    assert!(rebuilt > 0.0);
    assert!((number(figure(&page, "rebuilt")) - rebuilt / 4.0).abs() < 0.01, "{}", figure(&page, "rebuilt"));
    // All that can be compared agree; while the first predictions tell how far values are apart, nothing can.
    let compared = !server.ask("GET", "/status.json", "").1.contains("\"agreed\":0,");
    assert_eq!(figure(&page, "agreement"), if compared { "100.00 %" } else { "–" });
    for (name, how) in
        [("groups full", "full"), ("groups completed", "completed"), ("groups shorter", "shorter")]
    {
        let counted = of("parm_groups_total", &format!(",how=\"{how}\""));
        assert_eq!(number(figure(&page, name)), counted, "{name}");
    }
    let median = of("parm_answer_seconds", ",quantile=\"0.5\"") * 1e3;
    assert!((number(figure(&page, "median, ms")) / median - 1.0).abs() < 0.05, "{median}");
    for (name, roles, rotation) in [
        ("synthetic-0.0", "deployed", "in"),
        ("synthetic-0.1", "deployed", "in"),
        ("synthetic-1.0", "deployed", "in"),
        ("synthetic-2.0", "deployed", "out"),
        ("synthetic-3.0", "parity-0", "in"),
    ] {
        let row = row(&page, name);
        assert_eq!(row[..2], [roles, rotation], "{name}");
        for (cell, metric) in [
            (3, "parm_instance_answered_total"),
            (4, "parm_instance_failed_total"),
            (5, "parm_instance_ejections_total"),
        ] {
            let counted = of(metric, &format!(",instance=\"{name}\""));
            assert_eq!(number(row[cell]), counted, "{name}: {metric}");
        }
    }
    assert!(row(&page, "synthetic-2.0").contains(&"the synthetic instance fails"), "{page}");
    // Names are text, whatever is in them.
    assert!(page.contains("&lt;toy&gt;") && !page.contains("<toy>"), "{page}");
    assert!(page.contains("no instance has joined yet: http://127.0.0.1:1"), "{page}");
    for chart in ["latency", "answers a second", "share"] {
        assert!(page.contains(&format!("aria-label=\"{chart} over the last 10 minutes")), "{chart}: {page}");
    }

    let shots = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, width, more) in
        [("page", 1200, None), ("page-narrow", 400, None), ("page-dark", 1200, Some("--force-dark-mode"))]
    {
        picture(&url, &folder.path().join("browser"), &shots.join(format!("{name}.png")), (width, 900), more);
    }
}
