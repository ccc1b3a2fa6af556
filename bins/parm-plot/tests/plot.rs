//! `parm-plot` as a process.

use std::fs;
use std::path::Path;

use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

const METRICS: &str = r#"{"epoch":1,"train_loss":2.5,"validation_loss":2.0,"agreement":0.5,"A_d":0.45,"lr":0.001,"seconds":0.1}
{"epoch":2,"train_loss":1.5,"validation_loss":1.2,"agreement":0.7,"A_d":0.65,"lr":0.001,"seconds":0.1}
{"epoch":3,"train_loss":1.1,"validation_loss":1.0,"agreement":0.8,"A_d":0.75,"lr":0.001,"seconds":0.1}
"#;

const COMPARISON: &str = r#"{"format":1,"recommendation":"none","rows":[
{"code":"none","k":2,"extra_workers":1,"lost":1,"A_a":0.98,"A_d":null,"A_all":0.6,"low":0.58,"high":0.62,"agreement":null},
{"code":"none","k":8,"extra_workers":1,"lost":1,"A_a":0.98,"A_d":null,"A_all":0.88,"low":0.87,"high":0.89,"agreement":null},
{"code":"berrut <&>","k":2,"extra_workers":1,"lost":1,"A_a":null,"A_d":0.9,"A_all":0.9,"low":0.89,"high":0.91,"agreement":0.91},
{"code":"berrut <&>","k":8,"extra_workers":1,"lost":1,"A_a":null,"A_d":0.86,"A_all":0.86,"low":0.85,"high":0.87,"agreement":0.87},
{"code":"berrut <&>","k":8,"extra_workers":2,"lost":2,"A_a":null,"A_d":0.81,"A_all":0.81,"low":0.8,"high":0.82,"agreement":0.82}]}"#;

fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), METRICS).unwrap();
    fs::write(folder.path().join("compare.json"), COMPARISON).unwrap();
    folder
}

fn plot(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-plot").args(arguments).within(folder).run()
}

fn svg(folder: &Path, arguments: &str) -> String {
    String::from_utf8(plot(folder, arguments).output()).unwrap()
}

/// The texts of an SVG, as they are shown.
fn texts(svg: &str) -> Vec<String> {
    let shown = |text: &str| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let texts = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text"));
    texts.map(|(text, _)| shown(text.trim())).collect()
}

