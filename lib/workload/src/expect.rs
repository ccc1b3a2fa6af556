//! Expectations of a measurement, such as `p99<40ms,failed=0`: whether they hold, and whether they still can.

use std::fmt;
use std::str::FromStr;

use crate::{Outcome, Record, Summary};

/// Conditions that a measurement must fulfil, all of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation(Vec<Condition>);

/// A quantity of a [`Summary`], compared with a bound.
#[derive(Clone, Debug, PartialEq)]
struct Condition {
    /// As it was written.
    name: String,
    quantity: Quantity,
    comparison: Comparison,
    /// In the unit of the quantity.
    bound: f64,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantity {
    /// The quantile of latencies at a share, in ms; the maximum at 1.
    Quantile(f64),
    /// The mean latency, in ms.
    Mean,
    /// The P99.9 minus the median, in ms.
    Gap,
    /// The P99 of the generator's delay, in ms.
    Lateness,
    /// A number of requests.
    Count(Requests),
    /// The same, as a share of all requests.
    Share(Requests),
    /// The same, a second.
    Rate(Requests),
    /// A share of the answered rows.
    Rows(Rows),
    /// The share of right rows.
    Accuracy,
    /// The share of right rows among reconstructions.
    DegradedAccuracy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requests {
    All,
    Sent,
    Answered,
    Failed,
    /// Answered within the objective.
    Good,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Reconstructed,
    Approximate,
    Default,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

/// An expectation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectError {
    /// A condition without a comparison.
    #[error("found '{0}', expected a quantity, one of < <= > >= =, and a bound")]
    Comparison(String),
    /// An unknown quantity.
    #[error(
        "found '{0}', expected pN (as p99.9), median, mean, max, gap, late, requests, sent, answered, failed, rate, \
         goodput, reconstructed, approximate, default, accuracy or A_d"
    )]
    Quantity(String),
    /// A bound that does not fit the quantity.
    #[error("found '{found}' as the bound of {quantity}, expected {expected}")]
    Bound {
        /// The bound.
        found: String,
        /// The quantity.
        quantity: String,
        /// What it can be compared with.
        expected: &'static str,
    },
}

impl FromStr for Expectation {
    type Err = ExpectError;

    /// Reads conditions that are separated by commas.
    fn from_str(text: &str) -> Result<Self, ExpectError> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Condition {
    type Err = ExpectError;

    fn from_str(text: &str) -> Result<Self, ExpectError> {
        let incomplete = || ExpectError::Comparison(text.trim().to_owned());
        let (name, rest) = text.split_at(text.find(['<', '>', '=']).ok_or_else(incomplete)?);
        let signs = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Below),
            (">", Comparison::Above),
            ("=", Comparison::Equal),
        ];
        let compared = signs.into_iter().find_map(|(sign, of)| Some((of, rest.strip_prefix(sign)?)));
        let (comparison, bound) = compared.ok_or_else(incomplete)?;
        let (name, bound) = (name.trim(), bound.trim());
        let quantity = Quantity::named(name).ok_or_else(|| ExpectError::Quantity(name.to_owned()))?;
        let (quantity, bound) = quantity.bound(bound).ok_or_else(|| ExpectError::Bound {
            found: bound.to_owned(),
            quantity: name.to_owned(),
            expected: quantity.bounds(),
        })?;
        Ok(Self { name: name.to_owned(), quantity, comparison, bound })
    }
}

