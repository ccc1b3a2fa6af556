//! Names of series.

/// Short names of inputs: the names of files without folder and extension, if these differ.
pub(crate) fn short(inputs: &[String]) -> Vec<String> {
    let short: Vec<String> = inputs.iter().map(|input| stem(input).to_owned()).collect();
    let mut different = short.clone();
    different.sort();
    different.dedup();
    if different.len() == short.len() { short } else { inputs.to_vec() }
}

fn stem(input: &str) -> &str {
    let name = input.rsplit('/').next().unwrap_or(input);
    let name = name.strip_suffix(".zst").unwrap_or(name);
    let stem = [".jsonl", ".json"].iter().find_map(|extension| name.strip_suffix(extension));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name)
}

/// Joins the parts of a name that exist.
pub(crate) fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The name with the share of requests that failed, if any did.
pub(crate) fn with_failures(name: String, failed: u64, requests: u64) -> String {
    if failed == 0 {
        return name;
    }
    let share = failed as f64 / requests.max(failed) as f64 * 100.0;
    let share = if share < 0.01 { "under 0.01".to_owned() } else { format!("{share:.2}") };
    format!("{name} ({share} % failed)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_apart() {
        let short =
            |names: &[&str]| super::short(&names.iter().map(|&name| name.into()).collect::<Vec<String>>());
        assert_eq!(short(&["a/b.jsonl", "c.json", "d.jsonl.zst", "e.f"]), ["b", "c", "d", "e.f"]);
        assert_eq!(short(&["a/r.jsonl", "b/r.jsonl"]), ["a/r.jsonl", "b/r.jsonl"]);
        assert_eq!(short(&["standard input", ".json"]), ["standard input", ".json"]);
    }

    #[test]
    fn failures_stand_in_names() {
        assert_eq!(with_failures("a".to_owned(), 0, 10), "a");
        assert_eq!(with_failures("a".to_owned(), 1, 8), "a (12.50 % failed)");
        assert_eq!(with_failures("a".to_owned(), 1, 1_000_000), "a (under 0.01 % failed)");
        assert_eq!(with_failures("a".to_owned(), 5, 0), "a (100.00 % failed)");
        assert_eq!(joined([None, Some("x".to_owned()), Some("y".to_owned())]), "x, y");
    }
}
