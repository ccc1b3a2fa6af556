//! Latencies in the log format of HdrHistogram.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use crate::{Row, Trial};

/// Writes the latencies of each trial, in ns, as an interval of an HdrHistogram log. Its tag is the target
/// and the rate, as `coded@100`, or the rate alone. `began` is the zero of the trials' begins. Intervals are
/// in order of time.
///
/// # Errors
/// The errors of the writer.
pub fn write_histograms(rows: &[Row<Trial>], began: SystemTime, to: &mut impl Write) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Latencies in ns; the greatest of each interval in ms]")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(1e6)
        .begin_log_with(to, &mut serializer)?;
    let mut intervals: Vec<(&Row<Trial>, &Trial)> =
        rows.iter().flat_map(|row| row.trials.iter().map(move |trial| (row, trial))).collect();
    intervals.sort_by_key(|(_, trial)| trial.begin);
    for (row, Trial { summary, begin, .. }) in intervals {
        let name = row.name.as_ref().map_or(String::new(), |name| format!("{name}@"));
        // Tags cannot contain these characters.
        let tag = format!("{name}{}", row.rate).replace([',', ' ', '\n', '\r'], "_");
        let took = Duration::from_nanos(summary.end_ns);
        log.write_histogram(&summary.latency, *begin, took, Tag::new(&tag)).map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::Summary;

    fn row(name: Option<&str>, begins: [u64; 2]) -> Row<Trial> {
        let trial = |begin| {
            let mut summary = Summary::new(2.5, 1);
            summary.latency.record(begin * 1_000_000).unwrap();
            summary.end_ns = 1_500_000_000;
            Trial::new(summary, Duration::from_secs(begin))
        };
        Row { name: name.map(str::to_owned), rate: 2.5, trials: begins.map(trial).into() }
    }

    #[test]
    fn a_log_is_read_back() {
        let mut log = Vec::new();
        let rows = [row(Some("a, b"), [1, 4]), row(None, [2, 3])];
        write_histograms(&rows, SystemTime::UNIX_EPOCH + Duration::from_secs(1000), &mut log).unwrap();
        let text = String::from_utf8(log).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");
        assert!(text.contains("\n#[StartTime: 1000.000 "), "{text}");
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let LogEntry::Interval(interval) = entry.unwrap() else { continue };
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            assert_eq!(interval.duration(), Duration::from_millis(1500));
            assert_eq!(interval.max().round(), interval.start_timestamp().as_secs_f64());
            let ms = (histogram.max() as f64 / 1e6).round() as u64;
            found.push((interval.tag().unwrap().as_str().to_owned(), histogram.len(), ms));
        }
        let tag = |tag: &str, ms| (tag.to_owned(), 1, ms);
        assert_eq!(found, [tag("a__b@2.5", 1), tag("2.5", 2), tag("2.5", 3), tag("a__b@2.5", 4)]);
    }
}