impl Quantity {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "median" => Self::Quantile(0.5),
            "max" => Self::Quantile(1.0),
            "mean" => Self::Mean,
            "gap" => Self::Gap,
            "late" => Self::Lateness,
            "requests" => Self::Count(Requests::All),
            "sent" => Self::Count(Requests::Sent),
            "answered" => Self::Count(Requests::Answered),
            "failed" => Self::Count(Requests::Failed),
            "rate" => Self::Rate(Requests::Answered),
            "goodput" => Self::Rate(Requests::Good),
            "reconstructed" => Self::Rows(Rows::Reconstructed),
            "approximate" => Self::Rows(Rows::Approximate),
            "default" => Self::Rows(Rows::Default),
            "accuracy" => Self::Accuracy,
            "A_d" => Self::DegradedAccuracy,
            _ => {
                let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
                Self::Quantile((0.0..=100.0).contains(&percent).then_some(percent / 100.0)?)
            }
        })
    }

    /// The bound in the unit of the quantity, which a percentage may change from a number to a share.
    fn bound(self, text: &str) -> Option<(Self, f64)> {
        let digits = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().ok()?;
        Some(match (self, unit.trim()) {
            (Self::Quantile(_) | Self::Mean | Self::Gap | Self::Lateness, unit) => {
                let scale = match unit {
                    "us" | "µs" => 1e-3,
                    "ms" | "" => 1.0,
                    "s" => 1e3,
                    _ => return None,
                };
                (self, number * scale)
            }
            (Self::Count(requests) | Self::Rate(requests), "%") if number <= 100.0 => {
                (Self::Share(requests), number / 100.0)
            }
            (Self::Count(_), "") | (Self::Rate(_), "" | "/s") => (self, number),
            (Self::Rows(_) | Self::Accuracy | Self::DegradedAccuracy, "%") if number <= 100.0 => {
                (self, number / 100.0)
            }
            (Self::Rows(_) | Self::Accuracy | Self::DegradedAccuracy, "") if number <= 1.0 => (self, number),
            _ => return None,
        })
    }

    /// The bounds that it can be compared with.
    fn bounds(self) -> &'static str {
        match self {
            Self::Quantile(_) | Self::Mean | Self::Gap | Self::Lateness => "a time as 40ms, 500us or 1.5s",
            Self::Count(_) | Self::Share(_) => "a number, or a percentage of all requests as 0.1%",
            Self::Rate(_) => "a number of requests a second, or a percentage of all requests as 99%",
            Self::Rows(_) | Self::Accuracy | Self::DegradedAccuracy => {
                "a percentage as 1%, or a share from 0 to 1"
            }
        }
    }

    /// Its value, if there is one.
    fn of(self, summary: &Summary) -> Option<f64> {
        let count = |requests| match requests {
            // The measurement gave up what was open at its end, no server did.
            Requests::Failed => summary.failed() - summary.given_up(),
            Requests::All => summary.answered() + summary.failed() - summary.given_up(),
            Requests::Sent => summary.lateness.len(),
            Requests::Answered => summary.answered(),
            Requests::Good => summary.good,
        } as f64;
        match self {
            Self::Quantile(share) => summary.within_ms(share),
            Self::Mean => summary.mean_ms(),
            Self::Gap => summary.gap_ms(),
            Self::Lateness => summary.late_ms(0.99),
            Self::Count(requests) => Some(count(requests)),
            Self::Share(requests) => {
                Some(count(requests) / count(Requests::All)).filter(|share| share.is_finite())
            }
            Self::Rate(requests) => summary.per_second(count(requests)),
            Self::Rows(Rows::Reconstructed) => summary.share(summary.reconstructed),
            Self::Rows(Rows::Approximate) => summary.share(summary.approximate),
            Self::Rows(Rows::Default) => summary.share(summary.default),
            Self::Accuracy => summary.accuracy(),
            Self::DegradedAccuracy => summary.degraded_accuracy(),
        }
    }

    /// A value with its unit.
    fn text(self, value: f64) -> String {
        let number = |value: f64| {
            let digits = format!("{value:.3}");
            digits.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match self {
            Self::Quantile(_) | Self::Mean | Self::Gap | Self::Lateness => format!("{} ms", number(value)),
            Self::Count(_) => number(value),
            Self::Rate(_) => format!("{}/s", number(value)),
            Self::Share(_) | Self::Rows(_) | Self::Accuracy | Self::DegradedAccuracy => {
                format!("{} %", number(value * 100.0))
            }
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Below => "below ",
            Self::AtMost => "at most ",
            Self::Above => "above ",
            Self::AtLeast => "at least ",
            Self::Equal => "",
        })
    }
}

