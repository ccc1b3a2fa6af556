//! `parm-load`: load on a model server, and what it meets.

use std::io::BufReader;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, ValueEnum};
use parm::npy::Window;

use crate::input::{Input, Source};
use crate::io::Io;
use crate::options::{Common, ReadOptions, SchemaOption};
use crate::output::Target;
use crate::value::{ValueError, duration, expected, header, milliseconds, rate, seconds};

/// Put load on model servers and measure latencies
///
/// Sends requests to a server of the Open Inference Protocol (KServe v2) at times that are fixed
/// beforehand, even if earlier requests are not answered (open loop). Prints the median, the mean and the
/// tail of the latencies, counted from these times (no coordinated omission).
///
/// Several servers get the same requests at the same times, one server after the other, and are compared
/// with the first one.
///
/// Ctrl-C ends the measurement and prints the results so far.
#[derive(Parser, Clone, Debug)]
#[command(name = Load::NAME, version, max_term_width = 100)]
// What arrives here are requests, which may have several rows.
#[command(
    mut_arg("rate", |rate| rate.required_unless_present("find").help(
        "Requests a second, on average; several rates (--rates) are measured one after the other"
    )),
    mut_arg("queries", |queries| queries.help("The number of requests at each rate")),
    mut_arg("warm_up", |warm_up| warm_up.help("How long to send requests before those that count, at each rate"))
)]
pub struct Load {
    /// The servers: http://HOST:PORT, https://…, grpc://… or grpcs://…, each with an optional name for the table
    #[arg(value_name = "[NAME=]URL", required = true)]
    pub targets: Vec<TargetOption>,

    /// The model's name
    #[arg(short, long, value_name = "NAME")]
    pub model: String,

    /// The model's version; by default the server chooses
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub model_version: String,

    #[command(flatten)]
    pub schedule: ScheduleOptions,

    /// How long to send requests at each rate [default: 10, or the whole trace]
    // Its place in the help is after --queries.
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = seconds,
        conflicts_with = "queries",
        display_order = 3,
        help_heading = "Load"
    )]
    pub seconds: Option<f64>,

    /// The timeout of an answer, in ms
    #[arg(long, value_name = "MS", default_value = "10000", value_parser = milliseconds, help_heading = "Load")]
    pub timeout: f64,

    /// The most open requests; further requests fail
    ///
    /// Over HTTP each has a connection, and needs an open file.
    #[arg(
        long,
        value_name = "N",
        default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Load"
    )]
    pub in_flight: u32,

    /// The number of measurements, each with other arrivals [default: 1, with --find 3]
    ///
    /// Of several, the table has means ± half of their 95 % confidence intervals. Each trial has a seed that is one higher, and begins with the next server. With --find most trials at the two
    /// rates that it ends with decide.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1000),
        help_heading = "Load"
    )]
    pub trials: Option<u32>,

    /// The seed of arrivals and of random rows
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Load")]
    pub seed: u64,

    /// The rows to send, in turn; by default random ones
    ///
    /// They are read completely; they must have the type and the row shape of the model's only input.
    #[arg(long, value_name = "QUERIES.npy", help_heading = "Queries")]
    pub data: Option<Input>,

    /// The classes of these rows [N], integers: the accuracy of all answers and of rebuilt ones is printed
    #[arg(long, value_name = "LABELS.npy", requires = "data", help_heading = "Queries")]
    pub labels: Option<Input>,

    /// The output whose largest element is the predicted class, if there are several
    #[arg(long, value_name = "NAME", requires = "labels", help_heading = "Queries")]
    pub label_output: Option<String>,

    /// Rows of one request
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Queries"
    )]
    pub rows: u32,

    /// The shape of a row of an input whose shape the server leaves open
    ///
    /// Without a name it applies to all inputs without a shape of their own.
    #[arg(long, value_name = "[INPUT:]D,…", help_heading = "Queries")]
    pub shape: Vec<ShapeOption>,

    /// The encoding of tensors
    #[arg(long, value_name = "ENCODING", default_value = "auto", help_heading = "Connection")]
    pub encoding: EncodingOption,

    /// A header for each request; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, help_heading = "Connection")]
    pub header: Vec<(String, String)>,

    /// The certificates to trust; by default those of the public authorities
    #[arg(long, value_name = "FILE.pem", help_heading = "Connection")]
    pub ca: Option<PathBuf>,

    /// What each measurement must fulfil, as 'p99<40ms,failed=0,reconstructed<1%'; if not, the exit code is 4
    ///
    /// Ends at the first measurement that does not, as soon as that is certain.
    #[arg(long, value_name = "CONDITION,…", help_heading = "Verdict")]
    pub expect: Option<String>,

    /// Search the highest rate at which these conditions hold, for each server, beginning at --rate [default: 10]
    ///
    /// Doubles the rate while they hold, then bisects until the rates that hold and do not are within 2 %. Each trial
    /// has the time of --seconds or --queries, and ends as soon as a condition is lost.
    #[arg(long, value_name = "CONDITION,…", conflicts_with_all = ["expect", "ramp"], help_heading = "Verdict")]
    pub find: Option<String>,

    /// The objective of latencies, as 50ms: answers within it are the goodput
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Verdict")]
    pub slo: Option<f64>,

    /// Commit faults during the load, and report what each costs: see DRILLS
    #[arg(long, value_name = "DRILL.json", conflicts_with = "find", help_heading = "Verdict")]
    pub drill: Option<PathBuf>,

    /// Write a line of JSON for each request that counts, see parm-formats(5)
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Results")]
    pub records: Option<Target>,

    /// Write the latencies as a log of HdrHistogram (V2), with an interval for each target, rate and trial
    #[arg(long, value_name = "FILE.hlog", help_heading = "Results")]
    pub histogram: Option<Target>,

    /// Report slices of time of this length, too, as 10s
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Results")]
    pub slices: Option<f64>,

    /// Print JSON instead of a table
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    #[command(flatten, next_help_heading = "Results")]
    pub schema: SchemaOption,

    #[command(flatten)]
    pub read: ReadOptions,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Load, "parm-load");

