//! `parm-plot timeline` as a process.

use std::fs;
use std::path::{Path, PathBuf};

use parm_testkit::{Outcome, Tool};

fn journal() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/plots/journal.jsonl")
}

fn timeline(arguments: &str, journal: impl Into<Vec<u8>>) -> Outcome {
    Tool::new("parm-plot").args("timeline").args(arguments).stdin(journal).run()
}

/// The texts of an image of this journal.
fn texts(arguments: &str, journal: &str) -> Vec<String> {
    let svg = String::from_utf8(timeline(arguments, journal).output()).unwrap();
    let texts = svg.split("<text").skip(1).filter_map(|text| text.split_once('>')?.1.split_once("</text"));
    texts.map(|(text, _)| text.trim().to_owned()).collect()
}

#[track_caller]
fn shows(texts: &[String], expected: &[&str]) {
    for expected in expected {
        assert!(texts.iter().any(|text| text == expected), "{expected} in {texts:?}");
    }
}

/// A group of two queries, of which the first is late: `end` is what becomes of its call, at 90 ms.
fn group(end: &str) -> String {
    let lines = [
        r#"{"t_ns":5000000,"event":"arrive","query":10}"#,
        r#"{"t_ns":5000000,"event":"dispatch","call":0,"instance":1,"task":"deployed","queries":[10]}"#,
        r#"{"t_ns":6000000,"event":"arrive","query":11}"#,
        r#"{"t_ns":6000000,"event":"dispatch","call":1,"instance":0,"task":"deployed","queries":[11]}"#,
        r#"{"t_ns":7000000,"event":"dispatch","call":2,"instance":7,"task":"parity","group":4,"parity":0,"slots":[[10],[11]]}"#,
        r#"{"t_ns":30000000,"event":"answered","call":1}"#,
        r#"{"t_ns":30000000,"event":"answer","query":11,"outcome":"prediction"}"#,
        r#"{"t_ns":35000000,"event":"answered","call":2}"#,
        r#"{"t_ns":45000000,"event":"answer","query":10,"outcome":"reconstructed","group":4,"queries":[11],"parities":[0]}"#,
        end,
    ];
    lines.join("\n")
}

const ANSWERED: &str = r#"{"t_ns":95000000,"event":"answered","call":0}"#;

#[test]
fn the_first_group_of_which_something_was_rebuilt_is_told() {
    let texts = texts("", &fs::read_to_string(journal()).unwrap());
    shows(&texts, &["query 6", "query 7", "instance 2", "instance 5", "6", "7", "parity 0", "41.0 ms"]);
    shows(&texts, &["deployed model", "parity model", "for other queries", "query arrives", "rebuilt"]);
    shows(
        &texts,
        &[
            "ms since the first query of group 3 arrived",
            "Query 6: rebuilt at 41.0 ms from query 7 and parity 0; its own prediction came at 104.0 ms.",
        ],
    );
    assert!(!texts.iter().any(|text| text == "call failed"), "{texts:?}");
}

#[test]
fn another_group_may_be_asked_for_and_may_have_nothing_to_tell() {
    let journal = fs::read_to_string(journal()).unwrap();
    let failed = texts("--group 10 --title Failed", &journal);
    shows(&failed, &["Failed", "call failed", "query 21"]);
    let quiet = texts("--group 0", &journal);
    shows(&quiet, &["query 0", "its prediction"]);
    assert!(!quiet.iter().any(|text| text.starts_with("Query")), "{quiet:?}");
}

