//! `parm-plot latency`, `load` and `front` as a process.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

fn plot(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-plot").args(arguments).within(folder).run()
}

fn svg(folder: &Path, arguments: &str) -> String {
    String::from_utf8(plot(folder, arguments).output()).unwrap()
}

/// The texts of an SVG, as they are shown.
fn texts(svg: &str) -> Vec<String> {
    let texts = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text"));
    texts.map(|(text, _)| text.trim().to_owned()).collect()
}

#[track_caller]
fn shows(svg: &str, expected: &[&str]) {
    let texts = texts(svg);
    for expected in expected {
        assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
    }
}

/// Records of a rate, with latencies in ms; every so many fails.
fn records(rate: u32, latencies: impl Iterator<Item = u64>, failing: usize) -> String {
    let mut text = String::new();
    for (query, ms) in latencies.enumerate() {
        let (begin, end) = (query as u64 * 1_000_000, (query as u64 + ms) * 1_000_000);
        let failed = (query + 1) % failing == 0;
        let outcome = if failed { r#""failed","status":503,"error":"say \"no\"""# } else { r#""answered""# };
        let times = format!(r#""intended_ns":{begin},"sent_ns":{begin},"ended_ns":{end}"#);
        writeln!(text, r#"{{"rate":{rate}.0,"query":{query},{times},"outcome":{outcome}}}"#).unwrap();
    }
    text
}

/// A report of one run at each rate: with a median, and ten times as much as P99.9.
fn report(runs: &[(&str, u32, f64)]) -> String {
    let run = |(name, rate, ms): &(&str, u32, f64)| {
        let latencies = |factor: f64| {
            format!(r#""latency_ms":{{"median":{},"p99":null,"p99.9":{}}}"#, ms * factor, ms * factor * 10.0)
        };
        let extremes = format!(r#""min":{{{}}},"max":{{{}}}"#, latencies(0.5), latencies(2.0));
        format!(
            r#"{{"name":"{name}","rate":{rate},"requests":200,"answered":199,{},{extremes}}}"#,
            latencies(1.0)
        )
    };
    format!(r#"{{"format":1,"runs":[{}]}}"#, runs.iter().map(run).collect::<Vec<_>>().join(","))
}

/// Advice: names, instances, P99.9 and A_o.
fn advice(candidates: &[(&str, u32, f64, f64)]) -> String {
    let candidate = |(name, instances, high, accuracy): &(&str, u32, f64, f64)| {
        let times = format!(r#""median_ms":30.0,"p99_ms":null,"p99.9_ms":{high}"#);
        format!(r#"{{"name":"{name}","instances":{instances},{times},"A_o":{accuracy}}}"#)
    };
    let candidates: Vec<String> = candidates.iter().map(candidate).collect();
    format!(r#"{{"format":1,"candidates":[{}],"chosen":"none"}}"#, candidates.join(",\n"))
}

fn small() -> String {
    advice(&[("none", 15, 155.0, 0.98), ("pooled", 15, 49.0, 0.97), ("apart", 15, 60.0, 0.96)])
}

fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("one.jsonl", &records(100, (0..2000).map(|query| 10 + query % 100), usize::MAX));
    write(
        "two.jsonl",
        &(records(100, (1..500).map(|_| 7), 50) + &records(200, (1..500).map(|_| 9), usize::MAX)),
    );
    write("report.json", &report(&[("plain", 100, 10.0), ("plain", 300, 11.0), ("coded", 100, 9.0)]));
    write("small.json", &small());
    write("large.json", &advice(&[("none", 24, 150.0, 0.98), ("pooled", 24, 36.0, 0.975)]));
    folder
}

/// The dark and the colored pixels of a PNG.
fn pixels(path: &Path) -> (usize, usize) {
    let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(path).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let count = |is: fn(u8, u8) -> bool| {
        pixels
            .chunks_exact(3)
            .filter(|pixel| is(*pixel.iter().min().unwrap(), *pixel.iter().max().unwrap()))
            .count()
    };
    (count(|_, most| most < 80), count(|least, most| most - least > 100))
}

#[test]
fn tails_have_percentiles_and_a_line_for_each_file_and_rate() {
    let folder = stage();
    let image = svg(folder.path(), "latency one.jsonl two.jsonl --title Tails --reference target=0.01");
    shows(&image, &["Tails", "latency (ms)", "answers that are slower", "P50", "P90", "P99", "target"]);
    shows(&image, &["one, 100/s", "two, 100/s (1.80 % failed)", "two, 200/s"]);
    // One file of one rate is called by its name.
    shows(&svg(folder.path(), "latency one.jsonl"), &["one"]);
    let named = records(5, 3..9, 100).replace("\"rate\"", "\"policy\":\"coded\",\"rate\"");
    let piped = Tool::new("parm-plot").args("latency").stdin(named).run();
    shows(&String::from_utf8(piped.output()).unwrap(), &["coded", "P50"]);
}

#[test]
fn a_tail_ends_where_it_should() {
    let folder = stage();
    let image = svg(folder.path(), "latency one.jsonl");
    // 2000 answers within 109 ms, 20 in each: the last step is that from 108 to 109 ms at a share of 0.01.
    let line = image.lines().find(|line| line.contains("stroke=\"#0072b2\"")).unwrap();
    let points: Vec<(f64, f64)> = line
        .strip_prefix("<path d=\"M")
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .split_whitespace()
        .map(|point| {
            let (x, y) = point.split_once(',').unwrap();
            (x.parse().unwrap(), y.parse().unwrap())
        })
        .collect();
    let (first, before, last) = (points[0], points[points.len() - 2], points[points.len() - 1]);
    assert!(last.1 == before.1 && last.1 > first.1, "{points:?}");
    let step = (last.0 - before.0) / (last.0 - first.0);
    assert!((step - 1.0 / 99.0).abs() < 0.002, "{step}");
}

#[test]
fn latencies_over_time_have_a_point_for_each_slice() {
    let folder = stage();
    // A request each ms: the second hundred takes 50 ms.
    let text = records(100, (0..300).map(|query| if query / 100 == 1 { 50 } else { 5 }), usize::MAX);
    fs::write(folder.path().join("slow.jsonl"), text).unwrap();
    let image = svg(folder.path(), "latency slow.jsonl --slices 100ms --data slow.csv");
    shows(&image, &["time (s)", "latency (ms)", "median", "P99", "P99.9"]);
    let csv = fs::read_to_string(folder.path().join("slow.csv")).unwrap();
    let median: Vec<(f64, f64)> = csv
        .lines()
        .filter(|line| line.contains(",median,"))
        .map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[2].parse().unwrap(), cells[3].parse::<f64>().unwrap().round())
        })
        .collect();
    assert_eq!(median, [(0.0, 5.0), (0.1, 50.0), (0.2, 5.0)]);
    let refused = plot(folder.path(), "latency slow.jsonl --slices 1us");
    assert!(
        refused.code == 1 && refused.stderr.contains("expected at most 10000: see --slices"),
        "{}",
        refused.stderr
    );
    shows(&svg(folder.path(), "latency one.jsonl two.jsonl --slices 1s"), &["two, 200/s, P99.9"]);
}

#[test]
fn loads_have_a_line_for_each_target_and_latency() {
    let folder = stage();
    let image = svg(folder.path(), "load report.json --reference target=60");
    shows(&image, &["requests/s", "latency (ms)", "target", "plain, median (0.50 % failed)"]);
    shows(&image, &["coded, P99.9 (0.50 % failed)", "50", "100", "200"]);
    assert!(!texts(&image).iter().any(|text| text.contains("P99 ")), "what is null has no line");
    let heights = image.split(" y=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap());
    assert!(heights.fold(0.0, f64::max) <= 520.0, "within the image");
    let image = svg(folder.path(), "load report.json --latency p99.9");
    assert!(!texts(&image).iter().any(|text| text.contains("median")));
    fs::write(
        folder.path().join("other.json"),
        report(&[("plain", 100, 10.0)]).replace("\"name\":\"plain\",", ""),
    )
    .unwrap();
    let image = svg(folder.path(), "load report.json other.json --latency median");
    shows(&image, &["report, plain, median (0.50 % failed)", "other, median (0.50 % failed)"]);
}

#[test]
fn goodput_is_drawn_below_latencies_if_a_report_has_it() {
    let folder = stage();
    let plain = report(&[("plain", 100, 10.0), ("plain", 300, 11.0), ("coded", 100, 9.0)]);
    let good = plain
        .replace("\"rate\":100", "\"rate\":100,\"goodput\":95.5")
        .replace("\"rate\":300", "\"rate\":300,\"goodput\":120")
        .replace("\"min\":{", "\"min\":{\"goodput\":90,")
        .replace("\"max\":{", "\"max\":{\"goodput\":130,");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("good.json", &good);
    let image = svg(folder.path(), "load good.json --latency p99.9 --reference target=60 --data good.csv");
    shows(&image, &["latency (ms)", "goodput (answers/s)", "requests/s"]);
    shows(&image, &["plain, P99.9 (0.50 % failed)", "coded, goodput (0.50 % failed)"]);
    assert_eq!(texts(&image).iter().filter(|text| *text == "target").count(), 1);
    let csv = fs::read_to_string(folder.path().join("good.csv")).unwrap();
    let goodput: Vec<&str> = csv.lines().filter(|line| line.starts_with("goodput (answers/s),")).collect();
    assert_eq!(goodput.len(), 3, "{csv}");
    assert!(goodput[1].ends_with(",300,120,90,130"), "{csv}");
    write("outside.json", &good.replace("\"goodput\":90", "\"goodput\":99"));
    let refused = plot(folder.path(), "load outside.json");
    let expected = "runs[0]: found goodput 95.5 outside of its min 99 and max 130";
    assert!(refused.code == 1 && refused.stderr.contains(expected), "{}", refused.stderr);
    // Without an objective there is one panel.
    assert!(!texts(&svg(folder.path(), "load report.json")).iter().any(|text| text.contains("goodput")));
}

#[test]
fn slices_are_drawn_over_time() {
    let folder = stage();
    let slice = |from: u32, ms: u32| {
        format!(r#"{{"from_s":{from},"latency_ms":{{"median":{ms},"p99":{},"p99.9":null}}}}"#, 3 * ms)
    };
    let run = |rate: u32| {
        format!(r#"{{"rate":{rate},"slices":[{},{},{}]}}"#, slice(0, 10), slice(10, 40), slice(20, 12))
    };
    let write = |runs: &str| {
        let report = format!(r#"{{"format":1,"runs":[{runs}]}}"#);
        fs::write(folder.path().join("slices.json"), report).unwrap();
    };
    write(&run(100));
    let image = svg(folder.path(), "load slices.json --slices");
    shows(&image, &["time (s)", "latency (ms)", "median", "P99", "20"]);
    assert!(!texts(&image).iter().any(|text| text.contains("P99.9") || text.contains("/s")));
    write(&[run(100), run(200)].join(","));
    shows(&svg(folder.path(), "load slices.json --slices --latency p99"), &["100/s, P99", "200/s, P99"]);
    for (text, expected) in [
        (r#"{"rate":1}"#, "runs[0]: found no \"slices\", expected a list"),
        (r#"{"rate":1,"slices":[{}]}"#, "slices[0]: found no \"from_s\", expected a time"),
        (r#"{"rate":1,"slices":[]}"#, "found none of these latencies in any slice"),
    ] {
        write(text);
        let ended = plot(folder.path(), "load slices.json --slices");
        assert!(ended.code == 1 && ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

#[test]
fn a_load_of_one_server_differs_in_markers() {
    let folder = stage();
    let one =
        report(&[("", 100, 10.0), ("", 200, 12.0)]).replace("\"name\":\"\",", "").replace(":199", ":200");
    fs::write(folder.path().join("one.json"), one).unwrap();
    let image = svg(folder.path(), "load one.json");
    shows(&image, &["median", "P99.9"]);
    assert_eq!(plot(folder.path(), "load one.json -o load.png --size 500x300").output(), b"");
    let (dark, colored) = pixels(&folder.path().join("load.png"));
    assert!((500..30_000).contains(&dark) && (200..30_000).contains(&colored), "{dark} {colored}");
}

#[test]
fn fronts_go_through_what_nothing_beats() {
    let folder = stage();
    let image = svg(folder.path(), "front small.json large.json");
    shows(&image, &["A_o", "P99.9 of latencies (ms); numbers are instances", "none", "pooled", "apart"]);
    shows(&image, &["15", "24", "best up to 15 instances", "best up to 24 instances"]);
    let image = svg(folder.path(), "front small.json --latency gap --reference A_a=0.98");
    shows(&image, &["P99.9 − median of latencies (ms); 15 instances", "best", "A_a"]);
    assert_eq!(plot(folder.path(), "front small.json large.json -o front.png").output(), b"");
    let (dark, colored) = pixels(&folder.path().join("front.png"));
    assert!((1000..60_000).contains(&dark) && (200..30_000).contains(&colored), "{dark} {colored}");
}

#[test]
fn what_is_no_record_is_refused() {
    let folder = stage();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let good = records(10, 1..9, usize::MAX);
    write("empty.jsonl", "\n\n");
    write("cut.jsonl", &good[..good.len() - 20]);
    write("nothing.jsonl", &good.replace("answered", "timeout"));
    write(
        "back.jsonl",
        &good
            .replace("\"ended_ns\":1000000,", "\"ended_ns\":1,")
            .replace("\"intended_ns\":0", "\"intended_ns\":2"),
    );
    write("still.jsonl", &good.replace("\"rate\":10.0", "\"rate\":0"));
    write("nan.jsonl", &good.replace("\"rate\":10.0", "\"rate\":NaN"));
    write("huge.jsonl", &good.replace("\"rate\":10.0", "\"rate\":1e999"));
    write("typed.jsonl", &good.replace("\"rate\":10.0", "\"rate\":\"10\""));
    write("long.jsonl", &format!("{good}{}", "x".repeat(2 << 20)));
    write("many.jsonl", &(1..=101).map(|rate| records(rate, 1..2, 9)).collect::<String>());
    write("legend.jsonl", &(1..=60).map(|rate| records(rate, 1..2, 9)).collect::<String>());
    for (call, code, message) in [
        ("latency empty.jsonl", 1, "empty.jsonl: found no records, expected a line of JSON for each request"),
        ("latency cut.jsonl", 1, "cut.jsonl: line 8, column"),
        ("latency nothing.jsonl", 1, "nothing.jsonl: found no answer to any of 8 requests"),
        ("latency back.jsonl", 1, "back.jsonl: line 1: found ended_ns 1 before intended_ns 2"),
        ("latency still.jsonl", 1, "still.jsonl: line 1: found rate 0, expected a positive number"),
        ("latency nan.jsonl", 1, "nan.jsonl: line 1, column 9: malformed JSON: expected"),
        ("latency huge.jsonl", 1, "huge.jsonl: line 1, column 13: malformed JSON: number out of range"),
        ("latency typed.jsonl", 1, "typed.jsonl: line 1, column 12: invalid type: string"),
        ("latency long.jsonl", 1, "long.jsonl: line 9: found more than 1048576 bytes, expected a record"),
        ("latency many.jsonl", 1, "many.jsonl: line 101: found more than 100 names and rates"),
        ("latency legend.jsonl", 1, "found 60 series, expected at most"),
        ("latency report.json", 1, "report.json: line 1, column"),
        ("latency missing", 1, "missing: cannot open"),
        ("latency - -", 2, "standard input) is named twice"),
        ("latency one.jsonl --reference 2", 1, "--reference: found 2, expected a share from 0 to 1"),
        ("latency one.jsonl --reference 0", 1, "--reference: found 0, expected a share from 1e-9 to 1"),
        ("latency one.jsonl --reference x=", 2, "expected [NAME=]VALUE"),
    ] {
        let refused = plot(folder.path(), &format!("{call} -o out.svg"));
        assert!(refused.code == code && refused.stderr.contains(message), "{call}: {}", refused.stderr);
        assert!(!folder.path().join("out.svg").exists() && refused.stdout.is_empty(), "{call}");
    }
}

#[test]
fn what_is_no_report_is_refused() {
    let folder = stage();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let good = report(&[("a", 100, 10.0)]);
    for (name, from, to) in [
        ("future", "\"format\":1", "\"format\":2"),
        ("runless", "\"runs\"", "\"rows\""),
        ("bare", "\"latency_ms\"", "\"latencies\""),
        ("flat", "\"median\":10", "\"median\":\"10\""),
        ("negative", "\"median\":10", "\"median\":-1"),
        ("outside", "\"median\":10", "\"median\":1000"),
        ("still", "\"rate\":100", "\"rate\":0"),
        ("named", "\"name\":\"a\"", "\"name\":7"),
        ("listed", "\"min\":{", "\"least\":{},\"min\":[],\"x\":{"),
        ("huge", "\"median\":10", "\"median\":1e999"),
    ] {
        assert!(good.contains(from), "{from}");
        write(&format!("{name}.json"), &good.replacen(from, to, 1));
    }
    for (name, from, to) in [
        ("nameless", "\"name\"", "\"title\""),
        ("blind", "\"A_o\"", "\"A_x\""),
        ("right", "0.98", "98"),
        ("free", "\"instances\"", "\"machines\""),
        ("back", "155", "-155"),
    ] {
        assert!(small().contains(from), "{from}");
        write(&format!("{name}.json"), &small().replace(from, to));
    }
    write("empty.json", r#"{"format":1,"runs":[]}"#);
    write("list.json", "[]");
    write("nothing.json", r#"{"format":1,"runs":[{"rate":1,"latency_ms":{"median":null}}]}"#);
    write("twice.json", &report(&[("a", 100, 10.0), ("a", 100, 11.0)]));
    for (call, message) in [
        ("load future.json", "future.json: found format 2, expected 1"),
        ("load runless.json", "runless.json: found no \"runs\", expected a list of them"),
        ("load empty.json", "empty.json: found a report of no runs, expected at least one"),
        ("load list.json", "list.json: found [], expected an object"),
        ("load bare.json", "bare.json: runs[0]: found no \"latency_ms\", expected an object of latencies"),
        ("load flat.json", "flat.json: runs[0]: latency_ms: found \"10\" as \"median\", expected a number"),
        ("load negative.json", "found -1 as \"median\", expected a number from 0"),
        ("load outside.json", "runs[0]: found median 1000 outside of its min 5 and max 20"),
        ("load still.json", "still.json: runs[0]: found no \"rate\", expected a positive number"),
        ("load named.json", "named.json: runs[0]: found 7 as \"name\", expected a text"),
        ("load listed.json", "listed.json: runs[0]: min: found [], expected an object"),
        ("load huge.json", "huge.json: line 1, column"),
        ("load nothing.json", "nothing.json: found none of these latencies in any run"),
        ("load twice.json", "twice.json: found two runs of a at rate 100, expected one"),
        ("front nameless.json", "nameless.json: candidates[0]: found no \"name\", expected one"),
        ("front blind.json", "blind.json: found p99.9 and A_o in none of the candidates"),
        ("front right.json", "right.json: candidates[0]: found 98 as \"A_o\", expected a share from 0 to 1"),
        ("front free.json", "free.json: candidates[0]: found no \"instances\", expected a whole number"),
        ("front back.json", "back.json: candidates[0]: found -155 as \"p99.9_ms\", expected a number from 0"),
        ("front report.json", "report.json: found no \"candidates\", expected a list of them"),
        ("front small.json --latency p99", "small.json: found p99 and A_o in none of the candidates"),
        ("front small.json --reference 98", "--reference: found 98, expected a share from 0 to 1"),
    ] {
        let refused = plot(folder.path(), &format!("{call} -o out.svg"));
        assert!(refused.code == 1 && refused.stderr.contains(message), "{call}: {}", refused.stderr);
        assert!(!folder.path().join("out.svg").exists() && refused.stdout.is_empty(), "{call}");
    }
}

#[test]
fn extremes_are_drawn_or_refused_but_never_break_it() {
    let folder = stage();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let record =
        |end: u64| format!(r#"{{"rate":1e300,"intended_ns":0,"ended_ns":{end},"outcome":"answered"}}"#);
    write("huge.jsonl", &format!("{}\n{}\n{}", record(0), record(u64::MAX), record(1)));
    write("one.jsonl", &record(0));
    write(
        "long.json",
        &report(&[("ab\u{7}<&>", 1, 1e300), ("ab\u{7}<&>", 4_000_000_000, 1e-300)])
            .replace('\u{7}', "\\u0007"),
    );
    for call in ["latency huge.jsonl", "latency one.jsonl", "load long.json"] {
        for (size, format) in [("300x200", "svg"), ("840x520", "png")] {
            let drawn = plot(folder.path(), &format!("{call} --size {size} --format {format}"));
            assert!(!drawn.output().is_empty(), "{call}");
        }
    }
}