/// A server, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOption {
    /// Its name, if it is given one.
    pub name: Option<String>,
    /// Where it is.
    pub url: String,
}

impl std::str::FromStr for TargetOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some(("", _)) => {
                Err(ValueError::Part { found: "no name before '='".to_owned(), expected: "NAME=URL" })
            }
            // URLs may have that sign, too.
            Some((name, url)) if !name.contains("://") => {
                Ok(Self { name: Some(name.to_owned()), url: url.to_owned() })
            }
            _ => Ok(Self { name: None, url: text.to_owned() }),
        }
    }
}

/// When queries arrive.
#[derive(Args, Clone, Debug)]
pub struct ScheduleOptions {
    /// Queries a second, on average; several rates (--rates) are simulated one after the other
    #[arg(
        long,
        visible_alias = "rates",
        value_name = "RATE,…",
        value_delimiter = ',',
        required_unless_present_any = ["trace", "ramp"],
        value_parser = rate,
        help_heading = "Load"
    )]
    pub rate: Vec<f64>,

    /// The number of queries at each rate, for each seed [default: 100000, or the whole trace]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000),
        help_heading = "Load"
    )]
    pub queries: Option<u64>,

    /// How queries arrive: poisson, constant, gamma:CV, on-off:ON:OFF, or a sum of several such clients
    ///
    /// Poisson arrivals are those of many independent clients. The intervals of gamma:CV have this coefficient of
    /// variation, from 0.01 to 20: above 1 there are bursts, below 1 they are more regular than with poisson.
    /// on-off:200ms:1s is a client that sends (Poisson arrivals) for 200 ms on average, and is silent for a second on
    /// average. Several clients are joined by +, each with a weight if its share of the rate differs:
    /// 2*poisson+on-off:200ms:1s. The rate is always that of all of them, on average.
    #[arg(long, value_name = "HOW", default_value = "poisson", help_heading = "Load")]
    pub arrivals: String,

    /// Let the rate go linearly from one to the other over the run, instead of a constant rate
    ///
    /// The first one is that of the warm-up, too. With --queries the run takes as long as so many take at the mean
    /// rate.
    #[arg(long, value_name = "FROM:TO", conflicts_with_all = ["rate", "trace"], help_heading = "Load")]
    pub ramp: Option<RampOption>,

    /// Replay the arrivals of a trace, scaled to the rates if there are any
    ///
    /// The trace is an npy file of times in seconds, the records of one run of parm-load or parm-sim, or a
    /// journal of parm-serve or parm-sim.
    #[arg(long, value_name = "TIMES.npy|RECORDS.jsonl", conflicts_with = "arrivals", help_heading = "Load")]
    pub trace: Option<Input>,

    /// How long to send queries before those that count, at each rate
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, help_heading = "Load")]
    pub warm_up: f64,
}

impl ScheduleOptions {
    /// Reads the trace, if there is one, with `read`.
    ///
    /// # Errors
    /// A file that cannot be opened, and those of `read`, after its name.
    pub fn trace<T, E>(
        &self,
        io: &mut Io,
        read: impl FnOnce(BufReader<Source>) -> Result<T, E>,
    ) -> anyhow::Result<Option<T>>
    where
        Result<T, E>: Context<T, E>,
    {
        let Some(input) = &self.trace else { return Ok(None) };
        let bytes = BufReader::new(input.bytes(io, Window::Normal)?);
        read(bytes).with_context(|| input.to_string()).map(Some)
    }
}

