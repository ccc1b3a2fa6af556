//! `parm-load` as a process, before a server in this one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parm_config::Config;
use parm_serving::NoModels;
use parm_serving::server::{Addresses, Order, Running};
use parm_testkit::Tool;
use parm_testkit::npy::{f4, f8, u1};
use parm_testkit::report::made_by;
use parm_testkit::schema;
use parm_workload::{Outcome, Record};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// A model of 8 floats in, 3 out.
struct Server {
    runtime: Runtime,
    at: Addresses,
    orders: mpsc::Sender<Order>,
    folder: TempDir,
}

impl Server {
    /// Its instances behave so, and its model has these further settings.
    fn start(behavior: &str, more: &str) -> Self {
        Self::of(8, behavior, more)
    }

    /// The same, of so many floats in.
    fn of(floats: usize, behavior: &str, more: &str) -> Self {
        let instances =
            format!(r#"{{"capacity": 100, "synthetic": {{"count": 3, "behavior": {{{behavior}}}}}}}"#);
        Self::with_instances(floats, &instances, more)
    }

    /// The same, with these instances.
    fn with_instances(floats: usize, instances: &str, more: &str) -> Self {
        let config = format!(
            r#"{{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "drain_ms": 100, "models": [{{"name": "toy",
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [{floats}]}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [3]}}], "placement": "pooled",
                "instances": [{instances}] {more}}}]}}"#
        );
        let config = Config::parse(&config).unwrap();
        let runtime = Runtime::new().unwrap();
        let (orders, told) = mpsc::channel(1);
        let running = runtime.block_on(Running::start(config, Arc::new(NoModels))).unwrap();
        let at = running.addresses;
        runtime.spawn(running.serve(told));
        Self { runtime, at, orders, folder: tempfile::tempdir().unwrap() }
    }

    /// Its instances always take so long.
    fn taking(ms: u32) -> Self {
        Self::start(&constant(ms), "")
    }

    fn http(&self) -> String {
        url("http", self.at.http)
    }

    fn grpc(&self) -> String {
        url("grpc", self.at.grpc)
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }
}