impl Condition {
    fn holds(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Below => value < self.bound,
            Comparison::AtMost => value <= self.bound,
            Comparison::Above => value > self.bound,
            Comparison::AtLeast => value >= self.bound,
            Comparison::Equal => value == self.bound,
        }
    }

    /// True if values from this one up do not fulfil it.
    fn is_exceeded(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Below => value >= self.bound,
            Comparison::AtMost | Comparison::Equal => value > self.bound,
            Comparison::Above | Comparison::AtLeast => false,
        }
    }

    /// Why it does not hold, as `p99 is 52.1 ms, expected below 40 ms`.
    fn reason(&self, summary: &Summary) -> Option<String> {
        let expected = format!("expected {}{}", self.comparison, self.quantity.text(self.bound));
        match self.quantity.of(summary) {
            Some(value) if self.holds(value) => None,
            Some(value) => Some(format!("{} is {}, {expected}", self.name, self.quantity.text(value))),
            None => Some(format!("{} is unknown, {expected}", self.name)),
        }
    }
}

impl Expectation {
    /// True if it needs an objective of latencies, as goodput does.
    #[must_use]
    pub fn needs_objective(&self) -> bool {
        let good = |condition: &Condition| {
            matches!(condition.quantity, Quantity::Rate(Requests::Good) | Quantity::Share(Requests::Good))
        };
        self.0.iter().any(good)
    }
}

/// An expectation during a measurement.
#[derive(Clone, Debug)]
pub struct Watch<'a> {
    /// The conditions, each with what was seen so far: see [`Self::add`].
    conditions: Vec<(&'a Condition, f64)>,
    /// The number of requests that the measurement will have.
    planned: u64,
    rows: usize,
}

impl<'a> Watch<'a> {
    /// Watches a measurement of so many requests, each of so many rows.
    #[must_use]
    pub fn new(expectation: &'a Expectation, planned: u64, rows: usize) -> Self {
        Self { conditions: expectation.0.iter().map(|condition| (condition, 0.0)).collect(), planned, rows }
    }

    /// Adds the record of a request. True if a condition can no longer hold at the planned end, whatever the
    /// requests do that have not ended.
    pub fn add(&mut self, record: &Record) -> bool {
        let latency = (record.outcome == Outcome::Answered)
            .then(|| record.ended_ns.saturating_sub(record.intended_ns) as f64 / 1e6);
        for (condition, seen) in &mut self.conditions {
            *seen += match condition.quantity {
                // Answers that are too slow.
                Quantity::Quantile(_) => {
                    f64::from(latency.is_some_and(|latency| condition.is_exceeded(latency)))
                }
                Quantity::Mean => latency.unwrap_or(0.0),
                Quantity::Count(Requests::Failed) | Quantity::Share(Requests::Failed) => {
                    f64::from(!matches!(record.outcome, Outcome::Answered | Outcome::GivenUp))
                }
                Quantity::Rows(Rows::Reconstructed) => record.reconstructed as f64,
                Quantity::Rows(Rows::Approximate) => record.approximate as f64,
                Quantity::Rows(Rows::Default) => record.default as f64,
                _ => 0.0,
            };
        }
        self.conditions.iter().any(|(condition, seen)| self.is_lost(condition, *seen))
    }

    fn is_lost(&self, condition: &Condition, seen: f64) -> bool {
        let planned = self.planned as f64;
        match condition.quantity {
            Quantity::Quantile(share) => planned - seen < (share * planned).ceil().max(1.0),
            Quantity::Mean | Quantity::Share(Requests::Failed) => condition.is_exceeded(seen / planned),
            Quantity::Count(Requests::Failed) => condition.is_exceeded(seen),
            Quantity::Rows(_) => condition.is_exceeded(seen / (planned * self.rows as f64)),
            _ => false,
        }
    }

