use super::*;

fn parse(json: &str) -> Behavior {
    serde_json::from_str(json).unwrap()
}

/// The fates of calls of one row, one each millisecond.
fn fates(behavior: &Behavior, seed: u64, calls: u64) -> Vec<Fate> {
    let mut synthetic = Synthetic::new(behavior.clone(), seed, 0).unwrap();
    (0..calls).map(|call| synthetic.call(call * 1_000_000, 1, Conditions::default())).collect()
}

fn mean_ms(fates: &[Fate]) -> f64 {
    let times = fates.iter().filter_map(|fate| match fate {
        Fate::Answer(time) => Some(*time as f64 / MS),
        _ => None,
    });
    times.clone().sum::<f64>() / times.count() as f64
}

#[test]
fn times_have_the_mean_of_their_distribution() {
    for (service, mean) in [
        (r#"{"distribution": "constant", "ms": 3}"#, 3.0),
        (r#"{"distribution": "normal", "mean_ms": 30, "deviation_ms": 1.5}"#, 30.0),
        (r#"{"distribution": "exponential", "mean_ms": 10}"#, 10.0),
        (r#"{"distribution": "log-normal", "median_ms": 10, "sigma": 0.5}"#, 10.0 * 0.125_f64.exp()),
        (r#"{"distribution": "measured", "times_ms": [1, 2, 6]}"#, 3.0),
        (r#"{"distribution": "quantiles", "quantiles": [[0, 1], [0.5, 3], [1, 7]]}"#, 3.5),
    ] {
        let behavior = parse(&format!(r#"{{"service": {service}}}"#));
        let found = mean_ms(&fates(&behavior, 1, 20_000));
        assert!((found / mean - 1.0).abs() < 0.02, "{service}: {found} ms");
    }
}

#[test]
fn the_same_seed_gives_the_same_fates_and_another_instance_others() {
    let behavior = parse(
        r#"{"service": {"distribution": "exponential", "mean_ms": 10}, "errors": 0.1, "hangs": 0.1,
            "slow": {"share": 0.1, "length_ms": 50, "factor": 3}}"#,
    );
    assert_eq!(fates(&behavior, 7, 1000), fates(&behavior, 7, 1000));
    assert_ne!(fates(&behavior, 7, 1000), fates(&behavior, 8, 1000));
    let mut other = Synthetic::new(behavior.clone(), 7, 1).unwrap();
    let other: Vec<Fate> =
        (0..1000).map(|call| other.call(call * 1_000_000, 1, Conditions::default())).collect();
    assert_ne!(fates(&behavior, 7, 1000), other);
}

#[test]
fn slow_periods_crashes_errors_and_hangs_have_their_shares() {
    let constant = r#""service": {"distribution": "constant", "ms": 10}"#;
    let slow = format!(r#"{{{constant}, "slow": {{"share": 0.1, "length_ms": 500, "factor": 5}}}}"#);
    let found = mean_ms(&fates(&parse(&slow), 3, 2_000_000));
    assert!((found - 14.0).abs() < 0.5, "{found} ms");
    let faults = format!(
        r#"{{{constant}, "errors": 0.02, "hangs": 0.01, "crash": {{"every_ms": 9000, "down_ms": 1000}}}}"#
    );
    let fates = fates(&parse(&faults), 3, 2_000_000);
    let share = |of: fn(&Fate) -> bool| fates.iter().filter(|fate| of(fate)).count() as f64 / 2e6;
    let (down, errors) =
        (share(|fate| *fate == Fate::Fail(0)), share(|fate| *fate == Fate::Fail(10_000_000)));
    assert!((down - 0.1).abs() < 0.02, "{down}");
    assert!((errors - 0.02 * 0.9).abs() < 0.002, "{errors}");
    assert!((share(|fate| *fate == Fate::Hang) - 0.009).abs() < 0.001);
}

#[test]
fn further_rows_take_longer_and_a_crashed_instance_is_not_up() {
    let batched = parse(r#"{"service": {"distribution": "constant", "ms": 2}, "per_row_ms": 0.5}"#);
    let mut synthetic = Synthetic::new(batched, 0, 0).unwrap();
    assert_eq!(synthetic.call(0, 5, Conditions::default()), Fate::Answer(4_000_000));
    let mut down = Synthetic::new(parse(r#"{"crash": {"every_ms": 1, "down_ms": 1e9}}"#), 0, 0).unwrap();
    assert!(!down.is_up(1_000_000_000, Conditions::default()));
}

#[test]
fn late_answers_have_their_share_and_the_network_follows_the_conditions() {
    let late =
        parse(r#"{"service": {"distribution": "constant", "ms": 10}, "late": {"share": 0.05, "by_ms": 40}}"#);
    let fates = fates(&late, 3, 100_000);
    let late = fates.iter().filter(|fate| **fate == Fate::Answer(50_000_000)).count() as f64 / 1e5;
    assert!((late - 0.05).abs() < 0.005, "{late}");
    let far = r#"{"service": {"distribution": "constant", "ms": 10},
        "network": {"distribution": "constant", "ms": 2}}"#;
    let mut synthetic = Synthetic::new(parse(far), 0, 0).unwrap();
    assert_eq!(synthetic.call(0, 1, Conditions::default()), Fate::Answer(12_000_000));
    let around = Conditions { network: 4.0, slow: 2.0, down: false };
    assert_eq!(synthetic.call(0, 1, around), Fate::Answer(36_000_000));
    let around = Conditions { down: true, ..around };
    assert_eq!((synthetic.call(0, 1, around), synthetic.is_up(0, around)), (Fate::Fail(0), false));
}

#[test]
fn invalid_values_are_refused_by_name() {
    for (json, expected) in [
        (r#"{"service": {"distribution": "constant", "ms": -1}}"#, "found ms = -1"),
        (r#"{"service": {"distribution": "measured", "times_ms": []}}"#, "at least one time"),
        (r#"{"service": {"distribution": "quantiles", "quantiles": []}}"#, "share 0 first"),
        (r#"{"service": {"distribution": "quantiles", "quantiles": [[0, 1], [0.9, 2]]}}"#, "share 1 last"),
        (
            r#"{"service": {"distribution": "quantiles", "quantiles": [[0, -1], [1, 2]]}}"#,
            "finite number from 0",
        ),
        (r#"{"service": {"distribution": "quantiles", "quantiles": [[0, 3], [1, 2]]}}"#, "times that grow"),
        (
            r#"{"service": {"distribution": "quantiles", "quantiles": [[0, 1], [0, 2], [1, 2]]}}"#,
            "times that grow",
        ),
        (r#"{"service": {"distribution": "log-normal", "median_ms": 0, "sigma": 1}}"#, "median_ms = 0"),
        (r#"{"per_row_ms": -2}"#, "per_row_ms = -2"),
        (r#"{"errors": 1.5}"#, "errors = 1.5"),
        (r#"{"network": {"distribution": "normal", "mean_ms": 1, "deviation_ms": -1}}"#, "deviation_ms = -1"),
        (r#"{"late": {"share": -0.1, "by_ms": 1}}"#, "late = -0.1"),
        (r#"{"late": {"share": 0.1, "by_ms": -1}}"#, "by_ms = -1"),
        (r#"{"errors": 0.7, "hangs": 0.7}"#, "errors + hangs + late = 1.4"),
        (r#"{"slow": {"share": 1, "length_ms": 1, "factor": 2}}"#, "share = 1"),
        (r#"{"slow": {"share": 0.1, "length_ms": 0, "factor": 2}}"#, "length_ms = 0"),
        (r#"{"slow": {"share": 0.1, "length_ms": 1, "factor": 0.5}}"#, "factor = 0.5"),
        (r#"{"crash": {"every_ms": 0, "down_ms": 1}}"#, "every_ms = 0"),
        (r#"{"crash": {"every_ms": 1, "down_ms": 0}}"#, "down_ms = 0"),
    ] {
        let error = Synthetic::new(parse(json), 0, 0).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
    assert!(serde_json::from_str::<Behavior>(r#"{"slwo": null}"#).is_err());
}