fn constant(ms: u32) -> String {
    format!(r#""service": {{"distribution": "constant", "ms": {ms}}}"#)
}

fn url(scheme: &str, at: Option<SocketAddr>) -> String {
    format!("{scheme}://{}", at.unwrap())
}

/// A call; warnings are left out, since a busy machine is warned of.
fn load(folder: &Path, url: &str, arguments: &str) -> Tool {
    let warm_up = if arguments.contains("--warm-up") { "" } else { "--warm-up 0.1" };
    Tool::new("parm-load").arg(url).args("-m toy --quiet").args(warm_up).args(arguments).within(folder)
}

fn measured(server: &Server, url: &str, arguments: &str) -> Value {
    let output = load(server.folder.path(), url, arguments).arg("--json").run().output();
    parsed(&output)
}

fn parsed(output: &[u8]) -> Value {
    schema::report("parm-load", "", output)
}

fn records(file: &Path) -> Vec<Record> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_measures_over_every_encoding() {
    let server = Server::taking(5);
    for (url, encoding) in [
        (server.http(), "auto"),
        (server.http(), "json"),
        (server.http(), "binary"),
        (server.grpc(), "auto"),
        (server.grpc(), "grpc"),
    ] {
        let call = format!("--rate 200 --queries 50 --rows 2 --encoding {encoding}");
        let report = measured(&server, &url, &call);
        let run = &report["runs"][0];
        assert_eq!((&run["answered"], &run["failed"]), (&50.into(), &0.into()), "{encoding}: {report}");
        // The server's own time is within it.
        assert!(run["latency_ms"]["median"].as_f64() > Some(5.0), "{report}");
        assert_eq!((&report["model"], &report["rows"], &run["url"]), (&"toy".into(), &2.into(), &url.into()));
    }
}

#[test]
fn a_report_says_how_it_was_made_without_the_keys_in_headers() {
    let server = Server::taking(1);
    fs::write(server.path("times.npy"), f4(&[3], &[0.0, 0.01, 0.02])).unwrap();
    let header = "--header X-API-Key:secret";
    for (call, option, value) in [
        ("--rate 200 --seconds 0.1", "seconds", json!(0.1)),
        ("--rate 200 --queries 20", "queries", json!(20)),
        ("--trace times.npy --warm-up 0", "queries", json!(3)),
    ] {
        let call = format!("{call} --seed 7 {header}");
        let report = measured(&server, &server.http(), &call);
        let (made_by, inputs) = made_by(&report, server.folder.path());
        let options = ["seed", option, "header"].map(|name| made_by.options[name].clone());
        assert_eq!(options, [json!(7), value, json!(["X-API-Key: …"])], "{call}");
        assert_eq!(made_by.options["rate"].as_array().map(Vec::len), Some(1), "{made_by:?}");
        assert_eq!(inputs.len(), usize::from(call.contains("--trace")));
        assert!(!report.to_string().contains("secret") && made_by.command.contains("X-API-Key: …"));
    }
}

#[test]
fn several_rates_are_several_lines_and_all_requests_have_a_record() {
    let server = Server::taking(1);
    let call = "--rates 100,400 --queries 80 --arrivals constant --records r.jsonl";
    let output = load(server.folder.path(), &server.http(), call).run().output();
    let table = String::from_utf8(output).unwrap();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((lines[1][0], lines[1][1], lines[1][13]), ("100", "80", "0"));
    assert_eq!((lines[2][0], lines[2][1], lines[2][13]), ("400", "80", "0"));
    let records = records(&server.path("r.jsonl"));
    assert_eq!(records.len(), 160);
    for rate in [100.0, 400.0] {
        let mut of: Vec<&Record> = records.iter().filter(|record| record.rate == rate).collect();
        of.sort_by_key(|record| record.query);
        assert!(of.iter().all(|record| record.outcome == Outcome::Answered && record.sent_ns.is_some()));
        let gap = (1e9 / rate) as u64;
        let gaps = of.windows(2).map(|pair| pair[1].intended_ns - pair[0].intended_ns);
        assert!(gaps.into_iter().all(|found| found.abs_diff(gap) <= 1));
    }
}

#[test]
fn a_trace_is_replayed() {
    let server = Server::taking(1);
    fs::write(server.path("times.npy"), f8(&[4], &[7.0, 7.2, 7.3, 7.8])).unwrap();
    let intended = |file: &str| {
        let mut times: Vec<u64> = records(&server.path(file))
            .iter()
            .map(|record| (record.intended_ns + 50_000) / 100_000)
            .collect();
        times.sort_unstable();
        times
    };
    // What comes within the warm-up does not count.
    let report = measured(&server, &server.http(), "--trace times.npy --records a.jsonl");
    assert_eq!((&report["runs"][0]["rate"], &report["runs"][0]["requests"]), (&3.75.into(), &3.into()));
    assert_eq!(intended("a.jsonl"), [1000, 2000, 7000]);
    let again = "--trace a.jsonl --warm-up 0 --rates 10,20 --records b.jsonl --seconds 0.15";
    let report = measured(&server, &server.http(), again);
    assert_eq!(report["runs"].as_array().unwrap().len(), 2);
    // Of 0, 100 and 600 ms, at 3.33/s.
    assert_eq!(intended("b.jsonl"), [0, 0, 167, 333, 1000]);
}

#[test]
fn targets_are_compared_in_turns_over_trials() {
    let servers = [Server::taking(2), Server::taking(8)];
    let call = "--rates 100,200 --queries 30 --trials 3 --records r.jsonl --histogram h.hlog";
    let targets = |tool: Tool| tool.arg(format!("quick={}", servers[0].http())).arg(servers[1].grpc());
    let tool =
        || targets(Tool::new("parm-load")).args("-m toy -q --warm-up 0.1").within(servers[0].folder.path());
    let report = parsed(&tool().args(call).arg("--json").run().output());
    let runs = report["runs"].as_array().unwrap();
    let slow = servers[1].grpc();
    let names: Vec<(&str, u64)> = runs
        .iter()
        .map(|run| (run["name"].as_str().unwrap(), run["rate"].as_f64().unwrap() as u64))
        .collect();
    assert_eq!(names, [("quick", 100), (&*slow, 100), ("quick", 200), (&*slow, 200)]);
    for run in runs {
        assert_eq!((&run["trials"], &run["answered"], &run["failed"]), (&3.into(), &90.into(), &0.into()));
        let median = |of: &Value| of["latency_ms"]["median"].as_f64().unwrap();
        assert!(median(&run["min"]) <= median(run) && median(run) <= median(&run["max"]), "{run}");
        assert!(run["cdf"].as_array().unwrap().len() > 10 && run["gap_ratio"].as_f64().is_some(), "{run}");
    }
    assert!(runs[1]["latency_ms"]["median"].as_f64() > Some(8.0), "{report}");
    assert_eq!((&runs[0]["gap_ratio"], &runs[1]["url"]), (&1.0.into(), &(&*slow).into()));
    // Trials take turns, arrivals are the same for both, and others in the next trial.
    let records = records(&servers[0].path("r.jsonl"));
    let mut order: Vec<(u32, u64, &str)> = Vec::new();
    for record in &records {
        let run = (record.trial.unwrap(), record.rate as u64, record.name.as_deref().unwrap());
        if order.last() != Some(&run) {
            order.push(run);
        }
    }
    let firsts: Vec<&str> = order.iter().step_by(2).map(|run| run.2).collect();
    assert_eq!((order.len(), firsts), (12, vec!["quick", "quick", &*slow, &*slow, "quick", "quick"]));
    let times = |trial: u32, name: &str| {
        let of = |record: &&Record| record.trial == Some(trial) && record.name.as_deref() == Some(name);
        let mut times: Vec<u64> = records.iter().filter(of).map(|record| record.intended_ns).collect();
        times.sort_unstable();
        times
    };
    assert_eq!(times(1, "quick"), times(1, &slow));
    assert_ne!(times(1, "quick"), times(2, "quick"));
    let log = fs::read_to_string(servers[0].path("h.hlog")).unwrap();
    let tags: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("Tag=quick@")).collect();
    assert_eq!(tags.len(), 6, "{log}");
    assert!(tags[0].starts_with("100,") && tags[1].starts_with("200,"), "{log}");
    let table = String::from_utf8(tool().args("--rate 100 --queries 20").run().stdout).unwrap();
    assert!(
        table.starts_with("NAME ") && table.contains(" RATIO ") && !table.contains("ACCURACY"),
        "{table}"
    );
}