#[test]
fn curves_show_losses_and_shares_within_the_image() {
    let folder = stage();
    let image = svg(folder.path(), "curves metrics.jsonl --title Trained --size 600x400");
    let texts = texts(&image);
    for expected in ["Trained", "epoch", "loss", "train loss", "validation loss", "agreement", "A_d"] {
        assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
    }
    assert!(image.contains("width=\"600\" height=\"400\""));
    let heights = image.split(" y=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap());
    assert!(heights.fold(0.0, f64::max) <= 400.0, "within the image");
}

#[test]
fn comparisons_have_a_line_for_each_code_that_differs_without_color() {
    let folder = stage();
    let image = svg(folder.path(), "k compare.json --lost 1");
    let shown = texts(&image);
    for expected in ["k", "accuracy A_all", "none", "berrut <&>"] {
        assert!(shown.iter().any(|text| text == expected), "{expected} in {shown:?}");
    }
    assert!(image.contains("stroke-dasharray"), "lines differ in dashes");
    let workers = svg(folder.path(), "workers compare.json -k 8 --score A_d");
    let shown = texts(&workers);
    assert!(shown.iter().any(|text| text == "accuracy A_d"), "{shown:?}");
    assert!(!shown.iter().any(|text| text == "none"), "a code without the score has no line: {shown:?}");
}

#[test]
fn png_has_the_size_that_is_asked_for() {
    let folder = stage();
    assert_eq!(plot(folder.path(), "k compare.json --lost 1 --size 400x300 -o k.png").output(), b"");
    let decoder =
        png::Decoder::new(std::io::BufReader::new(fs::File::open(folder.path().join("k.png")).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    assert_eq!((reader.info().width, reader.info().height), (400, 300));
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let dark = pixels.chunks_exact(3).filter(|pixel| pixel.iter().all(|&channel| channel < 80)).count();
    assert!((200..60_000).contains(&dark), "{dark} dark pixels: axes and text on white");
}

#[test]
fn the_same_results_make_the_same_bytes() {
    let folder = stage();
    for format in ["svg", "png"] {
        let image = || plot(folder.path(), &format!("k compare.json --lost 1 --format {format}")).output();
        assert!(image() == image(), "{format}");
    }
    let image = svg(folder.path(), "curves metrics.jsonl");
    assert!(image.contains("sans-serif\""), "viewers without the font have another");
}

#[test]
fn what_is_no_result_is_refused() {
    let folder = stage();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("empty", "");
    write("cut.jsonl", &METRICS[..200]);
    write("back.jsonl", &METRICS.lines().rev().collect::<Vec<_>>().join("\n"));
    write("future.json", &COMPARISON.replace("\"format\":1", "\"format\":3"));
    write("nameless.json", &COMPARISON.replacen("\"code\":\"none\",", "", 1));
    write("high.json", &COMPARISON.replacen("\"A_all\":0.6", "\"A_all\":60", 1));
    write("twice.json", &COMPARISON.replacen("\"k\":8", "\"k\":2", 1));
    for (call, code, message) in [
        ("curves empty -o out.svg", 1, "empty: found no epochs, expected a line of JSON for each"),
        ("curves cut.jsonl -o out.svg", 1, "cut.jsonl: line 2"),
        ("curves back.jsonl -o out.svg", 1, "back.jsonl: line 2: found epoch 2 after epoch 3"),
        ("curves missing -o out.svg", 1, "missing: cannot open"),
        ("k future.json -o out.svg", 1, "future.json: found format 3, expected 1 or 2"),
        ("k nameless.json -o out.svg", 1, "nameless.json: row 0: found no \"code\""),
        (
            "k high.json -o out.svg",
            1,
            "high.json: row 0: found 60 as \"A_all\", expected a share from 0 to 1",
        ),
        ("k twice.json -o out.svg", 1, "found two rows of none"),
        ("k compare.json -k 5 -o out.svg", 1, "found 5 rows and none that is selected"),
        ("k compare.json -o out.gif", 2, "out.gif: found a name that ends in none of .svg, .png and .pdf"),
        ("k compare.json --size 10x10 -o out.svg", 2, "expected WIDTHxHEIGHT from 300x200"),
        ("curves metrics.jsonl -o /dev/full --format svg", 1, "No space left on device"),
    ] {
        let refused = plot(folder.path(), call);
        assert!(refused.code == code && refused.stderr.contains(message), "{call}: {}", refused.stderr);
        assert!(!folder.path().join("out.svg").exists() && refused.stdout.is_empty(), "{call}");
    }
}

#[test]
fn characters_that_the_font_has_not_are_named_where_boxes_stand_for_them() {
    let folder = stage();
    let plot = |title: &str, more: &str| {
        let call = Tool::new("parm-plot").args("curves metrics.jsonl --title").arg(title).args(more);
        let outcome = call.within(folder.path()).run();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stderr
    };
    let warning = plot("\u{5ea6}: \u{7cbe}\u{5ea6} of \u{3b1}, \u{e9}t\u{e9}", "-o o.png");
    let expected = "parm-plot: warning: o.png: the font has no \u{5ea6} \u{7cbe}: boxes stand for them; in SVG, \
                    viewers use fonts of their own\n";
    assert_eq!(warning, expected);
    assert_eq!(plot("\u{7cbe}\u{5ea6}", "-o o.png -q"), "");
    // What XML forbids is replaced by what the font has.
    assert_eq!(plot("\u{7}\u{ffff}", "-o o.png"), "");
    // Greek and accents it has; and with SVG it is the viewer's font that counts.
    assert_eq!(plot("\u{3b1} \u{2264} \u{e9}t\u{e9}", "-o o.png"), "");
    assert_eq!(plot("\u{7cbe}\u{5ea6}", "-o o.svg"), "");
}

/// A comparison: the code, its k, the accuracy of its deployed model and A_d.
fn comparison(rows: &[(&str, u32, f64, f64)]) -> String {
    let row = |(code, k, accuracy, degraded): &(&str, u32, f64, f64)| {
        format!(
            r#"{{"code":"{code}","k":{k},"extra_workers":1,"lost":1,"accuracy":{accuracy},"A_d":{degraded}}}"#
        )
    };
    format!(r#"{{"format":1,"rows":[{}]}}"#, rows.iter().map(row).collect::<Vec<_>>().join(","))
}

#[test]
fn joint_trainings_of_several_reports_are_a_line_for_each_code_and_k() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write =
        |name: &str, rows: &[(&str, u32, f64, f64)]| fs::write(path.join(name), comparison(rows)).unwrap();
    write(
        "a.json",
        &[("none", 4, 0.98, 0.1), ("sum (joint)", 4, 0.97, 0.93), ("berrut (joint, b)", 8, 0.98, 0.9)],
    );
    write("b.json", &[("replicate", 4, 0.98, 0.98), ("sum (joint, c)", 4, 0.98, 0.91)]);
    // Format 2 says the parts of the name apart.
    let row = r#"{"code":"spline:joint:d","name":"spline","training":"joint","k":4,"extra_workers":1,"lost":1,
        "deployed":0.96,"A_d":0.8}"#;
    fs::write(path.join("c.json"), format!(r#"{{"format":2,"rows":[{row}]}}"#)).unwrap();
    assert!(texts(&svg(path, "joint c.json")).contains(&"spline:joint, k = 4".to_owned()));
    let all = texts(&svg(path, "joint a.json b.json"));
    for expected in ["sum (joint), k = 4", "berrut (joint), k = 8", "accuracy of the deployed model"] {
        assert_eq!(all.iter().filter(|text| *text == expected).count(), 1, "{expected} in {all:?}");
    }
    assert!(!all.iter().any(|text| text.contains("none") || text.contains("replicate")), "{all:?}");
    let some = texts(&svg(path, "joint a.json b.json -k 4"));
    assert!(!some.iter().any(|text| text.contains("berrut")), "{some:?}");
    let refused = plot(path, "joint a.json -k 3");
    assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{}", refused.stderr);
    assert!(refused.stderr.contains("found accuracy and A_d of no code"), "{}", refused.stderr);
}

/// The report of parm-score with one score, of a value and its interval.
fn score(value: f64) -> String {
    format!(
        r#"{{"format":1,"scores":[
{{"score":"A_d","top":1,"value":{value},"low":{},"high":{},"rows":9}},
{{"score":"A_d","top":5,"value":1.0,"low":null,"high":null,"rows":9}},
{{"score":"agreement","top":null,"value":0.9,"low":null,"high":null,"rows":9}}]}}"#,
        value - 0.05,
        value + 0.05
    )
}

/// The cells of CSV without quotes.
fn cells(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn scores_stand_beside_their_names_and_seeds_become_a_mean_with_an_interval() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (seed, value) in (1..).zip([0.7, 0.8, 0.9]) {
        fs::write(path.join(format!("{seed}.json")), score(value)).unwrap();
    }
    let apart = texts(&svg(path, "scores 1.json 2.json 3.json"));
    for expected in ["A_d", "agreement", "1", "2", "3"] {
        assert!(apart.iter().any(|text| text == expected), "{expected} in {apart:?}");
    }
    let image = svg(path, "scores 1.json 2.json 3.json --average all --rename mean=ours --data numbers.csv");
    assert!(texts(&image).iter().any(|text| text == "ours") && !image.contains(">mean<"));
    let cells = cells(&path.join("numbers.csv"));
    assert_eq!(cells[0], ["panel", "series", "name", "value", "low", "high"]);
    assert_eq!(cells[1][..3], ["score", "ours", "A_d"]);
    let number = |at: usize| cells[1][at].parse::<f64>().unwrap();
    // A deviation of 0.1 and t = 4.303.
    let half = 4.303 * 0.1 / 3_f64.sqrt();
    assert!((number(3) - 0.8).abs() < 1e-9 && (number(4) - 0.8 + half).abs() < 1e-6, "{cells:?}");
    assert_eq!(cells[2][2..4], ["agreement", "0.9"]);
    let five = texts(&svg(path, "scores 1.json --top 5 --reference target=0.9"));
    assert!(five.iter().any(|text| text == "target"), "{five:?}");
    let mean =
        r#"{"score":"A_d","mean":0.8,"low":0.7,"high":0.9,"versus":{"mean":0.75,"low":null,"high":null}}"#;
    fs::write(path.join("all.json"), format!(r#"{{"format":1,"aggregates":[{mean}]}}"#)).unwrap();
    let aggregates = texts(&svg(path, "scores all.json"));
    assert!(aggregates.iter().any(|text| text == "mean of those compared with"), "{aggregates:?}");
    let two =
        score(0.7).replace("\"A_d\",\"top\":1", "\"A_all\",\"lost\":null,\"baseline\":\"none\",\"top\":1");
    fs::write(path.join("two.json"), two.replace("\"format\":1", "\"format\":2")).unwrap();
    assert!(texts(&svg(path, "scores two.json")).contains(&"A_all:none".to_owned()));
    fs::write(path.join("run.json"), r#"{"run":"a","k":2,"A_d":0.5,"settings":null}{"run":"b","A_d":0.6}"#)
        .unwrap();
    let runs = texts(&svg(path, "scores run.json"));
    assert!(["a", "b", "A_d"].iter().all(|name| runs.iter().any(|text| text == name)), "{runs:?}");
}

#[test]
fn comparisons_of_several_seeds_and_folders_are_averaged() {
    let folder = stage();
    let path = folder.path();
    for (name, value) in [("a/1", "0.6"), ("a/2", "0.62"), ("b/1", "0.5")] {
        let file = path.join(format!("{name}.json"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, COMPARISON.replacen("\"A_all\":0.6", &format!("\"A_all\":{value}"), 1)).unwrap();
    }
    let call = "k a/1.json a/2.json b/1.json --lost 1 --average folder --data n.csv";
    let image = texts(&svg(path, call));
    assert!(
        image.iter().any(|text| text == "a, none") && image.iter().any(|text| text == "b, none"),
        "{image:?}"
    );
    let cells = cells(&path.join("n.csv"));
    let first =
        cells.iter().find(|cells| cells[1..].concat().contains("\"a none\"2") || cells[1] == "\"a").unwrap();
    let mean: f64 = first[4].parse().unwrap();
    assert!((mean - 0.61).abs() < 1e-9 && !first[5].is_empty(), "{first:?}");
    let apart = texts(&svg(path, "workers a/1.json b/1.json -k 8 --lost 1"));
    assert!(apart.iter().any(|text| text == "a/1.json, none"), "{apart:?}");
    // The same training twice: no spread.
    fs::copy(path.join("metrics.jsonl"), path.join("again.jsonl")).unwrap();
    let curves = texts(&svg(path, "curves metrics.jsonl again.jsonl --average all"));
    assert!(curves.iter().any(|text| text == "validation loss"), "{curves:?}");
}

#[test]
fn themes_and_scales_change_colors_and_sizes_only() {
    let folder = stage();
    let light = svg(folder.path(), "k compare.json --lost 1");
    let dark = svg(folder.path(), "k compare.json --lost 1 --theme dark");
    assert!(light.contains("fill=\"#ffffff\"") && !dark.contains("#ffffff"));
    assert_eq!(texts(&light), texts(&dark));
    let large = svg(folder.path(), "k compare.json --lost 1 --scale 2");
    assert!(large.contains("width=\"840\" height=\"520\" viewBox=\"0 0 420 260\""));
    let refused = plot(folder.path(), "k compare.json --scale 3");
    assert!(
        refused.code == 2 && refused.stderr.contains("has room for what fits in 280x173"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_pdf_has_a_page_of_the_size_of_the_image_and_its_texts() {
    let folder = stage();
    assert_eq!(plot(folder.path(), "k compare.json --lost 1 --size 400x300 -o k.pdf").output(), b"");
    let pdf = fs::read(folder.path().join("k.pdf")).unwrap();
    let text = String::from_utf8_lossy(&pdf);
    assert!(text.starts_with("%PDF-1.") && text.contains("/MediaBox[0 0 300 225]"), "{}", &text[..200]);
    assert!(
        text.contains("DejaVuSans") && pdf.len() < 60_000,
        "its font, but only what is used: {}",
        pdf.len()
    );
    let again = plot(folder.path(), "k compare.json --lost 1 --size 400x300 --format pdf").output();
    assert_eq!(pdf, again);
}

#[test]
fn a_terminal_gets_characters() {
    let folder = stage();
    let drawn = svg(folder.path(), "curves metrics.jsonl --term --title Trained");
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines[0], "Trained");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{drawn}");
    for expected in ["\u{2800}", "train loss", "validation loss", "A_d", "epoch", "┤", "┬", "●", "□"]
    {
        let found = if expected == "\u{2800}" {
            drawn.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))
        } else {
            drawn.contains(expected)
        };
        assert!(found, "{expected}: {drawn}");
    }
    assert!(!drawn.contains('\u{1b}'), "no colors without a terminal");
    let colored = svg(folder.path(), "curves metrics.jsonl --term=blocks --color always");
    assert!(colored.contains("\u{1b}[34m") && colored.contains('▀') && !colored.contains('⠤'), "{colored}");
    let refused = plot(folder.path(), "curves metrics.jsonl --term --size 400x300");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

#[test]
fn what_cannot_be_drawn_so_is_refused() {
    let folder = stage();
    let path = folder.path();
    fs::write(path.join("score.json"), score(0.8)).unwrap();
    fs::write(path.join("future.json"), score(0.8).replace("\"format\":1", "\"format\":9")).unwrap();
    fs::write(path.join("empty.json"), r#"{"format":1,"scores":[]}"#).unwrap();
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/plots/journal.jsonl"),
        path.join("j.jsonl"),
    )
    .unwrap();
    for (call, code, message) in [
        ("scores score.json --top 3", 1, "score.json: found no scores of top 3, expected a top n of 1, 5"),
        ("scores compare.json", 1, "compare.json: found no \"scores\", expected a list of them"),
        ("scores future.json", 1, "future.json: found format 9, expected 1 or 2"),
        ("scores empty.json", 1, "empty.json: found no scores"),
        ("scores metrics.jsonl", 1, "metrics.jsonl: found no \"format\""),
        (
            "scores score.json --rename x=y",
            1,
            "--rename: found no \"x\" in the names of series, which are: score",
        ),
        ("scores score.json --rename x", 2, "expected OLD=NEW"),
        ("scores score.json --data missing/n.csv", 1, "missing/n.csv"),
        ("timeline j.jsonl --term", 2, "--term: found a timeline, expected a chart"),
    ] {
        let refused = plot(path, &format!("{call} -o out.svg"));
        assert!(refused.code == code && refused.stderr.contains(message), "{call}: {}", refused.stderr);
        assert!(!path.join("out.svg").exists() && refused.stdout.is_empty(), "{call}");
    }
    assert_eq!(plot(path, "timeline j.jsonl -o t.svg --data t.csv --theme dark").output(), b"");
    assert_eq!(cells(&path.join("t.csv"))[0], ["lane", "what", "from_ms", "to_ms"]);
}