    /// Why the expectation does not hold, a line for each condition. If the measurement ended before it had all
    /// planned requests, only conditions that are lost count.
    #[must_use]
    pub fn reasons(&self, summary: &Summary) -> Vec<String> {
        let complete = summary.answered() + summary.failed() - summary.given_up() >= self.planned;
        let counts = |(condition, seen): &&(&Condition, f64)| complete || self.is_lost(condition, *seen);
        self.conditions.iter().filter(counts).filter_map(|(condition, _)| condition.reason(summary)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(text: &str) -> Expectation {
        text.parse().unwrap()
    }

    fn answered(query: u64, ms: f64) -> Record {
        let mut record = Record::new(100.0, query, 0, Outcome::Answered);
        (record.sent_ns, record.ended_ns) = (Some(10_000), (ms * 1e6) as u64);
        record
    }

    fn failed(query: u64, outcome: Outcome) -> Record {
        Record::new(100.0, query, 0, outcome)
    }

    /// Adds records until the expectation is lost. Returns the number of records and the reasons.
    fn watched(text: &str, planned: u64, records: &[Record]) -> (usize, Vec<String>) {
        let expectation = expectation(text);
        let mut watch = Watch::new(&expectation, planned, 1);
        let mut summary = Summary::new(100.0, 1).with_slo(Some(20_000_000));
        for (count, record) in (1..).zip(records) {
            summary.add(record);
            if watch.add(record) {
                return (count, watch.reasons(&summary));
            }
        }
        (records.len(), watch.reasons(&summary))
    }

    /// The reasons at the end of all records.
    fn judged(text: &str, planned: u64, records: &[Record]) -> Vec<String> {
        let expectation = expectation(text);
        let mut watch = Watch::new(&expectation, planned, 1);
        let mut summary = Summary::new(100.0, 1).with_slo(Some(20_000_000));
        for record in records {
            summary.add(record);
            watch.add(record);
        }
        watch.reasons(&summary)
    }

    #[test]
    fn each_quantity_is_compared_in_its_unit() {
        // 95 answers of 1 to 95 ms, two of them rebuilt; four failures, and one that was given up.
        let mut records: Vec<Record> = (0..95).map(|query| answered(query, query as f64 + 1.0)).collect();
        (records[3].reconstructed, records[7].reconstructed) = (1, 1);
        for record in &mut records {
            record.correct = Some(usize::from(record.query % 2 == 0));
        }
        records[7].correct_reconstructed = 1;
        records.extend((95..99).map(|query| failed(query, Outcome::Timeout)));
        records.push(failed(99, Outcome::GivenUp));
        for (holds, fails, reason) in [
            ("p50<=48.1ms", "p50<48ms", "p50 is 48.005 ms, expected below 48 ms"),
            ("median<0.05s", "median<48000us", "median is 48.005 ms, expected below 48 ms"),
            ("p99.9>90", "p99.9>0.2s", "p99.9 is 95.027 ms, expected above 200 ms"),
            ("max<96ms", "max<=95ms", "max is 95.027 ms, expected at most 95 ms"),
            ("mean>47ms", "mean>49ms", "mean is 47.999 ms, expected above 49 ms"),
            ("gap<50ms", "gap<40ms", "gap is 47.022 ms, expected below 40 ms"),
            ("late<1ms", "late<=9us", "late is 0.01 ms, expected at most 0.009 ms"),
            ("requests=99", "requests=100", "requests is 99, expected 100"),
            ("sent=95", "sent=99", "sent is 95, expected 99"),
            ("answered>=95", "answered>=96", "answered is 95, expected at least 96"),
            ("failed<=4", "failed=0", "failed is 4, expected 0"),
            ("failed<5%", "failed<4%", "failed is 4.04 %, expected below 4 %"),
            ("rate>=1000", "rate>=1001/s", "rate is 1000/s, expected at least 1001/s"),
            ("goodput>=210/s", "goodput>=211/s", "goodput is 210.526/s, expected at least 211/s"),
            ("goodput>20%", "goodput>21%", "goodput is 20.202 %, expected above 21 %"),
            ("reconstructed>=2%", "reconstructed<0.01", "reconstructed is 2.105 %, expected below 1 %"),
            ("approximate=0", "approximate>0", "approximate is 0 %, expected above 0 %"),
            ("default=0%", "default>1%", "default is 0 %, expected above 1 %"),
            ("accuracy>0.5", "accuracy>=51%", "accuracy is 50.526 %, expected at least 51 %"),
            ("A_d=50%", "A_d>0.5", "A_d is 50 %, expected above 50 %"),
        ] {
            assert_eq!(judged(holds, 99, &records), Vec::<String>::new(), "{holds}");
            let reasons = judged(fails, 99, &records);
            assert!(reasons.len() == 1 && reasons[0].starts_with(reason), "{fails}: {reasons:?}");
        }
        let both = judged("p50<1ms , failed = 0,mean<1s", 99, &records);
        assert_eq!(both, ["p50 is 48.005 ms, expected below 1 ms", "failed is 4, expected 0"]);
        let none = Summary::new(100.0, 1);
        let reasons = Watch::new(&expectation("p99<1s,failed<1%"), 0, 1).reasons(&none);
        assert_eq!(
            reasons,
            ["p99 is unknown, expected below 1000 ms", "failed is unknown, expected below 1 %"]
        );
    }

    #[test]
    fn it_is_lost_as_soon_as_the_rest_cannot_help() {
        let slow: Vec<Record> = (0..1000).map(|query| answered(query, 50.0)).collect();
        // Ten of a thousand may be slow.
        let p99 = "p99 is 50.004 ms, expected below 40 ms";
        assert_eq!(watched("p99<40ms", 1000, &slow), (11, vec![p99.to_owned()]));
        assert_eq!(watched("p99<=50ms", 1000, &slow).0, 1000);
        assert_eq!(watched("max<40ms", 1000, &slow).0, 1);
        // If the rest took no time, the mean would be 50 n / 1000.
        assert_eq!(watched("mean<=10ms", 1000, &slow).0, 201);
        let failures: Vec<Record> = (0..1000).map(|query| failed(query, Outcome::NotSent)).collect();
        assert_eq!(watched("failed=0", 1000, &failures), (1, vec!["failed is 1, expected 0".to_owned()]));
        assert_eq!(watched("failed<=2", 1000, &failures).0, 3);
        assert_eq!(watched("failed<1%", 1000, &failures).0, 10);
        let rebuilt: Vec<Record> =
            slow.iter().map(|record| Record { reconstructed: 1, ..record.clone() }).collect();
        assert_eq!(watched("reconstructed<=1%", 1000, &rebuilt).0, 11);
        // What is open at the end of an interrupted measurement did not fail; nothing else is known of it.
        let open = vec![failed(0, Outcome::GivenUp); 9];
        assert_eq!(watched("failed=0,p99<40ms,answered>5", 1000, &open), (9, vec![]));
    }

    #[test]
    fn a_lost_expectation_does_not_hold_at_the_end_and_any_other_may() {
        // Slow answers first, then failures or quick answers: the verdict of the whole run, and whether it was lost
        // before.
        for slow in 0..30 {
            for (text, rest) in [("p90<40ms", Outcome::Answered), ("p90<40ms", Outcome::Timeout)] {
                let mut records: Vec<Record> = (0..slow).map(|query| answered(query, 50.0)).collect();
                records.extend((slow..100).map(|query| match rest {
                    Outcome::Answered => answered(query, 1.0),
                    other => failed(query, other),
                }));
                let mut summary = Summary::new(100.0, 1);
                for record in &records {
                    summary.add(record);
                }
                let expectation = expectation(text);
                let mut watch = Watch::new(&expectation, 100, 1);
                let lost = records.iter().filter(|record| watch.add(record)).count() > 0;
                let holds = watch.reasons(&summary).is_empty();
                assert!(!(lost && holds), "{slow} slow, then {rest:?}");
                if rest == Outcome::Answered {
                    assert_eq!(lost, !holds, "{slow} slow");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_expected_is_refused() {
        for (text, expected) in [
            ("", "found '', expected a quantity, one of < <= > >= =, and a bound"),
            ("p99", "found 'p99', expected a quantity, one of"),
            ("p99<40ms,", "found '', expected a quantity"),
            ("p99!40ms", "found 'p99!40ms', expected a quantity, one of"),
            ("p101<40ms", "found 'p101', expected pN (as p99.9), median"),
            ("pNaN<40ms", "found 'pNaN', expected pN"),
            ("latency<40ms", "found 'latency', expected pN"),
            ("p99<40m", "found '40m' as the bound of p99, expected a time as 40ms"),
            ("p99==40ms", "found '=40ms' as the bound of p99, expected a time as 40ms"),
            ("p99<-1ms", "found '-1ms' as the bound of p99, expected a time"),
            ("failed=0ms", "found '0ms' as the bound of failed, expected a number, or a percentage"),
            ("failed<101%", "found '101%' as the bound of failed, expected a number, or a percentage"),
            ("rate>=5ms", "found '5ms' as the bound of rate, expected a number of requests a second"),
            ("reconstructed<2", "found '2' as the bound of reconstructed, expected a percentage as 1%"),
            ("accuracy>", "found '' as the bound of accuracy, expected a percentage"),
        ] {
            let error = text.parse::<Expectation>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(expectation("goodput>1").needs_objective() && !expectation("rate>1").needs_objective());
    }
}