#[test]
fn rows_that_are_given_are_sent() {
    let server = Server::taking(0);
    fs::write(server.path("x.npy"), f4(&[3, 8], &[1.0; 24])).unwrap();
    let report = measured(&server, &server.grpc(), "--rate 100 --queries 10 --data x.npy");
    assert_eq!(report["runs"][0]["answered"], 10);
}

#[test]
fn what_is_rebuilt_is_counted() {
    // One call in ten never ends.
    let behavior = constant(1) + r#", "hangs": 0.1"#;
    let coded = r#", "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}, "group_delay_ms": 5},
        "answer": {"when": "grace", "ms": 30}, "ejection": null"#;
    let server = Server::start(&behavior, coded);
    let report = measured(&server, &server.http(), "--rate 200 --queries 300 --records r.jsonl");
    let run = &report["runs"][0];
    let rebuilt = records(&server.path("r.jsonl")).iter().filter(|record| record.reconstructed == 1).count();
    assert!(rebuilt > 5, "{report}");
    let share = rebuilt as f64 / run["answered"].as_f64().unwrap();
    assert_eq!(run["reconstructed"].as_f64(), Some(share), "{report}");
}

#[test]
fn answers_are_held_against_labels() {
    // A synthetic instance sums: what is greatest in a row is its class.
    let behavior = constant(1) + r#", "hangs": 0.1"#;
    let coded = r#", "redundancy": {"policy": "coded", "code": {"name": "sum", "k": 2}, "group_delay_ms": 5},
        "answer": {"when": "grace", "ms": 30}, "ejection": null"#;
    let server = Server::start(&behavior, coded);
    let classes = [0_u8, 1, 2, 0];
    let row = |class: &u8| (0..8).map(|at| f32::from(at % 3 == *class)).collect::<Vec<_>>();
    fs::write(server.path("x.npy"), f4(&[4, 8], &classes.iter().flat_map(row).collect::<Vec<_>>())).unwrap();
    fs::write(server.path("right.npy"), u1(&[4], &classes)).unwrap();
    fs::write(server.path("mixed.npy"), u1(&[4], &[0, 1, 2, 1])).unwrap();
    let measured = |url: &str, labels: &str| {
        let call = format!("--rate 200 --queries 300 --data x.npy --labels {labels} --records r.jsonl");
        let report = measured(&server, url, &call);
        let run = report["runs"][0].clone();
        let records = records(&server.path("r.jsonl"));
        let (mut correct, mut rebuilt, mut right) = (0, 0, 0);
        for record in records.iter().filter(|record| record.outcome == Outcome::Answered) {
            correct += record.correct.unwrap();
            rebuilt += record.reconstructed;
            right += record.correct_reconstructed;
        }
        let share = |of: usize, all: f64| Some(of as f64 / all);
        assert_eq!(run["accuracy"].as_f64(), share(correct, run["answered"].as_f64().unwrap()), "{run}");
        assert!(rebuilt > 5 && run["A_d"].as_f64() == share(right, rebuilt as f64), "{run}");
        run["accuracy"].as_f64().unwrap()
    };
    assert_eq!(measured(&server.http(), "right.npy"), 1.0);
    let most = measured(&server.grpc(), "mixed.npy");
    assert!((most - 0.75).abs() < 0.01, "{most}");
    let call = "--rate 100 --queries 20 --data x.npy --labels right.npy --label-output y";
    let table = load(server.folder.path(), &server.http(), call).run().output();
    assert!(String::from_utf8(table).unwrap().contains(" ACCURACY       A_D "));
}