/// Rates at the start and at the end of a run, in queries a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RampOption {
    /// The first one.
    pub from: f64,
    /// The last one.
    pub to: f64,
}

impl std::str::FromStr for RampOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (from, to) = text.split_once(':').ok_or_else(|| expected("FROM:TO"))?;
        Ok(Self { from: rate(from)?, to: rate(to)? })
    }
}

/// The encoding of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncodingOption {
    /// As the URL and the server permit
    Auto,
    /// JSON over HTTP
    Json,
    /// JSON and binary tensors over HTTP
    Binary,
    /// gRPC
    Grpc,
}

impl EncodingOption {
    /// The same encoding among a library's, which are in the order of these.
    pub fn among<T>(self, [auto, json, binary, grpc]: [T; 4]) -> T {
        match self {
            Self::Auto => auto,
            Self::Json => json,
            Self::Binary => binary,
            Self::Grpc => grpc,
        }
    }
}

/// The shape of a row, of one input or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeOption {
    /// The input.
    pub input: Option<String>,
    /// The shape of one row.
    pub shape: Vec<u64>,
}

impl std::str::FromStr for ShapeOption {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Names may have colons.
        let (input, shape) = match text.rsplit_once(':') {
            Some((input, shape)) => (Some(input.to_owned()), shape),
            None => (None, text),
        };
        let axis = |axis: &str| {
            axis.trim()
                .parse()
                .map_err(|_| ValueError::Part { found: format!("'{axis}'"), expected: "a number from 0" })
        };
        Ok(Self { input, shape: shape.split(',').map(axis).collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Load, String> {
        let line = "parm-load http://localhost:8000 -m m ".to_owned() + line;
        Load::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_shapes_and_headers_are_read() {
        let load = parse("--rates 100,2.5 --shape 3,4 --shape a:b:7 --header X-API-Key:k").unwrap();
        assert_eq!(load.schedule.rate, [100.0, 2.5]);
        assert_eq!(load.shape[0], ShapeOption { input: None, shape: vec![3, 4] });
        assert_eq!(load.shape[1], ShapeOption { input: Some("a:b".to_owned()), shape: vec![7] });
        assert_eq!(load.header, [("x-api-key".to_owned(), "k".to_owned())]);
        assert_eq!(parse("--find p99<40ms").unwrap().find.as_deref(), Some("p99<40ms"));
        let schedule = load.schedule;
        assert_eq!((schedule.queries, load.seconds, &*schedule.arrivals), (None, None, "poisson"));
    }

    #[test]
    fn ramps_are_read() {
        let ramp = parse("--ramp 30:480.5 --arrivals constant").unwrap().schedule.ramp;
        assert_eq!(ramp, Some(RampOption { from: 30.0, to: 480.5 }));
    }

    #[test]
    fn targets_have_names_if_they_are_given_some() {
        let load =
            Load::try_parse_from(["parm-load", "a=http://b", "grpc://c?d=e", "-m", "m", "--rate", "1"]);
        let target = |name: Option<&str>, url: &str| TargetOption {
            name: name.map(str::to_owned),
            url: url.to_owned(),
        };
        assert_eq!(load.unwrap().targets, [target(Some("a"), "http://b"), target(None, "grpc://c?d=e")]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, expected) in [
            ("", "--rate"),
            ("--rate 0", "expected 0.001 to 1000000"),
            ("--rate NaN", "expected 0.001"),
            ("--rate 1 --seconds=-1", "expected 0 to"),
            ("--rate 1 --seconds inf", "expected 0 to"),
            ("--rate 1 --timeout 0", "expected 1 to"),
            ("--rate 1 --queries 5 --seconds 5", "cannot be used with"),
            ("--rate 1 --shape x:3,y", "found 'y', expected a number"),
            ("--rate 1 --header key", "expected NAME: VALUE"),
            ("--rate 1 =http://x", "found no name before '='"),
            ("--rate 1 --trials 0", "not in 1..=1000"),
            ("--rate 1 --labels y.npy", "--data"),
            ("--rate 1 --label-output y", "--labels"),
            ("--rate 1 --rows 0", "not in 1..=1000000"),
            ("--find p99<1ms --expect p99<1ms", "cannot be used with"),
            ("--find p99<1ms --drill d.json", "cannot be used with"),
            ("--find p99<1ms --ramp 1:2", "cannot be used with"),
            ("--rate 1 --slo 5", "expected a time as 500us, 40ms or 10s"),
            ("--rate 1 --slo 0s", "expected a time as 500us, 40ms or 10s"),
            ("--trace t.npy --arrivals constant", "cannot be used with"),
            ("--trace t.npy --ramp 1:2", "cannot be used with"),
            ("--rate 1 --ramp 1:2", "cannot be used with"),
            ("--ramp 1", "expected FROM:TO"),
            ("--ramp 0:5", "expected 0.001 to 1000000"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