#[test]
fn what_became_of_a_late_call_is_told() {
    let rebuilt = "Query 10: rebuilt at 40.0 ms from query 11 and parity 0; its own prediction";
    shows(&texts("", &group(ANSWERED)), &["query 10", "instance 7", &format!("{rebuilt} came at 90.0 ms.")]);
    let cancelled = group(r#"{"t_ns":95000000,"event":"cancelled","call":0}"#);
    shows(&texts("", &cancelled), &["call cancelled", &format!("{rebuilt} never came.")]);
    let broken_off = format!("{cancelled}\n{}", r#"{"t_ns":95000000,"event":"failed","call":0}"#);
    assert_eq!(texts("", &broken_off), texts("", &cancelled));
    let late = format!("{cancelled}\n{}", r#"{"t_ns":96000000,"event":"answered","call":0}"#);
    shows(&texts("", &late), &[&format!("{rebuilt} came at 91.0 ms.")]);
    // A call that takes for ever does not press all else into a corner.
    let ever = texts("", &group(&ANSWERED.replace("95000000", "9500000000000")));
    shows(&ever, &["100", &format!("{rebuilt} came at 9499995.0 ms.")]);
}

#[test]
fn other_answers_have_marks_and_notes() {
    let answer = |outcome: &str| {
        group(ANSWERED).replace(r#""reconstructed","group":4,"queries":[11],"parities":[0]"#, outcome)
    };
    shows(&texts("", &answer("\"approximate\"")), &["approximated"]);
    let note = "Query 10: a default answer at 40.0 ms, its deadline; its own prediction came at 90.0 ms.";
    shows(&texts("", &answer("\"deadline\"")), &["default answer", note]);
    let note = "Query 10: a default answer at 40.0 ms, when all calls had failed; its own prediction came at 90.0 ms.";
    shows(&texts("", &answer("\"failed\"")), &[note]);
    let workers = answer(r#""reconstructed","group":4,"workers":[0,2,3]"#);
    let workers =
        workers.replace("\"parity\",\"group\":4,\"parity\":0", "\"coded\",\"group\":4,\"worker\":2");
    let note = "Query 10: rebuilt at 40.0 ms from worker 0, worker 2 and worker 3; its own prediction came at 90.0 ms.";
    shows(&texts("", &workers), &["coded query", "worker 2", note]);
    let copies =
        group(ANSWERED).replace("\"instance\":0,\"task\":\"deployed\"", "\"instance\":0,\"task\":\"copy\"");
    shows(&texts("", &copies), &["deployed model, again"]);
    let approximate = copies.replace("\"task\":\"copy\"", "\"task\":\"approximate\"");
    shows(&texts("", &approximate), &["approximate model"]);
    // No answer yet: the journal was cut.
    let open: String = group("").lines().take(5).collect::<Vec<_>>().join("\n");
    shows(&texts("", &open), &["query 10", "query 11", "parity model"]);
}

#[test]
fn png_is_readable_without_colors() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("journal.jsonl"), group(ANSWERED)).unwrap();
    let drawn =
        Tool::new("parm-plot").args("timeline journal.jsonl -o out.png -v").within(folder.path()).run();
    assert_eq!((drawn.code, drawn.stderr.as_str()), (0, "parm-plot: drew group 4\n"));
    let file = fs::File::open(folder.path().join("out.png")).unwrap();
    let mut reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let grey = |pixel: &[u8]| pixel.iter().map(|&channel| u32::from(channel)).sum::<u32>() / 3;
    let count =
        |from: u32, to: u32| pixels.chunks_exact(3).filter(|pixel| (from..to).contains(&grey(pixel))).count();
    // Text and strokes; the fill of calls of the deployed model; paper.
    assert!((1500..40_000).contains(&count(0, 80)), "{}", count(0, 80));
    assert!((5000..80_000).contains(&count(190, 210)), "{}", count(190, 210));
    assert!(count(250, 256) > 300_000, "{}", count(250, 256));
}

#[test]
fn what_is_no_journal_is_refused() {
    let good = group(ANSWERED);
    let back = good.replace("\"t_ns\":95000000", "\"t_ns\":5");
    for (journal, arguments, message) in [
        (String::new(), "", "standard input: found no entries, expected a line of JSON for each event"),
        (good[..300].to_owned(), "", "standard input: line 5, column 28: malformed JSON: EOF"),
        ("[]".to_owned(), "", "standard input: line 1, column"),
        (good.replace("\"arrive\"", "\"arrived\""), "", "line 1, column 45: unknown variant `arrived`"),
        (good.replace("\"query\":10", "\"query\":-1"), "", "standard input: line 1, column"),
        (good.replace("\"t_ns\":5000000,", "\"t_ns\":NaN,"), "", "line 1, column 9: malformed JSON"),
        (good.replace("\"t_ns\":5000000,", "\"t_ns\":1e999,"), "", "line 1, column"),
        (good.replace("\"deployed\"", "\"dance\""), "", "standard input: line 2, column"),
        (back, "", "standard input: line 10: found t_ns 5 after 45000000, expected entries in order"),
        (
            good.replace("\"query\":11}", "\"query\":10}"),
            "",
            "line 3: found query 10 to arrive again, expected it once",
        ),
        (
            good.replace("\"call\":1,", "\"call\":0,"),
            "",
            "line 4: found call 0 to be sent again, expected it once",
        ),
        (
            good.replace("\"call\":1}", "\"call\":9}"),
            "",
            "line 6: found an end of call 9, expected one that runs",
        ),
        (format!("{good}\n{ANSWERED}"), "", "line 11: found an end of call 0, expected one that runs"),
        (
            good.replace("\"query\":10,\"outcome\"", "\"query\":11,\"outcome\""),
            "",
            "line 9: found a second answer to query 11, expected one",
        ),
        (good.clone(), "--group 3", "found no group 3, expected one from 4 to 4"),
        (
            good.lines().take(4).collect::<Vec<_>>().join("\n"),
            "",
            "found no coding group: nothing that was encoded was sent",
        ),
        (
            good.replace("[[10],[11]]", "[[],[99]]"),
            "",
            "found no arrival of a query of group 4, expected one",
        ),
        (
            good.clone(),
            "--size 300x200 --title x",
            "found 5 lanes, expected at most 3 in an image of 300x200",
        ),
    ] {
        let refused = timeline(arguments, journal.clone());
        assert!(refused.code == 1 && refused.stderr.contains(message), "{message}: {}", refused.stderr);
        assert!(refused.stdout.is_empty(), "{message}");
    }
}

#[test]
fn extremes_are_drawn_or_refused_but_never_break_it() {
    let good = group(ANSWERED);
    let at_once = good.lines().filter_map(|line| Some(format!("{{\"t_ns\":7,{}", line.split_once(',')?.1)));
    let at_once: Vec<String> = at_once.collect();
    let slots = format!("[{}]", (0..2000).map(|query| format!("[{query}]")).collect::<Vec<_>>().join(","));
    for journal in [
        good.replace("95000000", &u64::MAX.to_string()),
        good.replace("\"instance\":7", "\"instance\":18446744073709551615"),
        good.replace("45000000", "30000000").replace("35000000", "30000000"),
        good.replace("[[10],[11]]", &slots),
        at_once.join("\n"),
    ] {
        for arguments in ["--format svg", "--format png --size 1500x1500"] {
            let drawn = timeline(arguments, journal.clone());
            assert!(!drawn.output().is_empty());
        }
    }
}