#[test]
fn a_wrong_server_model_or_row_is_an_error_that_says_so() {
    let server = Server::taking(0);
    fs::write(server.path("wide.npy"), f4(&[3, 9], &[1.0; 27])).unwrap();
    fs::write(server.path("none.npy"), f4(&[0, 8], &[])).unwrap();
    let refused = |url: &str, arguments: &str, code: i32, expected: &str| {
        let call = format!("--rate 100 --queries 3 {arguments}");
        let ended = load(server.folder.path(), url, &call).run();
        assert_eq!((ended.code, ended.stdout.len()), (code, 0), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{arguments}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    let http = server.http();
    refused("127.0.0.1:8000", "", 1, "expected a URL that begins with http://");
    refused("http://no-such-host.invalid:1", "", 1, "no-such-host.invalid");
    refused("http://127.0.0.1:1", "", 1, "http://127.0.0.1:1: model toy: ");
    refused(&server.grpc(), "--encoding json", 1, "which is for gRPC");
    refused(&http, "--model-version 7", 1, "model toy: ");
    refused(&http, "--shape 9", 1, "found rows of shape [9] for input 'x', expected [8]");
    refused(&http, "--shape z:8", 1, "found a shape for input 'z', expected one for x");
    refused(&http, "--data wide.npy", 1, "found rows of shape [9] for input 'x', expected [8]");
    refused(&http, "--data none.npy", 1, "found a stream without rows");
    refused(&http, "--data missing.npy", 1, "missing.npy: cannot open");
    fs::write(server.path("back.npy"), f4(&[2], &[1.0, 0.0])).unwrap();
    refused(&http, "--trace back.npy", 1, "back.npy: time 1: found 0 s after 1 s");
    refused(&http, "--trace wide.npy", 1, "expected times: one number a row");
    refused(&http, "--trace missing.npy", 1, "missing.npy: cannot open");
    refused(
        &http,
        "--arrivals weekly",
        2,
        "--arrivals: found 'weekly', expected poisson, constant, gamma:CV",
    );
    refused(&http, "--header connection:x", 1, "connection");
    refused(&http, "--histogram -", 2, "--histogram -: standard output is for the table");
    refused(&http, "--histogram missing/h.hlog", 1, "missing/h.hlog: cannot create");
    refused(&http, "--histogram /dev/full", 1, "/dev/full");
    refused(&http, &http, 2, "found two targets with the name");
    refused(&http, "a=http://127.0.0.1:1", 1, "http://127.0.0.1:1: model toy: ");
    let wide = Server::of(9, "", "");
    let expected =
        "model toy: found a model of 'x' FP32 [1, 9], expected that of the first target, of 'x' FP32";
    refused(&http, &wide.http(), 1, expected);
    let labels = |name: &str, labels: &[u8]| {
        fs::write(server.path(name), u1(&[labels.len()], labels)).unwrap();
        format!("--data rows.npy --labels {name}")
    };
    fs::write(server.path("rows.npy"), f4(&[2, 8], &[1.0; 16])).unwrap();
    let (fit, more, odd) =
        (labels("2.npy", &[0, 2]), labels("3.npy", &[0, 1, 2]), labels("odd.npy", &[0, 3]));
    refused(&http, &more, 1, "3.npy: ");
    refused(&http, &more, 1, "found 3 labels for 2 rows, expected one for each");
    refused(&http, &odd, 1, "row 1: found label 3, expected one of the 3 classes of output 'y'");
    refused(&http, &(fit + " --label-output z"), 1, "found no output 'z', expected one of y");
    refused(&http, "--data rows.npy --labels rows.npy", 1, "expected labels: one integer a row");
    refused(&http, "--data - --labels -", 2, "named twice");
    refused(&http, "--expect p99", 2, "--expect p99: found 'p99', expected a quantity, one of");
    refused(&http, "--expect goodput>5", 2, "found goodput without an objective, expected --slo");
    refused(&http, "--find p99<1ms --rate 5", 2, "--find: found 2 rates, expected one to begin with");
    refused(&http, "--records -", 2, "--records -: standard output is for the table");
    refused(&http, "--records missing/r.jsonl", 1, "missing/r.jsonl: cannot create");
    refused(&http, "--records /dev/full", 1, "/dev/full");
    refused(&http.replace("http", "https"), "--ca missing.pem", 1, "missing.pem");
    let unknown = Tool::new("parm-load").args(&format!("{http} -m other --rate 1")).run();
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("unknown model: 'other'"), "{}", unknown.stderr);
}

#[test]
fn a_server_that_dies_in_the_middle_leaves_what_was_answered_and_failures() {
    let Server { runtime, at, orders, folder } = Server::taking(1);
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(700));
        orders.blocking_send(Order::Stop).unwrap();
        runtime.shutdown_timeout(Duration::from_millis(200));
    });
    let call = "--rate 100 --seconds 2 --timeout 500 --json";
    let report = load(folder.path(), &url("http", at.http), call).run().output();
    killer.join().unwrap();
    let report = parsed(&report);
    let run = &report["runs"][0];
    let count = |name: &str| run[name].as_u64().unwrap();
    assert!(count("answered") > 5 && count("failed") > 50, "{report}");
    assert_eq!(count("answered") + count("failed"), count("requests"));
    assert!(run["failures"]["unreachable"].as_u64() > Some(0), "{report}");
}

