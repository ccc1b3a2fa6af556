//! Values of options that are refused, and reports on standard output.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use clap::Command;
use parm_cli::options::Common;
use parm_cli::{Io, tools};

fn message(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let tool = tools::all().into_iter().find(|tool: &Command| tool.get_name() == words[0]).unwrap();
    tool.try_get_matches_from(words).unwrap_err().to_string()
}

#[test]
fn a_value_that_is_refused_is_named_with_what_was_expected() {
    for (line, expected) in [
        (
            "parm-data slice 5 x.npy",
            "'5' for '<START:STOP[:STEP]>': expected START:STOP or START:STOP:STEP, as 100:200, -100: or ::10",
        ),
        ("parm-data slice 1:2:0 x.npy", "expected a STEP that is not 0"),
        ("parm-data slice 5:x x.npy", "'x' is no row number"),
        ("parm-data slice 5:3 x.npy", "expected START not after STOP"),
        ("parm-decode --erase p=2 x.npy", "expected one, each or p=P with P from 0 to 1"),
        ("parm-decode --corrupt noise=-1 x.npy", "expected flip, stale or noise=SIGMA with SIGMA from 0"),
        ("parm-train base --lr 0", "expected a number above 0"),
        ("parm-train base --lr inf", "expected a number"),
        ("parm-train base --weight-decay=-1", "expected 0 or more"),
        ("parm-train base --augment shift", "expected none, flip, or shift=N with a number of pixels"),
        ("parm-train base --validation 1.5", "expected whole rows, or a fraction from 0 to below 1"),
        ("parm-score -f 2 x.npy", "expected a number from 0 to 1"),
        ("parm-compare --loss-rate x", "expected a number from 0 to 1"),
        ("parm-plot curves --size 1x1", "expected WIDTHxHEIGHT from 300x200 to 3000x3000"),
        ("parm-load =http://x", "found no name before '=', expected NAME=URL"),
        ("parm-load http://x --shape a", "found 'a', expected a number from 0"),
        ("parm-load http://x --rate 0", "expected 0.001 to 1000000"),
        ("parm-infer --header x", "expected NAME: VALUE"),
    ] {
        let message = message(line);
        assert!(message.contains(expected), "{line}: {message}");
    }
}

/// Bytes that are kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_report_is_all_of_standard_output() {
    let kept = Kept::default();
    let mut io = Io::new("parm-test", io::empty(), kept.clone(), io::sink());
    io.print("a table\n").unwrap();
    assert_eq!(*kept.0.lock().unwrap(), b"a table\n");
    assert_eq!(io.print("another").unwrap_err().to_string(), "standard output is closed");
}

#[test]
fn the_result_of_long_work_is_told_on_a_terminal_or_on_demand() {
    for (verbose, quiet, terminal, told) in [
        (false, false, true, true),
        (false, true, true, false),
        (false, false, false, false),
        (true, false, false, true),
    ] {
        let kept = Kept::default();
        let mut io = Io::new("parm-test", io::empty(), io::sink(), kept.clone());
        io.terminals.stderr = terminal;
        Common { verbose, quiet, ..Common::default() }.report(&mut io, "trained");
        let expected: &[u8] = if told { b"parm-test: trained\n" } else { b"" };
        assert_eq!(*kept.0.lock().unwrap(), expected, "{verbose} {quiet} {terminal}");
    }
}
