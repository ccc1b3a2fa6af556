//! Words of messages.

/// A count and what is counted: `1 row`, `2 rows`, `0 queries`.
#[must_use]
pub fn counted(count: impl TryInto<u64>, one: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    match one.strip_suffix('y') {
        _ if count == 1 => format!("1 {one}"),
        Some(stem) => format!("{count} {stem}ies"),
        None if one.ends_with('s') => format!("{count} {one}es"),
        None => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn one_is_singular_and_all_other_counts_are_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "row")), ["0 rows", "1 row", "2 rows"]);
        assert_eq!([1_u64, 30].map(|count| counted(count, "query")), ["1 query", "30 queries"]);
        assert_eq!(counted(2_usize, "class"), "2 classes");
    }
}