#[test]
fn without_any_answer_it_fails_and_says_what_the_first_error_was() {
    let server = Server::start(&constant(10_000), r#", "deadline_ms": 50"#);
    for (url, failures) in [(server.http(), "failed-504:5"), (server.grpc(), "failed-DEADLINE_EXCEEDED:5")] {
        let ended = load(server.folder.path(), &url, "--rate 100 --queries 5").run();
        assert_eq!(ended.code, 1);
        let table = String::from_utf8(ended.stdout).unwrap();
        assert!(table.contains(failures), "{table}");
        assert!(ended.stderr.contains("found no answer to any request: "), "{}", ended.stderr);
    }
}

#[test]
fn failures_are_warned_of() {
    let server = Server::taking(300);
    let tool = Tool::new("parm-load").arg(server.http()).args("-m toy --warm-up 0 --rate 100 --queries 20");
    let ended = tool.args("--arrivals constant --in-flight 5").run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(String::from_utf8(ended.stdout).unwrap().contains("not-sent:15"));
    assert!(ended.stderr.contains("100/s: 15 of 20 requests failed"), "{}", ended.stderr);
    assert!(ended.stderr.contains("15 requests were not sent, since 5 were open"), "{}", ended.stderr);
}

#[test]
fn an_expectation_decides_the_exit_code_and_says_why() {
    let server = Server::taking(20);
    let call = |expect: &str| {
        let call = "--rate 50 --queries 40 --slo 50ms --json";
        load(server.folder.path(), &server.http(), call).arg("--expect").arg(expect).run()
    };
    let held = call("p50>=20ms,failed=0,reconstructed<1%,goodput>90%,requests=40");
    assert_eq!((held.code, held.stderr.as_str()), (0, ""));
    let report = parsed(&held.stdout);
    assert!(
        report["expect"].as_str().unwrap().starts_with("p50>=20ms,") && report["slo_ms"] == 50.0,
        "{report}"
    );
    let run = &report["runs"][0];
    assert!(run["within_slo"].as_f64() > Some(0.9) && run.get("unmet").is_none(), "{run}");
    let share = run["within_slo"].as_f64().unwrap() * run["requests"].as_f64().unwrap();
    assert!(
        (run["goodput"].as_f64().unwrap() * run["seconds"].as_f64().unwrap() - share).abs() < 0.01,
        "{run}"
    );
    let missed = call("p50>0.3s,answered=40,rate>1000/s");
    assert_eq!(missed.code, 4);
    let lines: Vec<&str> = missed.stderr.lines().collect();
    assert!(
        lines[0].starts_with("parm-load: 50/s: p50 is 2") && lines[0].ends_with(" ms, expected above 300 ms")
    );
    assert!(lines[1].starts_with("parm-load: 50/s: rate is ") && lines.len() == 2, "{}", missed.stderr);
    let report = parsed(&missed.stdout);
    let unmet: Vec<&str> = report["runs"][0]["unmet"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| reason.as_str().unwrap())
        .collect();
    assert_eq!(unmet, lines.iter().map(|line| &line["parm-load: 50/s: ".len()..]).collect::<Vec<_>>());
    // It would hold at the next rate, too.
    let call = "--rates 50,60 --seconds 0.3 --trials 2 --expect p50<1ms";
    let ended = load(server.folder.path(), &server.http(), call).run();
    assert_eq!((ended.code, String::from_utf8(ended.stdout).unwrap().lines().count()), (4, 2));
}

#[test]
fn an_expectation_that_is_lost_ends_the_measurement() {
    let server = Server::taking(20);
    let dead = Server::start(&constant(10_000), r#", "deadline_ms": 50"#);
    for (server, expect, reason) in [
        (&server, "p99<10ms", "p99 is "),
        (&dead, "failed=0", "failed is 1, expected 0"),
        (&dead, "failed<0.1%", "failed is 100 %, expected below 0.1 %"),
    ] {
        let begin = std::time::Instant::now();
        // Of the thousand requests eleven are enough.
        let call = format!("--rate 100 --queries 1000 --expect {expect}");
        let ended = load(server.folder.path(), &server.http(), &call).run();
        assert_eq!(ended.code, 4, "{}", ended.stderr);
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
        // All of them take ten seconds.
        assert!(begin.elapsed() < Duration::from_secs(7), "{expect}: {:?}", begin.elapsed());
    }
}

#[test]
fn the_highest_rate_that_holds_is_found() {
    // Ten calls at a time, of 50 ms each: from 200/s on they are always busy, and the queue grows.
    let slots =
        r#"{"capacity": 10, "synthetic": {"behavior": {"service": {"distribution": "constant", "ms": 50}}}}"#;
    let server = Server::with_instances(8, slots, "");
    let call = "--find p90<80ms,failed=0 --rate 100 --arrivals constant --seconds 2";
    let report = measured(&server, &server.http(), call);
    let found = &report["found"][0];
    let (held, missed) = (found["held"].as_f64().unwrap(), found["missed"].as_f64().unwrap());
    assert!(held < missed && missed <= held * 1.02, "{found}");
    // On a busy machine it is lower.
    assert!(held < 220.0, "{found}");
    let runs = report["runs"].as_array().unwrap();
    let rates: Vec<f64> = runs.iter().map(|run| run["rate"].as_f64().unwrap()).collect();
    assert!(rates.is_sorted() && rates.contains(&held) && rates.contains(&missed));
    assert!(runs.iter().any(|run| run.get("unmet").is_some()));
    // Nothing is that fast.
    let call = "--find p50<1us --rate 0.002 --queries 1 --trials 1 --arrivals constant --warm-up 0";
    let ended = load(server.folder.path(), &server.http(), call).run();
    let table = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert!(table.contains("p50<1us holds at no rate, does not hold at 0.001/s"), "{table}");
}

#[test]
fn a_drill_reports_what_each_fault_costs() {
    let server = Server::taking(5);
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = sleeper.id();
    let write = |faults: &str| {
        fs::write(server.path("drill.json"), format!(r#"{{"faults": [{faults}]}}"#)).unwrap();
    };
    let call = "--rate 200 --seconds 4.5 --drill drill.json";
    write(&format!(
        r#"{{"at_s": 1.2, "stop": {pid}}}, {{"at_s": 1.4, "continue": {pid}}}, {{"at_s": 1.5, "kill": {pid}}},
            {{"at_s": 3, "run": ["sh", "-c", "echo hooked > hook"], "name": "hook"}}"#
    ));
    let report = measured(&server, &server.http(), call);
    assert_eq!(sleeper.wait().unwrap().signal(), Some(9));
    assert_eq!(fs::read_to_string(server.path("hook")).unwrap(), "hooked\n");
    let faults = report["runs"][0]["drill"].as_array().unwrap();
    let names: Vec<&str> = faults.iter().map(|fault| fault["fault"].as_str().unwrap()).collect();
    assert_eq!(names, [&format!("stop {pid}"), &format!("continue {pid}"), &format!("kill {pid}"), "hook"]);
    for fault in faults {
        assert!(fault["lost"] == 0 && fault["worst_ms"].as_f64() > Some(5.0), "{fault}");
    }
    // The next fault comes within a second.
    assert!(faults[0]["recovery_ms"].is_null(), "{faults:?}");
    let between = faults[2]["requests"].as_f64().unwrap();
    assert!((between / 300.0 - 1.0).abs() < 0.25, "{between}");
    let refused = |faults: &str, call: &str, code: i32, expected: &str| {
        write(faults);
        let ended = load(server.folder.path(), &server.http(), call).run();
        assert!(ended.code == code && ended.stderr.contains(expected), "{}: {}", ended.code, ended.stderr);
    };
    let call = "--rate 50 --seconds 0.4 --drill drill.json";
    // It ended, and nothing has its number.
    let gone = format!(r#"{{"at_s": 0.1, "kill": {pid}}}"#);
    refused(&gone, call, 1, &format!("drill: kill {pid} at 0.1 s: No such process"));
    refused(
        r#"{"at_s": 0.1, "run": ["no-such-program"]}"#,
        call,
        1,
        "drill: no-such-program at 0.1 s: No such file",
    );
    refused(r#"{"at_s": 0.1, "run": ["false"]}"#, call, 1, "drill: false at 0.1 s: exit status: 1");
    refused(
        r#"{"at_s": 5, "kill": 7}"#,
        call,
        1,
        "faults[0]: found at_s 5, expected less than the 0.4 s of the load",
    );
    refused("", call, 1, "drill.json: found no faults");
    let missing = "--rate 5 --drill missing.json";
    refused("", missing, 1, "missing.json: cannot read");
    refused(
        "",
        &format!("{call} --trials 2"),
        2,
        "--drill: found 1 targets, 1 rates and 2 trials, expected one",
    );
}

#[test]
fn slices_of_time_and_a_live_line_show_the_course_of_it() {
    let server = Server::taking(5);
    let call = "--ramp 50:150 --seconds 2.5 --slices 1s";
    let report = measured(&server, &server.http(), call);
    let slices = report["runs"][0]["slices"].as_array().unwrap();
    let rates: Vec<f64> = slices.iter().map(|slice| slice["rate"].as_f64().unwrap()).collect();
    assert!(rates.len() == 3 && rates[0] < rates[1] && rates[1] < rates[2], "{rates:?}");
    let requests: u64 = slices.iter().map(|slice| slice["requests"].as_u64().unwrap()).sum();
    assert_eq!(report["runs"][0]["requests"], requests);
    assert!(slices.iter().all(|slice| slice["latency_ms"]["median"].as_f64() > Some(5.0)), "{slices:?}");
    let ended = load(server.folder.path(), &server.http(), call).args("--progress always").run();
    let table = String::from_utf8(ended.stdout).unwrap();
    assert!(table.contains("\n\n      FROM      RATE       NUM"), "{table}");
    assert!(ended.stderr.contains(" ms, 0.0 % rebuilt, 0 failed"), "{}", ended.stderr);
}

#[test]
fn a_signal_ends_it_and_prints_what_there_is() {
    let server = Server::taking(1);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        // Of a pipe one sees when there are records.
        let (pipe, once) = (server.path("r.jsonl"), server.path(signal));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (from, begun) = (pipe.clone(), once.clone());
        let reader = thread::spawn(move || {
            let lines = BufReader::new(fs::File::open(from).unwrap()).lines();
            let note = |line: Result<String, _>| {
                let record: Record = serde_json::from_str(&line.unwrap()).unwrap();
                fs::write(&begun, "x").unwrap();
                record
            };
            lines.map(note).collect::<Vec<_>>()
        });
        let call = "--rate 200,300 --seconds 3600 --json --records r.jsonl";
        let ended = load(server.folder.path(), &server.http(), call).interrupt(signal, &once);
        assert_eq!((ended.code, ended.stderr.as_str()), (code, ""));
        let report = parsed(&ended.stdout);
        assert_eq!(report["runs"].as_array().unwrap().len(), 1, "{report}");
        assert!(report["runs"][0]["answered"].as_u64() > Some(10), "{report}");
        assert_eq!(report["runs"][0]["requests"], reader.join().unwrap().len());
        fs::remove_file(pipe).unwrap();
    }
}
